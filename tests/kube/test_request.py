"""Builders and parsers: exact bytes in and out."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podidentity.api.core import ConfigMap, Pod
from podidentity.api.meta import ObjectMeta
from podidentity.api.resources import AZURE_IDENTITIES, CONFIG_MAPS, NODES, PODS
from podidentity.kube import request as build
from podidentity.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    KubeError,
    KubeUnavailable,
    NotFound,
    Unauthorized,
)
from podidentity.kube.request import Parser
from podidentity.kube.watch import LineSplitter, decode_event


def test_targets() -> None:
    """Each operation has the method, path and query the API documents."""
    assert build.get(NODES, "n").target == "/api/v1/nodes/n"
    assert build.get(AZURE_IDENTITIES, "i", "ns").target == (
        "/apis/aadpodidentity.k8s.io/v1/namespaces/ns/azureidentities/i"
    )
    assert build.list_page(PODS, namespace="ns", label_selector="a=b", limit=0, continue_token="t/+").target == (
        "/api/v1/namespaces/ns/pods?labelSelector=a%3Db&continue=t%2F%2B"
    )
    watch = build.watch(PODS, field_selector="spec.nodeName=n", resource_version="7", timeout=0.2)
    assert watch.target == (
        "/api/v1/pods?fieldSelector=spec.nodeName%3Dn&watch=true&allowWatchBookmarks=true&resourceVersion=7&timeoutSeconds=1"
    )
    assert watch.reads
    patch = build.patch(PODS, "p", "ns", build.MERGE_PATCH, {"a": None}, "status")
    assert (patch.method, patch.target, patch.body) == ("PATCH", "/api/v1/namespaces/ns/pods/p/status", b'{"a":null}')
    assert patch.operation == "patch pods/status"
    assert not patch.reads


def test_bodies() -> None:
    """What is written names its kind, leaves zero values out, and a deletion can be tied to a uid."""
    body = build.create(CONFIG_MAPS, ConfigMap(metadata=ObjectMeta(name="c", namespace="ns"))).body
    assert json.loads(body) == {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "ns"}}
    assert json.loads(build.delete(PODS, "p", "ns", uid="u").body) == {
        "propagationPolicy": "Background",
        "preconditions": {"uid": "u"},
    }
    assert json.loads(build.delete(NODES, "n").body) == {"propagationPolicy": "Background"}


def test_a_name_is_quoted() -> None:
    """Characters a path gives a meaning to are escaped."""
    assert build.get(NODES, "a?b#c d").path == "/api/v1/nodes/a%3Fb%23c%20d"
    with pytest.raises(NotFound):
        build.create(PODS, Pod(metadata=ObjectMeta(name="p", namespace="../x")))


@pytest.mark.parametrize(
    ("code", "reason", "cls"),
    [
        (401, "Unauthorized", Unauthorized),
        (403, "Forbidden", Forbidden),
        (404, "NotFound", NotFound),
        (409, "AlreadyExists", AlreadyExists),
        (409, "Conflict", Conflict),
        (410, "Expired", Gone),
        (422, "Invalid", Invalid),
        (500, "InternalError", ApiError),
    ],
)
def test_error_tree(code: int, reason: str, cls: type[ApiError]) -> None:
    """Each status is the error of the tree that callers tell apart."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "m", "reason": reason, "code": code}
    found = build.error(code, json.dumps(body).encode(), "7")
    assert type(found) is cls
    assert (found.code, found.reason, found.message, found.retry_after) == (code, reason, "m", 7.0)
    assert str(found) == f"m ({code} {reason})"


def test_error_without_status() -> None:
    """Text bodies are quoted, bounded; an empty one is described; any JSON is survived."""
    assert str(build.error(404, b"404 page not found\n")) == "404 page not found (404)"
    assert str(build.error(502, b"")) == "the API answered 502 without a message (502)"
    assert len(str(build.error(502, b"\xff" * 10_000))) < 1100
    assert build.error(500, b'{"kind":3}').message == '{"kind":3}'


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("", None), ("3", 3.0), (" 12 ", 12.0), ("-1", None), ("Fri, 31 Dec", None), ("9" * 40, None), ("²", None)],
)
def test_retry_after(header: str, seconds: float | None) -> None:
    """Only plain seconds are taken from the header."""
    assert build.seconds(header) == seconds


