"""The little kubectl: names, kinds and files."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from podidentity.config.errors import ConfigError
from podidentity.kube.auth import StaticToken
from podidentity.kube.client import KubeClient
from podidentity.kube.settings import KubeSettings
from podidentity.lab.access import Kind, _unknown, apply, find_kind, read_documents, segment
from podidentity.lab.kube.config import ApiConfig
from podidentity.lab.kube.serving import serve

PODS = Kind("/api/v1", "", "pods", "Pod", namespaced=True, names=frozenset({"pods", "pod", "po", ""}))
NODES = Kind("/api/v1", "", "nodes", "Node", namespaced=False, names=frozenset({"nodes", "node", "no"}))


def test_a_name_is_one_segment() -> None:
    """What a person types as a name never changes which path is asked."""
    assert PODS.path("a b", "x?y=1#z") == "/api/v1/namespaces/a%20b/pods/x%3Fy%3D1%23z"
    assert NODES.path("ignored") == "/api/v1/nodes"
    for name in ("", ".", "..", "../x", "a/b"):
        with pytest.raises(ConfigError, match="cannot be the name"):
            segment(name)


def test_an_unknown_kind_names_the_nearest() -> None:
    """A slip of the fingers is answered with what was probably meant."""
    assert find_kind([PODS, NODES], "PO") is PODS
    with pytest.raises(ConfigError, match=r'no resource type "pdos"; did you mean pods\?'):
        find_kind([PODS, NODES], "pdos")
    with pytest.raises(ConfigError, match=r'no resource type "qqqqq"$'):
        find_kind([PODS, NODES], "qqqqq")


def test_the_items_of_a_list_are_objects(tmp_path: Path) -> None:
    """`kubectl get -o yaml` writes a List; applying it applies its items."""
    path = tmp_path / "list.yaml"
    path.write_text(
        "kind: List\napiVersion: v1\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n"
        "---\n{apiVersion: v1, kind: Pod, metadata: {name: b}}\n"
    )
    assert [item["metadata"] for item in read_documents(path)] == [{"name": "a"}, {"name": "b"}]


@pytest.mark.parametrize("text", ["", "---\n---\n", "# only a remark\n", "{kind: List, items: []}"])
def test_a_file_without_objects_is_an_error(tmp_path: Path, text: str) -> None:
    """As for kubectl, applying nothing is a mistake, not a success."""
    path = tmp_path / "empty.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="no object in it"):
        read_documents(path)


@pytest.mark.parametrize("text", ["- 1", "1", "{kind: Pod}", "{apiVersion: v1, kind: Pod, metadata: x}", "{items: 1}"])
def test_what_is_no_object_is_named(tmp_path: Path, text: str) -> None:
    """YAML that is no Kubernetes object says what it lacks."""
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"object 1 has no apiVersion, kind or metadata\.name"):
        read_documents(path)


def test_an_unknown_api_version_names_the_one_there_is() -> None:
    """A manifest of another version of Kubernetes says what to write; a kind nobody knows needs its CRD."""
    assert _unknown([PODS, NODES], "v9", "Pod") == "the server has no Pod in v9; write apiVersion: v1"
    assert _unknown([PODS], "a.b/v1", "Car") == "the server has no Car in a.b/v1; apply its CRD first"
    apps = [Kind(f"/apis/apps/{v}", "apps", "x", "X", namespaced=True, names=frozenset()) for v in ("v1", "v1beta1")]
    assert _unknown(apps, "apps/v2", "X").endswith("; write apiVersion: apps/v1 or apps/v1beta1")


class Late(KubeClient):
    """A client of a server that takes its time to serve what a definition defines: it tells of groups at first."""

    late = 3

    async def raw(self, method: str, path: str, **more: Any) -> bytes:
        """Leave the group out of the first answers."""
        answer = await super().raw(method, path, **more)
        if path != "/apis" or self.late == 0:
            return answer
        self.late -= 1
        found = json.loads(answer)
        found["items"] = [item for item in found["items"] if item["metadata"]["name"] != "aadpodidentity.k8s.io"]
        return json.dumps(found).encode()


@pytest.fixture
async def late(tmp_path: Path) -> AsyncIterator[Late]:
    """A client of the embedded API server."""
    async with serve(ApiConfig(unix=tmp_path / "api.sock")) as server:
        settings = KubeSettings(
            server=server.url, ca_data=server.ca.encode(), token_source=StaticToken(server.admin_token)
        )
        async with Late(settings, user_agent="test") as client:
            yield client


def manifest(folder: Path, version: str = "v1") -> Path:
    """A file with a definition and an object of it."""
    shipped = Path(__file__).resolve().parents[2] / "deploy/deployment-rbac.yaml"
    documents: list[Mapping[str, Any]] = list(yaml.safe_load_all(shipped.read_text()))
    (definition,) = [one for one in documents if one["metadata"]["name"] == "azureidentities.aadpodidentity.k8s.io"]
    made = {"apiVersion": f"aadpodidentity.k8s.io/{version}", "kind": "AzureIdentity", "metadata": {"name": "a"}}
    path = folder / "both.yaml"
    path.write_text(yaml.safe_dump_all([definition, made | {"spec": {"type": 0}}]))
    return path


async def test_a_definition_and_its_object(late: Late, tmp_path: Path) -> None:
    """Protects whoever applies both at once: the object waits until the server serves its kind."""
    lines = [line async for line in apply(late, manifest(tmp_path))]
    assert [line.rpartition(" ")[2] for line in lines] == ["created", "created"]
    assert late.late == 0


async def test_a_version_that_no_definition_has(late: Late, tmp_path: Path) -> None:
    """It is not waited for."""
    late.late = 0
    with pytest.raises(ConfigError, match=r"no AzureIdentity in aadpodidentity\.k8s\.io/v7"):
        [line async for line in apply(late, manifest(tmp_path, "v7"))]
