"""``podidentity roles``, as a process against the simulated Azure over TLS, signed in by environment variables."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.azure.servers import answer, fake_server
from tests.azure.test_simulated_azure import certificates

from podidentity.cli.entry import run
from podidentity.lab.cloud import CloudConfig, Running, parse_seed, serve

SUB = "11111111-1111-1111-1111-111111111111"
TENANT = "22222222-2222-2222-2222-222222222222"
PERSON, STRANGER = "33333333-3333-3333-3333-333333333333", "44444444-4444-4444-4444-444444444444"
KUBELET, KUBELET_CLIENT = "55555555-5555-5555-5555-555555555555", "66666666-6666-6666-6666-666666666666"
APP_CLIENT = "77777777-7777-7777-7777-777777777777"
NODES = f"/subscriptions/{SUB}/resourceGroups/rg-nodes"
IDENTITIES = "providers/Microsoft.ManagedIdentity/userAssignedIdentities"
APP = f"/subscriptions/{SUB}/resourceGroups/rg-apps/{IDENTITIES}/app1"
SEED = {
    "tenantId": TENANT,
    "subscriptionId": SUB,
    "resourceGroups": ["rg-nodes", "rg-apps"],
    "identities": [
        {"name": "aks-agentpool", "resourceGroup": "rg-nodes", "principalId": KUBELET, "clientId": KUBELET_CLIENT},
        {"name": "app1", "resourceGroup": "rg-apps", "clientId": APP_CLIENT},
    ],
    "scaleSets": [{"name": "pool", "resourceGroup": "rg-nodes", "systemAssigned": True}],
    "servicePrincipals": [{"clientId": PERSON, "secret": "s3cret"}, {"clientId": STRANGER, "secret": "s3cret"}],
    "roleAssignments": [{"principal": PERSON, "role": "Owner"}],
}
BLOCK = {
    "client_id": KUBELET_CLIENT,
    "object_id": KUBELET,
    "user_assigned_identity_id": f"{NODES}/{IDENTITIES}/aks-agentpool",
}
OUTPUTS = {"KubeKubelet_UAI": [BLOCK], "Name": "app1", "Id": APP, "ClientId": APP_CLIENT}


SIGNED_IN = ("--auth=environment", "--cloud=AzureStackCloud")
PROGRAM = """
import contextlib, io, json, sys
from podidentity.cli.entry import run
ended = []
for words in json.loads(sys.argv[1]):
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = run(["podidentity", "roles", *words])
    ended.append((code, out.getvalue(), error.getvalue()))
print(json.dumps(ended))
"""


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    error: str


@dataclass
class Azure:
    """The simulated Azure, and how to run the command as somebody in it."""

    running: Running
    folder: Path
    environ: dict[str, str]

    async def roles(self, *lines: Sequence[str], who: str = PERSON) -> list[Ended]:
        """Exit code, stdout and stderr of ``podidentity roles`` with each of the lines of words, all in one process."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, json.dumps(lines)),
            env={**self.environ, "AZURE_CLIENT_ID": who},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        return [Ended(*found) for found in json.loads(out)]

    def written(self, name: str, value: object) -> str:
        """A file with that JSON."""
        path = self.folder / name
        path.write_text(json.dumps(value))
        return str(path)

    @property
    def terraform(self) -> str:
        """The option that names the outputs."""
        values = {name: {"sensitive": False, "type": "x", "value": value} for name, value in OUTPUTS.items()}
        return f"--terraform={self.written('outputs.json', values)}"


@pytest.fixture
async def azure(tmp_path: Path) -> AsyncIterator[Azure]:
    """The simulated Azure with a throwaway certificate, described to the command as a cloud of one's own."""
    certificate, key = certificates(tmp_path)
    config = CloudConfig(tmp_path / "state", parse_seed(json.dumps(SEED).encode()), tls=(certificate, key))
    async with serve(config) as running:
        cloud = {
            "resourceManagerEndpoint": running.arm_url,
            "activeDirectoryEndpoint": running.entra_url,
            "tokenAudience": "https://management.azure.com/",
        }
        (tmp_path / "cloud.json").write_text(json.dumps(cloud))
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
            "AZURE_TENANT_ID": TENANT,
            "AZURE_CLIENT_SECRET": "s3cret",
            "AZURE_ENVIRONMENT_FILEPATH": str(tmp_path / "cloud.json"),
            "REQUESTS_CA_BUNDLE": str(certificate),
            "NO_PROXY": "127.0.0.1",
        }
        yield Azure(running, tmp_path, environ)


def made(azure: Azure) -> list[tuple[str, str]]:
    """Role definition and scope of what the kubelet's identity has."""
    rows = azure.running.world.assignments.values()
    return [(row.role, row.scope) for row in rows if row.principal_id == KUBELET]


