"""The little kubectl: names, kinds and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from podidentity.config.errors import ConfigError
from podidentity.lab.access import Kind, _unknown, find_kind, read_documents, segment

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
