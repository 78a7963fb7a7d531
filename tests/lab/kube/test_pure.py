"""Selectors, ages, JSONPath, the words of pods, field types: small functions with a contract of their own."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podidentity.lab.kube.ages import age, human
from podidentity.lab.kube.columns import COLUMNS
from podidentity.lab.kube.errors import StatusError
from podidentity.lab.kube.jsonpath import find
from podidentity.lab.kube.kinds import BUILT_IN
from podidentity.lab.kube.labelselector import parse_labels
from podidentity.lab.kube.podcells import ready, restarts, status
from podidentity.lab.kube.schema import conform
from podidentity.lab.kube.selectors import matches, parse_fields
from podidentity.lab.kube.target import Target, parse
from podidentity.lab.kube.types import SCALARS, types


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (128, "2m8s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (12_000, "3h20m"),
        (30_000, "8h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (180_000, "2d2h"),
        (8 * 86_400, "8d"),
        (3 * 365 * 86_400, "3y"),
        (3 * 365 * 86_400 + 86_400, "3y1d"),
        (9 * 365 * 86_400, "9y"),
        (-5, "<invalid>"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    """Durations read as kubectl prints them."""
    assert human(seconds) == text


def test_unreadable_age() -> None:
    """An object without a time has an unknown age."""
    assert age(None, 0) == "<unknown>"


@given(st.text("ab=!,() in", max_size=20))
def test_any_label_selector_parses_or_is_400(text: str) -> None:
    """No text crashes the parser; what parses can be matched."""
    with contextlib.suppress(StatusError):
        assert matches(parse_labels(text), {"a": "b"}) in {True, False}


@given(st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz")), st.sampled_from("abc"), st.sampled_from("xyz"))
def test_negations_are_negations(labels: dict[str, str], key: str, value: str) -> None:
    """`=` and `!=`, `in` and `notin`, `k` and `!k` never agree."""
    for yes, no in (
        (f"{key}={value}", f"{key}!={value}"),
        (f"{key} in ({value})", f"{key} notin ({value})"),
        (key, f"!{key}"),
    ):
        assert matches(parse_labels(yes), labels) is not matches(parse_labels(no), labels)


def test_field_selector_escapes() -> None:
    """Escaped commas belong to the value."""
    found = parse_fields(r"a=x\,y,b=z", lambda _key: True)
    assert matches(found, {"a": "x,y", "b": "z"})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (".spec.type", 0),
        (".spec.missing.x", None),
        (".spec.list[1]", "b"),
        (".spec.list[-1]", "b"),
        (".spec.list[*]", "a"),
        ('.status.conditions[?(@.type=="Ready")].status', "True"),
        (".metadata.labels['a.b/c']", "v"),
        (r".metadata.labels.a\.b/c", "v"),
        ("{.spec.type}", 0),
        ("range .items", None),
    ],
)
def test_json_path(path: str, value: Any) -> None:
    """The paths printer columns use; anything else finds nothing."""
    obj = {
        "spec": {"type": 0, "list": ["a", "b"]},
        "status": {"conditions": [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]},
        "metadata": {"labels": {"a.b/c": "v"}},
    }
    assert find(path, obj) == value


def container(name: str, **state: Any) -> dict[str, Any]:
    """A container status."""
    return {"name": name, "ready": "running" in state, "restartCount": 0, "state": state}


@pytest.mark.parametrize(
    ("found", "word"),
    [
        ({"phase": "Pending"}, "Pending"),
        ({"phase": "Running", "containerStatuses": [container("a", running={})]}, "Running"),
        (
            {"phase": "Pending", "containerStatuses": [container("a", waiting={"reason": "ContainerCreating"})]},
            "ContainerCreating",
        ),
        (
            {"phase": "Running", "containerStatuses": [container("a", waiting={"reason": "CrashLoopBackOff"})]},
            "CrashLoopBackOff",
        ),
        (
            {"phase": "Succeeded", "containerStatuses": [container("a", terminated={"reason": "Completed"})]},
            "Completed",
        ),
        ({"phase": "Failed", "containerStatuses": [container("a", terminated={"exitCode": 3})]}, "ExitCode:3"),
        ({"phase": "Pending", "initContainerStatuses": [container("i", running={})]}, "Init:0/1"),
        (
            {
                "phase": "Pending",
                "initContainerStatuses": [container("i", terminated={"exitCode": 1, "reason": "Error"})],
            },
            "Init:Error",
        ),
        ({"phase": "Failed", "reason": "Evicted"}, "Evicted"),
    ],
)
def test_status_word(found: dict[str, Any], word: str) -> None:
    """The STATUS column of `kubectl get pods`."""
    obj = {"metadata": {}, "spec": {"initContainers": [{}], "containers": [{}]}, "status": found}
    assert status(obj, 0) == word
    assert status({**obj, "metadata": {"deletionTimestamp": "x"}}, 0) == "Terminating"


def test_ready_and_restarts() -> None:
    """READY counts ready containers of all, RESTARTS says when the last one was."""
    last = {"terminated": {"finishedAt": "1970-01-01T00:01:00Z"}}
    statuses = [container("a", running={}), {**container("b"), "restartCount": 2, "lastState": last}]
    obj = {"spec": {"containers": [{}, {}]}, "status": {"containerStatuses": statuses}}
    assert ready(obj, 0) == "1/2"
    assert restarts(obj, 180) == "2 (2m ago)"


def test_every_type_a_field_names_exists() -> None:
    """The table of types is closed, and covers every kind that is stored."""
    for name, fields in types().items():
        for field in fields.values():
            assert field.of in SCALARS or field.of in types(), f"{name}.{field.name}"
    stored = {kind.kind for kind in BUILT_IN if "list" in kind.verbs}
    assert stored <= set(types())
    assert {kind.resource for kind in BUILT_IN if "list" in kind.verbs} - set(COLUMNS) == {"csidrivers.storage.k8s.io"}


@pytest.mark.parametrize(
    ("method", "path", "target"),
    [
        ("GET", "/api/v1/namespaces", Target("list", "", "v1", "namespaces")),
        ("GET", "/api/v1/namespaces/x", Target("get", "", "v1", "namespaces", "x", "x")),
        ("PUT", "/api/v1/namespaces/x/finalize", Target("update", "", "v1", "namespaces", "x", "x", "finalize")),
        ("GET", "/api/v1/namespaces/x/pods", Target("list", "", "v1", "pods", "x")),
        ("GET", "/api/v1/namespaces/x/pods/p/log", Target("get", "", "v1", "pods", "x", "p", "log")),
        (
            "DELETE",
            "/apis/apps/v1/namespaces/x/daemonsets",
            Target("deletecollection", "apps", "v1", "daemonsets", "x"),
        ),
        ("GET", "/api/v1", None),
        ("GET", "/apis/apps/v1", None),
        ("GET", "/api/v1/namespaces/x/pods/p:80/proxy/a//b", Target("get", "", "v1", "pods", "x", "p:80", "proxy")),
        ("GET", "/api/v1/namespaces/x/pods/proxy/log", Target("get", "", "v1", "pods", "x", "proxy", "log")),
        ("GET", "/api/v1/namespaces/x/pods/proxy//log", None),
        ("GET", "/api/v1/namespaces/proxy//pods", None),
        ("GET", "/api/v1/nodes/n/proxy/a", Target("get", "", "v1", "nodes", "", "n", "proxy")),
        ("GET", "/api/v1/namespaces//pods", None),
        ("GET", "/healthz", None),
    ],
)
def test_paths(method: str, path: str, target: Target | None) -> None:
    """What a URL names."""
    assert parse(method, path, {}) == target


SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "array", "items": {"type": "object", "properties": {"b": {"type": "integer"}}}}},
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3))
def test_pruning_is_stable(obj: dict[str, Any]) -> None:
    """What a schema has been applied to once has no unknown field left; no value crashes it."""
    conform(SCHEMA, obj)
    assert conform(SCHEMA, obj).unknown == []