async def test_from_terraform_to_roles_that_are_there(azure: Azure) -> None:
    """The path of the walkthrough's user: check fails, a dry run makes nothing, apply makes two, once."""
    words = (azure.terraform, *SIGNED_IN)
    first, dry, done, again, last = await azure.roles(
        ("check", *words, "--output=json"),
        ("apply", *words, "--dry-run"),
        ("apply", *words),
        ("apply", *words),
        ("check", *words),
    )
    assert (first.code, first.error) == (1, "")
    assert [one["state"] for one in json.loads(first.out)["assignments"]] == ["missing", "missing"]
    assert (dry.code, dry.out.count("would be made: ")) == (0, 2)
    assert (done.code, done.error, done.out.count("made: ")) == (0, "", 2)
    assert done.out.startswith("made: Virtual Machine Contributor for kubelet identity aks-agentpool at resource group")
    assert [scope for _, scope in made(azure)] == [NODES, APP]
    assert (again.code, again.out.count("made: ")) == (0, 0)
    assert last.code == 0
    assert "mic has what it needs." in last.out


async def test_the_walkthroughs_wide_roles_are_enough_and_said_to_be_wide(azure: Azure) -> None:
    """W3: what the walkthrough gives satisfies the narrow plan, and both rows say what it opens."""
    words = (azure.terraform, *SIGNED_IN)
    wide, found = await azure.roles(("apply", *words, "--walkthrough"), ("check", *words, "--output=json"))
    assert (wide.code, wide.error) == (0, "")
    assert [scope for _, scope in made(azure)] == [f"/subscriptions/{SUB}"] * 2
    rows = json.loads(found.out)["assignments"]
    assert (found.code, [one["state"] for one in rows]) == (0, ["too wide", "too wide"])
    assert "every identity of subscription" in rows[1]["remark"]


async def test_azure_json_has_client_ids(azure: Azure) -> None:
    """From azure.json the object id is looked up in ARM, for an identity and for machines with one of their own."""
    fixed = {"cloud": "AzurePublicCloud", "subscriptionId": SUB, "resourceGroup": "rg-nodes"}
    own = azure.written("own.json", {**fixed, "useManagedIdentityExtension": True})
    managed = azure.written(
        "managed.json", {**fixed, "useManagedIdentityExtension": True, "userAssignedIdentityID": KUBELET_CLIENT}
    )
    by_client, machines = await azure.roles(
        ("plan", f"--azure-json={managed}", f"--identity={APP}", "--output=az", *SIGNED_IN),
        ("plan", f"--azure-json={own}", "--output=json", *SIGNED_IN),
    )
    assert (by_client.code, by_client.error) == (0, "")
    assert by_client.out.count(f"--assignee-object-id {KUBELET} ") == 2
    assert (machines.code, machines.error) == (0, "")
    assert {one["principal"] for one in json.loads(machines.out)["assignments"]} == {"own identity of pool"}


async def test_signed_in_with_az(azure: Azure) -> None:
    """Who is signed in with az needs nothing else: az's token is used, and az is asked for ARM's and no other."""
    token = azure.running.admin.mint_token("https://management.azure.com/", client_id=PERSON)
    said = {
        "accessToken": token,
        "expiresOn": "2099-01-01 00:00:00.000000",
        "expires_on": 4070908800,
        "tokenType": "Bearer",
    }
    az = azure.folder / "bin" / "az"
    az.parent.mkdir()
    az.write_text(f"#!/bin/sh\necho \"$@\" >> {azure.folder}/asked\necho '{json.dumps(said)}'\n")
    az.chmod(0o755)
    azure.environ["PATH"] = f"{az.parent}:{azure.environ['PATH']}"
    (found,) = await azure.roles(("check", azure.terraform, "--auth=cli", SIGNED_IN[1], "--output=json"))
    assert (found.code, found.error) == (1, "")
    assert [one["state"] for one in json.loads(found.out)["assignments"]] == ["missing", "missing"]
    asked = (azure.folder / "asked").read_text().splitlines()
    assert asked == ["account get-access-token --output json --resource https://management.azure.com/"]


async def test_refusals_are_one_line(azure: Azure) -> None:
    """Who may not, or cannot sign in, reads one line that says what to do."""
    words = ("check", azure.terraform, *SIGNED_IN)
    (stranger,) = await azure.roles(words, who=STRANGER)
    assert (stranger.code, stranger.out) == (1, "")
    assert stranger.error.startswith("podidentity roles: you may not read role assignments at resource group rg-nodes")
    (unknown,) = await azure.roles(words, who=APP_CLIENT)
    assert (unknown.code, unknown.out, unknown.error.count("\n")) == (1, "", 1)
    assert "AADSTS" in unknown.error


