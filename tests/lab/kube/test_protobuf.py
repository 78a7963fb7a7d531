"""The protobuf bodies of kubectl's typed clients."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.lab.kube.wire import Client

from podidentity.lab.kube.errors import StatusError
from podidentity.lab.kube.protobuf import MAGIC, decode_object


def varint(number: int) -> bytes:
    """One varint."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def part(number: int, value: bytes | str | int) -> bytes:
    """One field."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def envelope(version: str, kind: str, raw: bytes) -> bytes:
    """A whole body."""
    return MAGIC + part(1, part(1, version) + part(2, kind)) + part(2, raw) + part(3, "") + part(4, "")


def test_secret() -> None:
    """Maps, bytes as base64, type; empty sub-messages and times are dropped."""
    meta = part(1, "s") + part(2, "") + part(3, "default") + part(8, b"") + part(11, part(1, "k") + part(2, "v"))
    raw = part(1, meta) + part(2, part(1, "a") + part(2, b"\x00\xff")) + part(3, "helm.sh/release.v1")
    assert decode_object(envelope("v1", "Secret", raw)) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "namespace": "default", "labels": {"k": "v"}},
        "data": {"a": base64.b64encode(b"\x00\xff").decode()},
        "type": "helm.sh/release.v1",
    }


def test_token_request() -> None:
    """Repeated text, a nested reference and a number."""
    spec = part(1, "a") + part(1, "b") + part(3, part(1, "Pod") + part(3, "p")) + part(4, 3600)
    body = decode_object(envelope("authentication.k8s.io/v1", "TokenRequest", part(1, b"") + part(2, spec)))
    expected = {"audiences": ["a", "b"], "boundObjectRef": {"kind": "Pod", "name": "p"}, "expirationSeconds": 3600}
    assert body["spec"] == expected


def test_unknown_kinds_and_fields_are_refused_by_name() -> None:
    """Nothing is silently lost."""
    with pytest.raises(StatusError, match=r"kind Job is not part of .*--api-server=real"):
        decode_object(envelope("batch/v1", "Job", b""))
    with pytest.raises(StatusError, match="field 99"):
        decode_object(envelope("v1", "ConfigMap", part(99, "x")))


@given(st.binary(max_size=64), st.sampled_from(["Secret", "Deployment", "Service", "TokenRequest", "DeleteOptions"]))
def test_any_bytes_are_decoded_or_refused(raw: bytes, kind: str) -> None:
    """Malformed bodies are a StatusError, never another exception."""
    for body in (raw, MAGIC + raw, envelope("v1", kind, raw)):
        with contextlib.suppress(StatusError):
            assert isinstance(decode_object(body), dict)


async def test_bodies_are_taken_over_http(api: Client) -> None:
    """A protobuf POST creates, and DeleteOptions in protobuf delete."""
    path, media = "/api/v1/namespaces", "application/vnd.kubernetes.protobuf"
    made = await api.post(path, envelope("v1", "Namespace", part(1, part(1, "n"))), type=media)
    assert (made.status, made.body["status"]["phase"]) == (201, "Active")
    options = envelope("v1", "DeleteOptions", part(4, "Background"))
    assert (await api.call("DELETE", f"{path}/n", options, type=media)).body["status"]["phase"] == "Terminating"