def test_deleted() -> None:
    """Gone is a Status, or an object with nothing left that could hold it; anything else is Terminating."""
    parser = Parser(PODS)
    gone: dict[str, Any] = {"metadata": {"name": "p", "namespace": "n"}}
    held = {"metadata": gone["metadata"] | {"deletionTimestamp": "t", "finalizers": ["f"]}}
    graceful = {"metadata": gone["metadata"] | {"deletionTimestamp": "t", "deletionGracePeriodSeconds": 30}}
    done = {"metadata": gone["metadata"] | {"deletionTimestamp": "t", "deletionGracePeriodSeconds": 0}}
    assert parser.deleted(b'{"kind":"Status","status":"Success"}') is None
    assert parser.deleted(json.dumps(gone).encode()) is None
    assert parser.deleted(json.dumps(done).encode()) is None
    assert parser.deleted(json.dumps(held).encode()) is not None
    assert parser.deleted(json.dumps(graceful).encode()) is not None
    with pytest.raises(KubeUnavailable):
        parser.deleted(b"[]")


def test_an_answer_without_version_is_no_empty_list() -> None:
    """A Status with code 200, or an empty object, must not empty a store; a null list of a real answer does."""
    parser = Parser(PODS)
    for body in (b'{"kind":"Status"}', b"{}", b'{"items":[]}', b"null"):
        with pytest.raises(KubeUnavailable):
            parser.list(body)
    assert parser.list(b'{"metadata":{"resourceVersion":"5"},"items":null}').items == ()


def test_errors_of_a_watch() -> None:
    """An ERROR event carries its code; one without a code is a server error."""
    parser = Parser(PODS)
    with pytest.raises(Gone):
        decode_event(b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}', parser)
    with pytest.raises(ApiError) as caught:
        decode_event(b'{"type":"ERROR","object":{"kind":"Status","message":"etcd"}}', parser)
    assert (caught.value.code, caught.value.message) == (500, "etcd")


def test_deletion_of_an_unreadable_object() -> None:
    """The deletion of an object that does not fit its type is still a deletion."""
    line = b'{"type":"DELETED","object":{"metadata":{"name":"p","namespace":"n","resourceVersion":"4"},"spec":7}}'
    event = decode_event(line, Parser(PODS))
    assert (event.type, event.key, event.object, event.resource_version) == ("DELETED", "n/p", None, "4")


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer_or_a_kube_error(body: bytes) -> None:
    """No answer, however broken, raises anything but a KubeError."""
    parser = Parser(PODS)
    for parse in (parser.object, parser.list, parser.deleted, lambda raw: decode_event(raw, parser)):
        try:
            parse(body)
        except KubeError:
            continue
    assert isinstance(build.error(500, body), ApiError)
    assert len(build.identify(body)) == 2


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["metadata", "items", "name", "type", "object", "kind", "code", "labels"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_json_is_an_answer_or_a_kube_error(value: object) -> None:
    """The same for well-formed JSON of the wrong shape."""
    test_any_bytes_are_an_answer_or_a_kube_error.hypothesis.inner_test(msgspec.json.encode(value))  # type: ignore[attr-defined]


@given(st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"")), max_size=6), st.integers(1, 9))
def test_lines_survive_any_cut(lines: list[bytes], step: int) -> None:
    """However the stream is cut into chunks, the same lines come out."""
    whole = b"".join(line + b"\n" for line in lines)
    splitter, found = LineSplitter(), list[bytes]()
    for at in range(0, len(whole), step):
        found += splitter.feed(whole[at : at + step])
    assert found == [line for line in lines if line.strip()]
    assert not splitter.unfinished


def test_line_limit() -> None:
    """The limit counts the unfinished line only, and holds within one chunk too."""
    splitter = LineSplitter(10)
    assert splitter.feed(b"123456789\n123456789\n12345") == [b"123456789", b"123456789"]
    assert splitter.unfinished
    with pytest.raises(KubeUnavailable):
        splitter.feed(b"678901")
    with pytest.raises(KubeUnavailable):
        LineSplitter(10).feed(b"12345678901\n")


def test_query_round_trip() -> None:
    """A selector with every special character arrives as it was written."""
    selector = "a in (b,c),d!=e&f=g+h %/"
    query = build.list_page(PODS, label_selector=selector).target.partition("?")[2]
    assert dict(parse_qsl(query))["labelSelector"] == selector