async def test_the_clusters_identities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a cluster: the AzureIdentity objects of type 0 of all namespaces say which identities are needed."""
    items = [
        {"metadata": {"name": "a", "namespace": "x"}, "spec": {"type": 0, "resourceID": APP, "clientID": APP_CLIENT}},
        {"metadata": {"name": "b", "namespace": "y"}, "spec": {"type": 0, "resourceID": APP.upper()}},
        {"metadata": {"name": "c", "namespace": "y"}, "spec": {"type": 1, "clientID": APP_CLIENT}},
    ]
    listed = {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items}
    async with fake_server() as fake:
        fake.default = answer(200, listed)
        cluster = {"name": "c", "cluster": {"server": fake.url}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        users = [{"name": "u", "user": {"token": "t"}}]
        config = {"current-context": "c", "clusters": [cluster], "contexts": [context], "users": users}
        (tmp_path / "kubeconfig").write_text(json.dumps(config))
        words = ["podidentity", "roles", "plan", *FLAGS, f"--kubeconfig={tmp_path / 'kubeconfig'}", "--output=json"]
        assert await asyncio.to_thread(run, words) == 0
        assert [request.target.partition("?")[0] for request in fake.asked] == [
            "/apis/aadpodidentity.k8s.io/v1/azureidentities"
        ]
    found = json.loads(capsys.readouterr().out)["assignments"]
    assert [one["scope"] for one in found] == [NODES, APP]


def test_stdin_closed_and_a_target_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A closed stdin is said to be; a folder that cannot be made is named. Neither leaves a trace."""
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m podidentity roles plan --terraform=- <&-"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "podidentity roles: -: stdin is closed\n"
    (tmp_path / "file").touch()
    words = [f"--resource-id={APP}", f"--client-id={APP_CLIENT}", "--name=app1", f"--output={tmp_path / 'file' / 'x'}"]
    assert run(["podidentity", "manifests", "render", *words]) == 1
    assert capsys.readouterr().err == f"podidentity manifests: {tmp_path / 'file' / 'x'}: Not a directory\n"


def roles(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run it in this process, for what asks nobody."""
    return run(["podidentity", "roles", *words]), *capsys.readouterr()


FLAGS = (f"--subscription={SUB}", "--node-group=rg-nodes", f"--principal-id={KUBELET}")


def test_plan_from_flags(capsys: pytest.CaptureFixture[str]) -> None:
    """A plan needs no Azure: table, JSON, terraform and az say the same assignments."""
    words = ("plan", *FLAGS, f"--identity={APP}")
    code, out, error = roles(capsys, *words)
    assert (code, error) == (0, "")
    assert "identity app1 in rg-apps" in out
    assert "Wider is possible" in out
    code, out, _ = roles(capsys, *words, "--output=json")
    found = json.loads(out)
    assert [(one["role"], one["scope"]) for one in found["assignments"]] == [
        ("Virtual Machine Contributor", NODES),
        ("Managed Identity Operator", APP),
    ]
    assert len(found["notes"]) == 2
    code, out, _ = roles(capsys, *words, "--output=az")
    assert out.splitlines()[1] == (
        f"az role assignment create --assignee-object-id {KUBELET} --assignee-principal-type ServicePrincipal "
        f"--role 'Managed Identity Operator' --scope {APP}"
    )
    code, out, _ = roles(capsys, *words, f"--identity={APP.replace('rg-apps', 'rg-more')}", "--output=terraform")
    names = [line.split('"')[3] for line in out.splitlines() if line.startswith("resource")]
    assert names == [
        "mic_virtual_machine_contributor_rg_nodes",
        "mic_managed_identity_operator_app1",
        "mic_managed_identity_operator_app1__2",
    ]
    code, out, _ = roles(capsys, "plan", *FLAGS, "--walkthrough", "--output=json")
    assert {one["scope"] for one in json.loads(out)["assignments"]} == {f"/subscriptions/{SUB}"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["plan"], 1, "who mic signs in as is not known; give its object id with --principal-id"),
        (["plan", FLAGS[2]], 1, "the subscription is not known; give it with --subscription"),
        (["plan", *FLAGS, "--identity=uai1"], 1, 'identity "uai1": must be /subscriptions/'),
        (["plan", "--terraform=/none/there"], 1, "/none/there: No such file or directory"),
        (["plan", "--aks=/"], 1, "/: Is a directory"),
        (["plan", "--scope=all"], 2, "'all' is not one of 'identity', 'group', 'subscription'"),
        (["plan", "--output=yaml"], 2, "'yaml' is not one of"),
        (["check", *FLAGS, "--cloud=Azur"], 1, 'cloud "Azur" is not known'),
        (["apply", *FLAGS, "--wait=-1"], 2, "--wait"),
        (["apply", *FLAGS, "--node-group=a/b"], 1, 'nodes\' resource group "a/b": is not one'),
        (["make"], 2, "No such command 'make'"),
    ],
)
def test_wrong_input_is_one_line(words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong input ends in one line that says what to do, before anybody signs in."""
    got, out, error = roles(capsys, *words)
    assert (got, out, error.count("\n")) == (code, "", 1)
    assert said in error


def test_a_file_that_is_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Binary and enormous files are refused by name, without being read whole."""
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    code, _, error = roles(capsys, "plan", f"--terraform={tmp_path / 'x.png'}")
    assert code == 1
    assert error.startswith(f"podidentity roles: {tmp_path / 'x.png'}: not the JSON of `terraform output -json`")
    with (tmp_path / "big").open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    code, _, error = roles(capsys, "plan", f"--aks={tmp_path / 'big'}")
    assert (code, "is larger than 32 MiB" in error) == (1, True)
