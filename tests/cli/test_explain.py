"""``podidentity explain`` against the embedded API server, as an administrator and as somebody with few rights."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from tests.kubectl.clusters import embedded_cluster

from podidentity.cli.entry import run
from podidentity.kube.client import KubeClient
from podidentity.kube.settings import load_settings
from podidentity.lab.programs import Programs

CUSTOM = "/apis/aadpodidentity.k8s.io/v1/namespaces/default"
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
RESOURCE = "/subscriptions/s/resourcegroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/app"
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
Object = Mapping[str, object]


@pytest.fixture(scope="module")
def kubeconfigs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """An administrator's kubeconfig and that of a service account that may read pods; a cluster with one pod."""
    folder = tmp_path_factory.mktemp("api")
    with embedded_cluster(folder, Programs(())) as cluster:
        token = asyncio.run(furnish(str(cluster.kubeconfig)))
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        few = folder / "few.kubeconfig"
        few.write_text(yaml.safe_dump(config))
        yield str(cluster.kubeconfig), str(few)


async def furnish(kubeconfig: str) -> str:
    """Make the objects; a token of the service account."""
    async with KubeClient(load_settings(kubeconfig, {}), user_agent="test") as client:

        async def create(path: str, kind: str, name: str, **fields: object) -> Object:
            body = {"apiVersion": version_of(path), "kind": kind, "metadata": {"name": name}} | fields
            found: Object = json.loads(await client.raw("POST", path, body=body))
            return found

        for document in yaml.safe_load_all((DEPLOY / "deployment-rbac.yaml").read_text()):
            if document["kind"] == "CustomResourceDefinition":
                path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
                await client.raw("POST", path, body=document)
        container = {"name": "main", "image": "x"}
        await create("/api/v1/nodes", "Node", "node-0", spec={"providerID": "kind://node-0"})
        await create("/api/v1/namespaces/default/serviceaccounts", "ServiceAccount", "default")
        labelled = {"name": "web", "labels": {"aadpodidbinding": "web"}}
        pod = {"metadata": labelled, "spec": {"nodeName": "node-0", "containers": [container]}}
        await create("/api/v1/namespaces/default/pods", "Pod", "web", **pod)
        agent = {"metadata": {"name": "nmi-x", "labels": {"component": "nmi"}}}
        await create(
            "/api/v1/namespaces/default/pods",
            "Pod",
            "nmi-x",
            **agent,
            spec={"nodeName": "node-0", "containers": [container | {"args": ["--http-probe-port=8085"]}]},
        )
        spec = {"type": 0, "resourceID": RESOURCE, "clientID": "c"}
        await create(f"{CUSTOM}/azureidentities", "AzureIdentity", "app", spec=spec)
        spec = {"azureIdentity": "app", "selector": "wep"}
        await create(f"{CUSTOM}/azureidentitybindings", "AzureIdentityBinding", "bind", spec=spec)
        await create("/api/v1/namespaces/default/serviceaccounts", "ServiceAccount", "robot")
        rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
        await create(f"{RBAC}/roles", "Role", "robot", rules=rules)
        subjects = [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}]
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "robot"}
        await create(f"{RBAC}/rolebindings", "RoleBinding", "robot", roleRef=role, subjects=subjects)
        made = await create("/api/v1/namespaces/default/serviceaccounts/robot/token", "TokenRequest", "", spec={})
        return str(made["status"]["token"])  # type: ignore[index]  # JSON


def version_of(path: str) -> str:
    """The apiVersion of what a collection holds."""
    if path.endswith("/token"):
        return "authentication.k8s.io/v1"
    return "v1" if path.startswith("/api/") else "/".join(path.split("/")[2:4])


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    code = run(["podidentity", "explain", *words])
    out, error = capsys.readouterr()
    return code, out, error


def test_the_cause_is_named(kubeconfigs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """The first cross is the selector that is one letter off, and the last line says what to do."""
    code, out, error = said(capsys, "web", f"--kubeconfig={kubeconfigs[0]}")
    assert (code, error) == (1, "")
    lines = out.splitlines()
    assert [line.split()[1] for line in lines[:3]] == ["pod", "exception", "binding"]
    assert "no AzureIdentityBinding selects 'web'; default/bind selects 'wep'" in lines[2]
    assert lines[-1].startswith("Next: make the two equal: the pod's label aadpodidbinding")


def test_each_kind_is_seen(kubeconfigs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """With the selector of the binding the chain goes on to the node and its agent."""
    asyncio.run(relabel(kubeconfigs[0], "wep"))
    try:
        code, out, _ = said(capsys, "web", f"--kubeconfig={kubeconfigs[0]}", "-ojson")
    finally:
        asyncio.run(relabel(kubeconfigs[0], "web"))
    links = {link["name"]: link for link in json.loads(out)["links"]}
    assert code == 1
    assert (links["binding"]["state"], links["identity"]["state"]) == ("ok", "ok")
    assert links["node"]["evidence"] == "node-0 is no machine of Azure: spec.providerID is 'kind://node-0'"


async def relabel(kubeconfig: str, selector: str) -> None:
    """Give the pod another selector."""
    async with KubeClient(load_settings(kubeconfig, {}), user_agent="test") as client:
        body = {"metadata": {"labels": {"aadpodidbinding": selector}}}
        path = "/api/v1/namespaces/default/pods/web"
        await client.raw("PATCH", path, body=body, content_type="application/merge-patch+json")


def test_few_rights(kubeconfigs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """What is not visible is told with the right that would show it; what is visible is judged."""
    code, out, _ = said(capsys, "web", f"--kubeconfig={kubeconfigs[1]}", "--output=json")
    found = json.loads(out)
    states = {link["name"]: link["state"] for link in found["links"]}
    assert code == 0
    assert (states["pod"], states["binding"], states["node"]) == ("ok", "hidden", "hidden")
    assert found["next"].startswith("ask for the right to list azurepodidentityexceptions in namespace default")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("none",), 1, "there is no pod none in namespace default; name another one with --namespace"),
        (("web", "-n", "other"), 1, "there is no pod web in namespace other"),
        (("default/web",), 2, "must be the name of a pod"),
        (("web", "--output=xml"), 2, "--output xml: must be text or json"),
        (("web", "--kubeconfig=/nowhere"), 1, "/nowhere not found"),
        ((), 2, "Missing argument 'POD'"),
    ],
)
def test_bad_input_is_one_line(
    kubeconfigs: tuple[str, str], capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, says: str
) -> None:
    """It names what is wrong and the way out."""
    given = words if any("kubeconfig" in word for word in words) else (*words, f"--kubeconfig={kubeconfigs[0]}")
    got, out, error = said(capsys, *given)
    assert (got, out, error.count("\n")) == (code, "", 1)
    assert says in error


def test_a_cluster_that_does_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, no trace."""
    data = base64.b64encode(b"x").decode()
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": data}}],
    }
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    code, out, error = said(capsys, "web", f"--kubeconfig={path}")
    assert (code, out, error.count("\n")) == (1, "", 1)
    assert "cannot be read" in error
