"""The real kubectl, against a cluster without machines."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import yaml
from tests.lab.controllers.conftest import ADMIN, Cluster, controllers, kubelet
from tests.lab.kube.wire import Client, client_session

from podidentity.lab.kube import ApiConfig, User, serve

ROOT = Path(__file__).parents[3]
MANIFEST = ROOT / "deploy" / "deployment-rbac.yaml"
KUBECTL = shutil.which("kubectl")

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not on the PATH (Debian: kubernetes-client)")

INSTALLED = """\
serviceaccount/aad-pod-id-nmi-service-account created
customresourcedefinition.apiextensions.k8s.io/azureassignedidentities.aadpodidentity.k8s.io created
customresourcedefinition.apiextensions.k8s.io/azureidentitybindings.aadpodidentity.k8s.io created
customresourcedefinition.apiextensions.k8s.io/azureidentities.aadpodidentity.k8s.io created
customresourcedefinition.apiextensions.k8s.io/azurepodidentityexceptions.aadpodidentity.k8s.io created
clusterrole.rbac.authorization.k8s.io/aad-pod-id-nmi-role created
clusterrolebinding.rbac.authorization.k8s.io/aad-pod-id-nmi-binding created
daemonset.apps/nmi created
serviceaccount/aad-pod-id-mic-service-account created
clusterrole.rbac.authorization.k8s.io/aad-pod-id-mic-role created
clusterrolebinding.rbac.authorization.k8s.io/aad-pod-id-mic-binding created
deployment.apps/mic created
"""


class Kubectl:
    """kubectl with a kubeconfig and a cache of its own."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        running = cluster.running
        ca = base64.b64encode(running.ca.encode()).decode()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": running.url, "certificate-authority-data": ca}}],
            "users": [{"name": "u", "user": {"token": running.admin_token}}],
        }
        (folder / "config").write_text(yaml.safe_dump(config))

    async def __call__(self, *arguments: str, stdin: object = None, fails: bool = False) -> str:
        """Standard output, or with ``fails`` the error output of a run that must fail."""
        environ = {"KUBECONFIG": str(self.folder / "config"), "HOME": str(self.folder), "PATH": "/usr/bin:/bin"}
        environ["KUBECACHEDIR"] = str(self.folder / "cache")
        data = yaml.safe_dump_all(stdin if isinstance(stdin, list) else [stdin]).encode() if stdin else None
        process = await asyncio.create_subprocess_exec(
            KUBECTL or "kubectl",
            *arguments,
            env=environ,
            stdin=asyncio.subprocess.PIPE if data else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            stdout, stderr = await process.communicate(data)
        assert (process.returncode != 0) is fails, (arguments, stdout.decode(), stderr.decode())
        return (stderr if fails else stdout).decode()


@pytest.fixture
async def kubectl(tmp_path: Path) -> AsyncIterator[Kubectl]:
    """kubectl, an API with controllers, and two nodes whose pods get ready."""
    config = ApiConfig(tokens={ADMIN: User("controllers", ("system:masters",))})
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(serve(config))
        session = await stack.enter_async_context(client_session(running))
        cluster = Cluster(Client(session, running), running)
        await stack.enter_async_context(controllers(running))
        await stack.enter_async_context(kubelet(cluster))
        await cluster.node("node1")
        await cluster.node("node2")
        yield Kubectl(cluster, tmp_path)


def config_map(name: str, **data: str) -> Mapping[str, object]:
    """A ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def test_installation_as_in_the_walkthrough(kubectl: Kubectl) -> None:
    """Apply prints the twelve lines, a second one leaves all alone, the pods run, uninstalling leaves nothing.

    The definitions are "configured" each time: like the real server, this one drops ``preserveUnknownFields: false``.
    """
    assert await kubectl("apply", "-f", str(MANIFEST)) == INSTALLED
    again = INSTALLED.replace("aadpodidentity.k8s.io created", "aadpodidentity.k8s.io configured")
    assert await kubectl("apply", "-f", str(MANIFEST)) == again.replace(" created", " unchanged")
    assert "successfully rolled out" in await kubectl("rollout", "status", "daemonset/nmi", "--timeout=20s")
    assert "successfully rolled out" in await kubectl("rollout", "status", "deployment/mic", "--timeout=20s")
    lines = (await kubectl("get", "pods")).splitlines()
    assert lines[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [line.split()[0].split("-")[0] for line in lines[1:]] == ["mic", "mic", "nmi", "nmi"]
    assert {line.split()[2] for line in lines[1:]} == {"Running"}
    await kubectl("delete", "-f", str(MANIFEST), "--timeout=25s")
    assert await kubectl("get", "crd,clusterrole,ds,deploy", "-o", "name", "-l", "k8s-app=aad-pod-id") == ""
    await kubectl("wait", "pod", "--all", "--for=delete", "--timeout=20s")


async def test_identities_get_their_columns(kubectl: Kubectl) -> None:
    """Custom resources print the columns their CRDs declare; a misspelt field is named."""
    await kubectl("apply", "-f", str(MANIFEST))
    api = "aadpodidentity.k8s.io/v1"
    spec = {"type": 0, "clientID": "c1"}
    identity = {"apiVersion": api, "kind": "AzureIdentity", "metadata": {"name": "id1"}, "spec": spec}
    assert await kubectl("apply", "-f", "-", stdin=identity) == "azureidentity.aadpodidentity.k8s.io/id1 created\n"
    header, row = (await kubectl("get", "azureidentity")).splitlines()
    assert (header.split(), row.split()[:3]) == (["NAME", "TYPE", "CLIENTID", "AGE"], ["id1", "0", "c1"])
    explained = await kubectl("explain", "azureidentity.spec")
    assert "clientID" in explained
    assert "<string>" in explained
    changed = {**identity, "spec": {**spec, "clientID": "c2"}}
    assert "configured" in await kubectl("apply", "-f", "-", stdin=changed)
    assert await kubectl("get", "azureidentity", "id1", "-o", "jsonpath={.spec.clientID}") == "c2"
    wrong = {**identity, "metadata": {"name": "id2"}, "spec": {"clientid": "c"}}
    assert 'unknown field "spec.clientid"' in await kubectl("apply", "-f", "-", stdin=wrong, fails=True)
    patched = await kubectl("patch", "azureidentity", "id1", "-p", '{"spec":{}}', fails=True)
    assert "application/strategic-merge-patch+json is not supported by aadpodidentity.k8s.io/v1" in patched


async def test_scale_restart_undo(kubectl: Kubectl) -> None:
    """scale, set image, rollout restart and status work on a Deployment."""
    await kubectl("apply", "-f", str(MANIFEST))
    assert await kubectl("scale", "deploy/mic", "--replicas=3") == "deployment.apps/mic scaled\n"
    await kubectl("rollout", "status", "deploy/mic", "--timeout=20s")
    assert await kubectl("get", "deploy", "mic", "-o", "jsonpath={.status.readyReplicas}") == "3"
    assert "restarted" in await kubectl("rollout", "restart", "deploy/mic", "ds/nmi")
    await kubectl("rollout", "status", "deploy/mic", "--timeout=20s")
    await kubectl("rollout", "status", "ds/nmi", "--timeout=20s")
    assert "image updated" in await kubectl("set", "image", "deploy/mic", "mic=x:9")
    await kubectl("rollout", "status", "deploy/mic", "--timeout=20s")
    pods = json.loads(await kubectl("get", "pods", "-l", "component=mic", "-o", "json"))["items"]
    running = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    assert [pod["spec"]["containers"][0]["image"] for pod in running] == ["x:9"] * 3


async def test_apply_keeps_what_others_set(kubectl: Kubectl) -> None:
    """A client-side apply removes what it no longer names and leaves what somebody else added."""
    await kubectl("apply", "-f", "-", stdin=config_map("c", mine="1", old="1"))
    await kubectl("patch", "cm", "c", "--type=merge", "-p", '{"data":{"theirs":"1"}}')
    await kubectl("apply", "-f", "-", stdin=config_map("c", mine="2"))
    data = json.loads(await kubectl("get", "cm", "c", "-o", "jsonpath={.data}"))
    assert data == {"mine": "2", "theirs": "1"}
    differences = await kubectl("diff", "-f", "-", stdin=config_map("c", mine="2"))
    assert differences == ""
    assert "serverside" not in await kubectl("apply", "--dry-run=server", "-f", "-", stdin=config_map("d"))
    refused = await kubectl("apply", "--server-side", "-f", "-", stdin=config_map("d"), fails=True)
    assert "--api-server=real" in refused


async def test_create_label_annotate_replace_edit(kubectl: Kubectl) -> None:
    """The verbs that write: typed creates (protobuf), label, annotate, replace, edit."""
    assert await kubectl("create", "namespace", "shop") == "namespace/shop created\n"
    assert await kubectl("create", "sa", "robot") == "serviceaccount/robot created\n"
    await kubectl("create", "configmap", "c", "--from-literal=a=1")
    await kubectl("create", "secret", "generic", "s", "--from-literal=a=1")
    assert await kubectl("get", "secret", "s", "-o", "jsonpath={.data.a} {.type}") == "MQ== Opaque"
    await kubectl("create", "clusterrole", "r", "--verb=get", "--resource=pods")
    await kubectl("create", "clusterrolebinding", "r", "--clusterrole=r", "--serviceaccount=default:robot")
    assert "labeled" in await kubectl("label", "cm", "c", "x=y")
    assert "annotated" in await kubectl("annotate", "cm", "c", "x=y")
    header, row = (await kubectl("get", "cm", "c", "--show-labels")).splitlines()
    assert header.split()[-1] == "LABELS"
    assert row.split()[-1] == "x=y"
    assert "replaced" in await kubectl("replace", "-f", "-", stdin=config_map("c", a="2"))
    again = await kubectl("create", "-f", "-", stdin=config_map("c"), fails=True)
    assert 'Error from server (AlreadyExists): error when creating "STDIN": configmaps "c" already exists' in again
    token = await kubectl("create", "token", "robot", "--duration=10m", "--audience=x")
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert (claims["sub"], claims["aud"]) == ("system:serviceaccount:default:robot", ["x"])


async def test_questions_about_rights(kubectl: Kubectl) -> None:
    """Auth can-i, its list, and whoami."""
    assert await kubectl("auth", "can-i", "get", "pods") == "yes\n"
    await kubectl("create", "sa", "robot")
    robot = ("--as", "system:serviceaccount:default:robot")
    assert "*.*" in await kubectl("auth", "can-i", "--list")
    assert "Username" in await kubectl("auth", "whoami")
    await kubectl("create", "clusterrole", "r", "--verb=get", "--resource=pods")
    await kubectl("create", "clusterrolebinding", "r", "--clusterrole=r", "--serviceaccount=default:robot")
    assert await kubectl("auth", "can-i", "get", "pods", *robot) == "yes\n"
    assert await kubectl("auth", "can-i", "delete", "pods", *robot, fails=True) == ""


async def test_reading(kubectl: Kubectl) -> None:
    """Get in its forms, describe, events, api-resources, errors."""
    await kubectl("apply", "-f", str(MANIFEST))
    await kubectl("rollout", "status", "ds/nmi", "--timeout=20s")
    assert "NAMESPACE" in await kubectl("get", "pods", "-A", "-o", "wide")
    assert await kubectl("get", "pods", "-n", "kube-system") == ""
    names = (await kubectl("get", "pods", "-l", "component=nmi", "-o", "name")).split()
    described = await kubectl("describe", names[0])
    assert "Successfully assigned default/nmi-" in described
    assert "nmi" in await kubectl("describe", "ds/nmi")
    assert "Non-terminated Pods:" in await kubectl("describe", "node", "node1")
    assert "Scheduled" in await kubectl("get", "events", "--field-selector", "reason=Scheduled")
    assert "Scheduled" in await kubectl("events", "--for", names[0])
    assert "azureidentities" in await kubectl("api-resources")
    assert "nmi" in await kubectl("get", "all")
    assert "nmi" in await kubectl("get", "pods", "--sort-by=.metadata.name")
    missing = await kubectl("get", "pod", "nope", fails=True)
    assert missing == 'Error from server (NotFound): pods "nope" not found\n'
    assert "doesn't have a resource type" in await kubectl("get", "foos", fails=True)


async def test_waiting_and_deleting(kubectl: Kubectl) -> None:
    """Wait for conditions, delete with grace and in the foreground, cordon and taint nodes."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p1"},
        "spec": {"containers": [{"name": "main", "image": "x:1"}]},
    }
    await kubectl("apply", "-f", "-", stdin=pod)
    await kubectl("wait", "pod/p1", "--for=condition=Ready", "--timeout=20s")
    await kubectl("wait", "pod/p1", "--for=jsonpath={.status.phase}=Running", "--timeout=20s")
    assert 'pod "p1" deleted' in await kubectl("delete", "pod", "p1")
    assert "cordoned" in await kubectl("cordon", "node1")
    assert "SchedulingDisabled" in await kubectl("get", "node", "node1")
    assert "uncordoned" in await kubectl("uncordon", "node1")
    assert "tainted" in await kubectl("taint", "node", "node1", "k=v:NoSchedule")
    assert "--api-server=real" in await kubectl("create", "job", "x", "--image=x", fails=True)
