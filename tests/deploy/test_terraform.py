"""``deploy/terraform`` with a real OpenTofu; Azure's providers are stand-ins that have the schemas and do nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from podidentity.cli.entry import run
from podidentity.lab.programs import cache_folder

TERRAFORM = Path(__file__).parents[2] / "deploy" / "terraform"
MODULES = [*(path.name for path in sorted((TERRAFORM / "modules").iterdir())), "example"]
UAI = {
    "UAIName": "uaitest1",
    "UAIId": "/subscriptions/s/resourceGroups/rsg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/uaitest1",
    "UAIClientId": "a7e3f4da-9c3b-4c9f-96f5-0c4f5e2b8d51",
}
CLASS = {
    "KVName": "akv-dfitcfr-dev",
    "UAIClientId": UAI["UAIClientId"],
    "SecretName": "kvs-test01",
    "SecretVersion": "3f8c1d2e4a5b6c7d8e9f0a1b2c3d4e5f",
    "TenantId": "0c9d3a52-77e4-4b61-8f6d-2f1f0a6b7c11",
}


@dataclass(frozen=True)
class Tofu:
    """OpenTofu, and a copy of ``deploy/terraform`` it may write into."""

    program: str
    folder: Path
    environ: dict[str, str]

    def __call__(self, place: str, *words: str) -> str:
        """Run ``tofu`` in a folder below the copy; what it printed. AssertionError when it fails."""
        done = subprocess.run(
            [self.program, f"-chdir={self.folder / place}", *words],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def applied(self, module: str, values: dict[str, str]) -> str:
        """Apply a module that needs no provider; its ``output -json``."""
        self(f"modules/{module}", "init", "-input=false", "-no-color")
        given = [f"-var={name}={value}" for name, value in values.items()]
        self(f"modules/{module}", "apply", "-auto-approve", "-input=false", "-no-color", *given)
        return self(f"modules/{module}", "output", "-json", "-no-color")


@pytest.fixture(scope="module")
def tofu(tmp_path_factory: pytest.TempPathFactory) -> Tofu:
    """OpenTofu that finds providers in its own mirror only; skips where `make tofu` was not run."""
    place = cache_folder(os.environ).parent / "tofu"
    program = shutil.which("tofu", path=f"{place}{os.pathsep}{os.environ['PATH']}")
    if program is None or not (place / "mirror").is_dir():
        pytest.skip("tofu or the stand-ins for its providers are not on this machine; `make tofu` builds them")
    folder = tmp_path_factory.mktemp("terraform")
    shutil.copytree(TERRAFORM, folder, dirs_exist_ok=True)
    (folder / "tofurc").write_text(
        f'provider_installation {{\n  filesystem_mirror {{ path = "{place / "mirror"}" }}\n}}\n'
    )
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TF_CLI_CONFIG_FILE": str(folder / "tofurc"),
        "TF_IN_AUTOMATION": "1",
        "CHECKPOINT_DISABLE": "1",
    }
    return Tofu(program, folder, environ)


def test_fmt(tofu: Tofu) -> None:
    """Every file is as `tofu fmt` writes it."""
    tofu(".", "fmt", "-check", "-recursive", "-diff", "-no-color")


@pytest.mark.parametrize("module", MODULES)
def test_each_module(tofu: Tofu, module: str) -> None:
    """`tofu test` of each module: arguments that the schemas know, names, roles and texts as its test file says."""
    place = module if module == "example" else f"modules/{module}"
    tofu(place, "init", "-input=false", "-no-color")
    said = tofu(place, "test", "-no-color")
    assert re.search(r"Success! [1-9][0-9]* passed, 0 failed", said), said


def test_applied_outputs_are_read(tofu: Tofu, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """W11: what a real apply puts out is what `podidentity manifests` reads, and renders byte for byte the same."""
    outputs = tofu.applied("identity-manifests", UAI)
    (tmp_path / "outputs.json").write_text(outputs)
    assert (
        run(["podidentity", "manifests", "render", f"--terraform={tmp_path / 'outputs.json'}", f"--output={tmp_path}"])
        == 0
    )
    capsys.readouterr()
    values = {name: one["value"] for name, one in json.loads(outputs).items()}
    assert (tmp_path / "uaitest1.yaml").read_text() == values["podidentitymanifest"]
    assert (tmp_path / "uaitest1_Binding.yaml").read_text() == values["podidentitybindingmanifest"]


def test_class_and_pod_equal_ours(tofu: Tofu, capsys: pytest.CaptureFixture[str]) -> None:
    """The templates of class and pod and our own renderer say the same, to the byte."""
    manifest = json.loads(tofu.applied("secret-provider-class", CLASS))["secretproviderclassmanifest"]["value"]
    pod = json.loads(tofu.applied("demo-pod", {"UAIName": UAI["UAIName"], "KVName": CLASS["KVName"]}))["podmanifest"]
    sample = TERRAFORM / "sample-output.json"
    assert run(["podidentity", "manifests", "render", f"--terraform={sample}"]) == 0
    ours = capsys.readouterr().out.split("\n---\n")
    assert ours[2:] == [manifest.rstrip("\n"), pod["value"]]


def test_planned_roles_are_valid_resources(tofu: Tofu, capsys: pytest.CaptureFixture[str]) -> None:
    """What `roles plan --output=terraform` prints is formatted, and valid for the provider's schema."""
    place = tofu.folder / "planned"
    place.mkdir()
    sample = TERRAFORM / "sample-output.json"
    assert run(["podidentity", "roles", "plan", f"--terraform={sample}", "--walkthrough", "--output=terraform"]) == 0
    (place / "roles.tf").write_text(capsys.readouterr().out)
    shutil.copy(TERRAFORM / "modules" / "identity" / "versions.tf", place)
    tofu("planned", "fmt", "-check", "-diff")
    tofu("planned", "init", "-input=false", "-no-color")
    tofu("planned", "validate", "-no-color")


def test_a_misspelled_argument_is_found(tofu: Tofu) -> None:
    """The stand-ins' schemas are asked: without that the tests of the modules would prove little."""
    place = tofu.folder / "misspelled"
    place.mkdir()
    shutil.copy(TERRAFORM / "modules" / "identity" / "versions.tf", place)
    (place / "main.tf").write_text(
        'resource "azurerm_role_assignment" "x" {\n  scope        = "/"\n  principle_id = "x"\n}\n'
    )
    tofu("misspelled", "init", "-input=false", "-no-color")
    with pytest.raises(AssertionError, match='An argument named "principle_id" is not expected here'):
        tofu("misspelled", "validate", "-no-color")


def test_the_sample_is_what_the_example_puts_out() -> None:
    """The sample of `terraform output -json` has exactly the outputs of the example's root module."""
    declared = re.findall(r'^output "(\w+)"', (TERRAFORM / "example" / "outputs.tf").read_text(), re.MULTILINE)
    sample = json.loads((TERRAFORM / "sample-output.json").read_text())
    assert sorted(declared) == sorted(sample)
    hidden = [name for name, one in sample.items() if one["sensitive"]]
    text = (TERRAFORM / "example" / "outputs.tf").read_text()
    assert all(re.search(rf'output "{name}" {{[^}}]*sensitive = true', text) for name in hidden)


def test_yaml_templates_have_no_newline_at_their_end() -> None:
    """The walkthrough's two templates end without one; ours are byte for byte the same."""
    for path in (TERRAFORM / "modules" / "identity-manifests" / "yaml_template").iterdir():
        assert not path.read_text().endswith("\n")
        assert "${UAIName}" in yaml.safe_load(path.read_text())["metadata"]["name"]
