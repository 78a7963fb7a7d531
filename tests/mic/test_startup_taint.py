"""The startup taint goes when nmi is Ready on the node, and only then; by whom and with which right."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.real_server import RealServer

from podidentity.aio.fence import FenceClosedError
from podidentity.api.core import Node, NodeSpec, Taint
from podidentity.api.meta import ObjectMeta
from podidentity.api.resources import NODES, Resource
from podidentity.config.mic import mic_settings
from podidentity.kube.auth import StaticToken
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import ApiError, Forbidden, Invalid
from podidentity.kube.request import MERGE_PATCH
from podidentity.kube.settings import KubeSettings
from podidentity.mic.startup_taint import TAINT, StartupTaints, removal
from podidentity.telemetry.logging import get_logger

MANIFEST = Path(__file__).resolve().parents[2] / "deploy" / "mic-startup-taint.yaml"


def node(name: str, *taints: str) -> Node:
    """A node with these taints."""
    return Node(metadata=ObjectMeta(name=name), spec=NodeSpec(taints=tuple(Taint(key=key) for key in taints)))


class FakeApi:
    """Answers with nmi's pods by node, and remembers patches; ``failures`` are raised by the next ones."""

    def __init__(self) -> None:
        self.pods: dict[str, list[dict[str, object]]] = {}
        self.patched: list[str] = []
        self.failures: list[Exception] = []

    async def raw(self, method: str, path: str, *, params: Mapping[str, str] | None = None) -> bytes:
        """The pods of one node."""
        assert (method, path) == ("GET", "/api/v1/namespaces/ours/pods")
        assert params is not None
        assert params["labelSelector"] == "component=nmi"
        return json.dumps({"items": self.pods.get(params["fieldSelector"].removeprefix("spec.nodeName="), [])}).encode()

    async def patch_json(
        self, resource: Resource[Node], name: str, namespace: str, ops: Sequence[Mapping[str, object]]
    ) -> Node:
        """Remember it."""
        if self.failures:
            raise self.failures.pop(0)
        self.patched.append(name)
        return node(name)


