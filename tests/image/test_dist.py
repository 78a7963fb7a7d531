"""``make dist``: what a release is made of, installed as its users install it."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from tests.image.dockerfile import ROOT
from tests.real_server import kubernetes_programs

import podidentity

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def committed(*folders: str) -> set[str]:
    """The files of the last commit below the folders."""
    done = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", "HEAD", *folders], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines())


def sums(release: Path) -> Mapping[str, str]:
    """File name to the SHA-256 that SHA256SUMS gives."""
    return {name: digest for digest, name in map(str.split, (release / "SHA256SUMS").read_text().splitlines())}


@pytest.fixture(scope="module")
def installed(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment's programs: the wheel from pip, its hash required, the tested dependencies beside it."""
    folder = tmp_path_factory.mktemp("installed")
    (wheel,) = release.glob("*.whl")
    asked = folder / "requirements.txt"
    asked.write_text(f"podidentity=={podidentity.__version__} --hash=sha256:{sums(release)[wheel.name]}\n")
    environment = folder / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    offline = ("--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--require-hashes")
    pip = (sys.executable, "-m", "pip", f"--python={environment}", "install", *offline)
    subprocess.run([*pip, f"--find-links={release}", f"--requirement={asked}"], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return environment / "bin"


def run(*words: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run it with nothing of the caller's environment."""
    return subprocess.run(
        words, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_sums_are_the_files(release: Path) -> None:
    """Whoever downloads a release can check all of it."""
    listed = sums(release)
    assert set(listed) == {path.name for path in release.iterdir()} - {"SHA256SUMS"}
    assert {path.suffix for path in map(Path, listed)} == {".whl", ".gz", ".json"}
    for name, digest in listed.items():
        assert hashlib.sha256((release / name).read_bytes()).hexdigest() == digest


def test_the_wheel_has_the_package_and_what_deploy_has(release: Path) -> None:
    """Manifests, chart, CRDs and Terraform modules come along, and nothing that is not in the commit."""
    (wheel,) = release.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == {
        re.sub(r"^deploy/", "podidentity/_deploy/", name).removeprefix("src/") for name in committed("src", "deploy")
    }
    assert {"podidentity/_deploy/deployment-rbac.yaml", "podidentity/py.typed"} <= names


def test_the_sdist_makes_the_images_too(release: Path) -> None:
    """What the Dockerfile copies and runs is in the sdist; tests are not."""
    (sdist,) = release.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"Dockerfile", "tools/image/build-root", "requirements-image.lock", "requirements-build.lock", "LICENSE"}
    assert wanted | committed("src", "deploy") <= names
    assert not [name for name in names if name.startswith("tests/")]


def test_the_bill_of_materials(release: Path) -> None:
    """Valid CycloneDX, with the version and every hash of each package that a Linux machine gets, and no other."""
    text = (release / "podidentity.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = json.loads(text)
    assert (bom["metadata"]["component"]["name"], bom["metadata"]["component"]["version"]) == (
        "podidentity",
        podidentity.__version__,
    )
    blocks = re.split(r"\n(?=\S)", (ROOT / "requirements-image.lock").read_text())
    locked = {block.split()[0]: set(re.findall(r"sha256:(\w+)", block)) for block in blocks if "win32" not in block}
    assert {
        f"{one['name']}=={one['version']}": {
            found["content"] for where in one["externalReferences"] for found in where.get("hashes", [])
        }
        for one in bom["components"]
    } == locked


def test_the_installed_program(installed: Path, tmp_path: Path) -> None:
    """It is the wheel's, not the checkout's; the version, the lab's help and a shipped manifest come out."""
    program = installed / "podidentity"
    done = run(program, "version", "--json")
    assert json.loads(done.stdout)["version"] == podidentity.__version__
    done = run(installed / "python", "-c", "import podidentity; print(podidentity.__file__)", HOME=str(tmp_path))
    assert done.stdout.startswith(str(installed.parent))
    done = run(program, "lab", "--help", HOME=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "demo" in done.stdout
    done = run(program, "manifests", "install", HOME=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "kind: DaemonSet" in done.stdout


def test_kubectl_finds_the_installed_plugin(installed: Path, tmp_path: Path) -> None:
    """The real kubectl runs what pip put on PATH, and completes it."""
    kubectl = kubernetes_programs("kubectl").require("kubectl")
    environ = {"PATH": f"{installed}:/usr/bin:/bin", "HOME": str(tmp_path)}
    done = run(kubectl, "podidentity", "version", "--json", **environ)
    assert json.loads(done.stdout)["version"] == podidentity.__version__
    done = run(kubectl, "__complete", "podidentity", "expl", **environ)
    assert "explain" in done.stdout
