"""``podidentity manifests``: what is printed, what is written, and what is said to wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from podidentity.cli.entry import run
from podidentity.manifests.shipped import shipped

ID = "/subscriptions/s-1/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/uaitest1"
CLIENT = "ae95a0e4-1111-2222-3333-444444445f1d"
TENANT = "11111111-2222-3333-4444-555555555555"
ONE = ["--name=uaitest1", f"--resource-id={ID}", f"--client-id={CLIENT}"]
OUTPUTS = {
    "Name": "uaitest1",
    "Id": ID,
    "ClientId": CLIENT,
    "Secret": "https://akv-demo.vault.azure.net/secrets/kvs1/0123",
    "TenantId": TENANT,
}


def manifests(*words: str) -> int:
    """Run it; the exit code."""
    return run(["podidentity", "manifests", *words])


def terraform(folder: Path, **outputs: str) -> str:
    """A file as terraform prints it."""
    path = folder / "outputs.json"
    path.write_text(json.dumps({name: {"type": "string", "value": value} for name, value in outputs.items()}))
    return f"--terraform={path}"


def test_install_prints_a_shipped_file(capsys: pytest.CaptureFixture[str]) -> None:
    """The output goes to `kubectl apply -f -` as it is."""
    assert manifests("install", "--mode=kubenet") == 0
    assert capsys.readouterr() == (shipped("podidentityforkubenet.yaml").read_text(), "")
    assert manifests("install", "--with-exceptions", "--namespace=ids", "--no-secrets") == 0
    found = list(yaml.safe_load_all(capsys.readouterr().out))
    assert [one["metadata"]["name"] for one in found][-2:] == ["mic-exception", "aks-addon-exception"]


def test_policy(capsys: pytest.CaptureFixture[str]) -> None:
    """The policies are printed for the mic that is named, refusing when asked to."""
    assert manifests("policy", "--deny", "--mic=ids/mic") == 0
    out = capsys.readouterr().out
    assert "system:serviceaccount:ids:mic" in out
    assert "[Warn" not in out


def test_render_from_terraform(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The walkthrough's four files come from its outputs, under the names of its templates."""
    assert manifests("render", terraform(tmp_path, **OUTPUTS), f"--output={tmp_path / 'PodId'}") == 0
    names = ["uaitest1.yaml", "uaitest1_Binding.yaml", "uaitest1_SecretProviderClass.yaml", "uaitest1_Pod.yaml"]
    assert capsys.readouterr().out.split() == [str(tmp_path / "PodId" / name) for name in names]
    kinds = [yaml.safe_load((tmp_path / "PodId" / name).read_text())["kind"] for name in names]
    assert kinds == ["AzureIdentity", "AzureIdentityBinding", "SecretProviderClass", "Pod"]


def test_render_from_options(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a folder all documents are printed as one stream."""
    assert manifests("render", *ONE, "--vault=kv1", "--secret=s1", f"--tenant-id={TENANT}") == 0
    found = list(yaml.safe_load_all(capsys.readouterr().out))
    assert [one["kind"] for one in found] == ["AzureIdentity", "AzureIdentityBinding", "SecretProviderClass", "Pod"]
    assert found[0]["spec"] == {"type": 0, "resourceID": ID, "clientID": CLIENT}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["install", "--mode=helm"], 2, "'helm' is not one of 'standard', 'kubenet', 'managed', 'noazurejson'"),
        (["install", "--namespace=A"], 1, 'namespace "A": must be lower-case letters'),
        (["render"], 1, "give one of --terraform, --identities, or --name with --resource-id and --client-id"),
        (["render", *ONE, "--terraform=x"], 1, "give one of --terraform"),
        (["render", "--terraform=/none/there"], 1, "/none/there: No such file or directory"),
        (["render", *ONE[:2], "--client-id=x"], 1, 'client id "x": must be a UUID'),
        (["render", "--name=a", f"--client-id={CLIENT}"], 1, 'resource id "": must be /subscriptions/'),
        (["render", *ONE, "--vault=kv1", "--secret=s1"], 1, 'tenant id "": must be a UUID'),
        (["render", *ONE, "--vault=kv1", f"--tenant-id={TENANT}"], 1, 'secret name "": must be'),
        (["policy", "--mic=mic"], 1, 'ServiceAccount "mic": must be namespace/name'),
        (["remove"], 2, "No such command 'remove'"),
    ],
)
def test_wrong_input_is_one_line(words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong input ends in one line that says what to do, nothing on stdout, and the exit code of its kind."""
    assert manifests(*words) == code
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("podidentity manifests: ")
    assert said in error
    assert error.count("\n") == 1


def test_render_from_the_walkthroughs_sample(capsys: pytest.CaptureFixture[str]) -> None:
    """The sample of terraform's outputs that is shipped is enough for all four objects, and for v1 classes."""
    path = shipped("terraform/sample-output.json")
    assert manifests("render", f"--terraform={path}", "--class-version=v1") == 0
    found = list(yaml.safe_load_all(capsys.readouterr().out))
    assert [one["kind"] for one in found] == ["AzureIdentity", "AzureIdentityBinding", "SecretProviderClass", "Pod"]
    assert found[2]["apiVersion"] == "secrets-store.csi.x-k8s.io/v1"
    assert found[3]["metadata"]["labels"] == {"aadpodidbinding": found[1]["spec"]["selector"]}


def test_render_from_az(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`az identity list` names several: all are written, or the one that is chosen."""
    names = ("uaitest1", "b.c", "123")
    rows = [{"name": one, "id": ID.replace("uaitest1", one), "clientId": CLIENT} for one in names]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    path = f"--identities={tmp_path / 'list.json'}"
    assert manifests("render", path) == 0
    found = list(yaml.safe_load_all(capsys.readouterr().out))
    assert [one["metadata"]["name"] for one in found[::2]] == ["uaitest1", "b.c", "123"]
    assert manifests("render", path, "--name=b.c", "--vault=kv1", "--secret=s", f"--tenant-id={TENANT}") == 0
    assert len(list(yaml.safe_load_all(capsys.readouterr().out))) == 4
    assert manifests("render", path, "--name=none") == 1
    assert 'no identity "none" in it; there are uaitest1, b.c, 123' in capsys.readouterr().err


@pytest.mark.parametrize("name", ["UAI_Test", "a" * 56, "-a", "a b", "ä"])
def test_a_name_that_cannot_be_is_refused_with_the_rule(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Azure allows names that Kubernetes does not: one line says the rule, and a name that would do where there is."""
    assert manifests("render", f"--name={name}", f"--resource-id={ID}", f"--client-id={CLIENT}") == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert "must be lower-case letters" in error or "a pod label holds 63" in error


def test_several_identities_and_a_pod(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pod has one identity here: which, the person must say."""
    second = {"B_Name": "b", "B_Id": ID.replace("uaitest1", "b"), "B_ClientId": CLIENT}
    assert manifests("render", terraform(tmp_path, **OUTPUTS, **second), "--vault=kv1") == 1
    assert "there are several: choose with --name one of " in capsys.readouterr().err
    assert manifests("render", terraform(tmp_path, **OUTPUTS, **second), "--name=b") == 0


def test_a_file_that_is_no_output_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error says which file it is about."""
    path = tmp_path / "x.json"
    path.write_text("{}")
    assert manifests("render", f"--terraform={path}") == 1
    assert capsys.readouterr().err.startswith(f"podidentity manifests: {path}: no output names")