def pod(ready: str = "True", **meta: str) -> dict[str, object]:
    """A pod of nmi."""
    return {"metadata": meta, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


@pytest.mark.looptime
async def test_taint_goes_when_nmi_is_ready() -> None:
    """A node without nmi, with one that is not Ready or is ending keeps its taint; other nodes are not looked at."""
    api = FakeApi()
    nodes = [node("a", "other", TAINT), node("b", TAINT), node("c", TAINT), node("d", "other")]
    api.pods = {"a": [pod()], "b": [pod("False"), pod(deletionTimestamp="2026-01-01T00:00:00Z")], "d": [pod()]}
    taints = StartupTaints(api, lambda: nodes, namespace="ours", selector="component=nmi", log=get_logger())
    running = asyncio.ensure_future(taints.run())
    await asyncio.sleep(1)
    assert api.patched == ["a"]
    nodes[0] = node("a", "other")
    api.pods["b"] = [pod()]
    api.failures = [FenceClosedError(), Forbidden(403, "Forbidden", "may not patch nodes")]
    await asyncio.sleep(3.5)
    assert api.patched == ["a"]
    await asyncio.sleep(2)
    assert api.patched == ["a", "b"]
    running.cancel()


def test_patch_names_what_it_removes() -> None:
    """Each removal is tested first, the last one first, so that another's change of the list cannot lose a taint."""
    ops = removal(node("a", TAINT, "other", TAINT))
    assert [(op["op"], op["path"]) for op in ops] == [
        ("test", "/spec/taints/2/key"),
        ("remove", "/spec/taints/2"),
        ("test", "/spec/taints/0/key"),
        ("remove", "/spec/taints/0"),
    ]
    assert removal(node("a", "other")) == []


def test_it_is_off_unless_asked_for() -> None:
    """Mic changes no node by default."""
    environ = {"MIC_POD_NAMESPACE": "default"}
    assert not mic_settings([], environ, "host").manage_startup_taint
    assert mic_settings(["--manage-startup-taint"], environ, "host").nmi_selector == "component=nmi"


@pytest.fixture(scope="module")
def tainted(real_server: RealServer) -> Iterator[RealServer]:
    """A node with the taint and another one, and an nmi on it that is Ready, on a real API server."""
    spec: Any = {"taints": [{"key": key, "effect": "NoSchedule"} for key in ("keep", TAINT)]}
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "taints"}},
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "tainted"}, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "nmi", "namespace": "taints", "labels": {"component": "nmi"}},
            "spec": {"nodeName": "tainted", "containers": [{"name": "nmi", "image": "nmi"}]},
        },
    ]
    status = json.dumps({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    patch = ("patch", "pod", "nmi", "-n", "taints", "--subresource=status", "--type=merge", "-p", status)
    try:
        for item in objects:
            for _ in range(50):
                done = real_server.kubectl("apply", "-f", "-", input=json.dumps(item))
                if "serviceaccount" not in done.stderr:
                    break
            assert done.returncode == 0, done.stderr
        assert real_server.kubectl(*patch).returncode == 0
        yield real_server
    finally:
        real_server.kubectl("delete", "pod", "nmi", "-n", "taints", "--force")
        real_server.kubectl("delete", "node", "tainted")
        real_server.kubectl("delete", "namespace", "taints", "--wait=false")


ACCOUNT = "aad-pod-id-mic-service-account"


@pytest.fixture
async def mic(tainted: RealServer) -> AsyncIterator[KubeClient]:
    """A client with the token of mic's account, which has the shipped role and policy, once both are in force."""
    ask = ("auth", "can-i", "patch", "nodes", f"--as=system:serviceaccount:default:{ACCOUNT}")
    assert tainted.kubectl(*ask).stdout.strip() == "no"
    tainted.kubectl("create", "serviceaccount", ACCOUNT, "-n", "default")
    token = tainted.kubectl("create", "token", ACCOUNT, "-n", "default").stdout.strip()
    settings = KubeSettings(server=tainted.url, ca_file=str(tainted.ca), token_source=StaticToken(token))
    try:
        assert tainted.kubectl("apply", "-f", str(MANIFEST)).returncode == 0
        async with KubeClient(settings, user_agent="test") as client:
            async with asyncio.timeout(90):
                label = {"metadata": {"labels": {"tried": "it"}}}
                while "mic may" not in await refusal(client, label, dryRun="All"):  # noqa: ASYNC110 - on a server
                    await asyncio.sleep(0.2)
            yield client
    finally:
        tainted.kubectl("delete", "-f", str(MANIFEST))
        tainted.kubectl("delete", "serviceaccount", ACCOUNT, "-n", "default")


async def refusal(mic: KubeClient, patch: object, **params: str) -> str:
    """What is said of a merge patch of the node; empty when it is accepted."""
    try:
        await mic.raw("PATCH", "/api/v1/nodes/tainted", params=params, body=patch, content_type=MERGE_PATCH)
    except ApiError as error:
        return str(error)
    return ""


async def test_real_node_loses_that_taint_and_keeps_the_other(tainted: RealServer, mic: KubeClient) -> None:
    """On a real API server mic's patch, with mic's rights and under its policy, takes one taint off."""
    async with KubeClient(tainted.settings(), user_agent="test") as admin:
        found = await admin.get(NODES, "tainted")
        taints = StartupTaints(admin, lambda: [found], namespace="taints", selector="component=nmi", log=get_logger())
        assert await taints._is_ready("tainted")
        keys = [taint.key for taint in (await mic.patch_json(NODES, "tainted", "", removal(found))).spec.taints]
        assert TAINT not in keys
        assert "keep" in keys
        with pytest.raises(Invalid):
            await taints._look_at(found)


async def test_mic_may_change_nothing_else_of_a_node(tainted: RealServer, mic: KubeClient) -> None:
    """Protects nodes from whoever has mic's token: no other taint, label, or field can be changed with it."""
    spec = json.loads(tainted.kubectl("get", "node", "tainted", "-o", "json").stdout)["spec"]
    keep = [taint for taint in spec["taints"] if taint["key"] != TAINT]
    ours, other = ({"key": key, "effect": "NoSchedule"} for key in (TAINT, "other"))
    refused: list[object] = [
        {"spec": {"taints": [ours]}},
        {"spec": {"taints": [*keep, other]}},
        {"spec": {"taints": []}},
        {"spec": {"taints": keep, "unschedulable": True}},
        {"spec": {"taints": keep, "providerID": "azure:///x"}},
        {"spec": {"taints": keep}, "metadata": {"annotations": {"a": "b"}}},
        {"spec": {"taints": keep}, "metadata": {"finalizers": ["example.com/stays"]}},
    ]
    for patch in refused:
        assert "mic may" in await refusal(mic, patch), patch
    assert await refusal(mic, {"spec": {"taints": keep}}, dryRun="All") == ""
