"""The three patches, as functions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podidentity.lab.kube.errors import StatusError
from podidentity.lab.kube.objects import copy
from podidentity.lab.kube.patch import json_patch, merge_patch
from podidentity.lab.kube.strategic import merge

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab~/", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab~/-0", max_size=2), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text("ab", min_size=1, max_size=2), JSON, max_size=4)


def difference(old: Any, new: Any) -> Any:
    """A merge patch from ``old`` to ``new``, neither of which holds a null."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    changed = {
        key: difference(old.get(key), value) for key, value in new.items() if key not in old or old[key] != value
    }
    return {**changed, **{key: None for key in old if key not in new}}


def without_nulls(value: Any) -> Any:
    """The value without nulls in objects, which a merge patch cannot set."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value


@given(OBJECTS, OBJECTS)
def test_merge_patch_reaches_any_object(old: dict[str, Any], new: dict[str, Any]) -> None:
    """The difference of two objects, applied to the first, gives the second."""
    old, new = without_nulls(old), without_nulls(new)
    assert merge_patch(old, difference(old, new)) == new


@given(OBJECTS, JSON)
def test_merge_patch_leaves_its_arguments_alone(old: dict[str, Any], patch: Any) -> None:
    """A patch that is not written after all must not have changed anything."""
    before = copy({"o": old, "p": patch})
    merge_patch(old, patch)
    assert {"o": old, "p": patch} == before


@pytest.mark.parametrize(
    ("operations", "result"),
    [
        ([{"op": "add", "path": "/b/-", "value": 3}], {"a": 1, "b": [1, 2, 3]}),
        ([{"op": "add", "path": "/b/0", "value": 0}], {"a": 1, "b": [0, 1, 2]}),
        ([{"op": "remove", "path": "/b/1"}], {"a": 1, "b": [1]}),
        ([{"op": "replace", "path": "/b/0", "value": 9}], {"a": 1, "b": [9, 2]}),
        ([{"op": "replace", "path": "", "value": {"x": 1}}], {"x": 1}),
        ([{"op": "move", "from": "/a", "path": "/c"}], {"b": [1, 2], "c": 1}),
        ([{"op": "copy", "from": "/b", "path": "/c"}], {"a": 1, "b": [1, 2], "c": [1, 2]}),
        ([{"op": "test", "path": "/a", "value": 1}], {"a": 1, "b": [1, 2]}),
        ([{"op": "add", "path": "/x~1y~0z", "value": 1}], {"a": 1, "b": [1, 2], "x/y~z": 1}),
    ],
)
def test_json_patch(operations: list[dict[str, Any]], result: dict[str, Any]) -> None:
    """Each operation of RFC 6902."""
    document = {"a": 1, "b": [1, 2]}
    assert json_patch(document, operations) == result
    assert document == {"a": 1, "b": [1, 2]}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "/zz/deep", "value": 1},
        {"op": "remove", "path": "/b/7"},
        {"op": "add", "path": "/b/9", "value": 1},
        {"op": "test", "path": "/a", "value": 2},
        {"op": "add", "path": "a", "value": 1},
        {"op": "add", "path": "/a"},
        {"op": "what", "path": "/a"},
        {"op": "move", "path": "/a"},
        {"op": "add", "path": "/a/b/c", "value": 1},
    ],
)
def test_json_patch_that_does_not_apply(operation: dict[str, Any]) -> None:
    """422, and the text kubectl prints."""
    with pytest.raises(StatusError, match="the server rejected our request due to an error in our request") as error:
        json_patch({"a": 1, "b": [1]}, [operation])
    assert error.value.code == 422


@given(
    OBJECTS,
    st.lists(
        st.fixed_dictionaries(
            {"op": st.text(max_size=3), "path": st.text("/ab01-~", max_size=6)}, optional={"value": JSON, "from": JSON}
        )
    ),
)
def test_json_patch_never_crashes(document: dict[str, Any], operations: list[dict[str, Any]]) -> None:
    """Any list of operations applies or is a StatusError."""
    try:
        json_patch(document, operations)
    except StatusError:
        return


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A pod of these containers."""
    return {"spec": {"containers": list(containers), **spec}}


def names(found: dict[str, Any]) -> list[str]:
    """Container names in order."""
    return [container["name"] for container in found["spec"]["containers"]]


A, B = {"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "1"}


def test_lists_merge_by_key() -> None:
    """Containers merge by name, their env by name, ports by containerPort; others stay, behind what is new."""
    patch = pod({"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}]})
    found = merge("Pod", pod(A, B), patch)
    assert names(found) == ["a", "b"]
    assert found["spec"]["containers"][0]["image"] == "2"
    assert [item["name"] for item in found["spec"]["containers"][0]["env"]] == ["Y", "X"]


def test_order_and_delete_directives() -> None:
    """$patch: delete removes by key, $setElementOrder orders what is left and what is new."""
    patch = pod({"name": "a", "$patch": "delete"}, {"name": "c", "image": "1"})
    patch["spec"]["$setElementOrder/containers"] = [{"name": "c"}, {"name": "b"}]
    assert names(merge("Pod", pod(A, B), patch)) == ["c", "b"]


def test_order_without_changes() -> None:
    """An order alone re-orders."""
    patch = {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}
    assert names(merge("Pod", pod(A, B), patch)) == ["b", "a"]


def test_replace_directive() -> None:
    """$patch: replace on a map and in a list replaces it whole."""
    assert merge("Pod", pod(A), {"spec": {"$patch": "replace", "nodeName": "n"}}) == {"spec": {"nodeName": "n"}}
    assert names(merge("Pod", pod(A), pod({"$patch": "replace"}, B))) == ["b"]


def test_atomic_lists_are_replaced() -> None:
    """Tolerations and arguments have no key."""
    old = pod(A, tolerations=[{"key": "x"}])
    assert merge("Pod", old, {"spec": {"tolerations": [{"key": "y"}]}})["spec"]["tolerations"] == [{"key": "y"}]


def test_values_merge_as_sets() -> None:
    """Finalizers are added in front, and removed by $deleteFromPrimitiveList."""
    old = {"metadata": {"finalizers": ["a", "b"]}}
    patch = {"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert merge("Pod", old, patch)["metadata"]["finalizers"] == ["c", "b"]


def test_retain_keys() -> None:
    """A Deployment's strategy loses what $retainKeys does not name."""
    old = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert merge("Deployment", old, patch)["spec"]["strategy"] == {"type": "Recreate"}


def test_null_removes() -> None:
    """Null removes a field at any depth."""
    old = {"metadata": {"labels": {"a": "1", "b": "2"}}, "data": {"k": "v"}}
    assert merge("ConfigMap", old, {"metadata": {"labels": {"a": None}}, "data": None}) == {
        "metadata": {"labels": {"b": "2"}}
    }


def test_missing_key_is_refused() -> None:
    """An element without its merge key cannot be placed."""
    with pytest.raises(StatusError, match="does not contain declared merge key: name"):
        merge("Pod", pod(A), pod({"image": "x"}))


@given(OBJECTS, OBJECTS)
def test_strategic_merge_leaves_its_arguments_alone(old: dict[str, Any], patch: dict[str, Any]) -> None:
    """As with the merge patch."""
    before = copy({"o": old, "p": patch})
    merge("Pod", {"spec": old}, {"spec": patch})
    assert {"o": old, "p": patch} == before
