"""What no driver sends: the provider refuses it, says why where it can, and serves the next mount."""

from __future__ import annotations

import asyncio

import grpc.aio
import pytest
from tests.csi.conftest import Bench, attributes

from podidentity.csi.proto import provider_pb2

MOUNT = "/v1alpha1.CSIDriverProvider/Mount"
LARGE = 5 * 1024 * 1024


async def answer(bench: Bench, raw: bytes, seconds: float = 10) -> grpc.StatusCode:
    """The status of a Mount with these bytes as its message."""
    call = bench.channel.unary_unary(MOUNT, request_serializer=bytes, response_deserializer=bytes)
    try:
        await call(raw, timeout=seconds)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def mount(text: str = "", secrets: str = "{}", permission: str = "420") -> bytes:
    """A Mount's message."""
    return provider_pb2.MountRequest(attributes=text, secrets=secrets, permission=permission).SerializeToString()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xff\xff\xff",
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x08\x01",
        mount(),
        mount("[]"),
        mount("null"),
        mount("{"),
        mount('"text"'),
        mount('{"objects": {"a": 1}}'),
        mount('{"objects": "' + "[" * 50_000 + '"}'),
        mount("[" * 100_000),
        mount(attributes(), secrets="[]"),
        mount(attributes(), secrets='{"clientid": 1}'),
        mount(attributes(), secrets="null"),
        mount(attributes(), permission="rw-r--r--"),
        mount(attributes(), permission="-1"),
        mount(attributes(), permission="99999999999999999999"),
        mount(attributes(keyvaultName="\x00")),
        mount(attributes(objects="\ufffe")),
    ],
    ids=range(20),
)
async def test_a_malformed_request_is_refused(bench: Bench, raw: bytes) -> None:
    """It is an error of that call: neither nmi nor the vault hears of it, and the next mount works."""
    code = await answer(bench, raw)
    assert code in {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.OK}
    if code is grpc.StatusCode.OK:
        assert raw in {mount(attributes(), secrets='{"clientid": 1}'), mount(attributes(), secrets="null")}
    else:
        assert bench.nmi.asked == []
        assert bench.vault.asked == []
    assert len((await bench.mount()).files) == 1


async def test_a_message_that_is_too_large(bench: Bench) -> None:
    """The 4 MiB limit of gRPC holds for what comes in; the connection goes on."""
    assert await answer(bench, mount("x" * LARGE)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len((await bench.mount()).files) == 1


async def test_a_deadline_that_is_over(bench: Bench) -> None:
    """The call ends at once, without a file."""
    assert await answer(bench, mount(attributes()), seconds=0) is grpc.StatusCode.DEADLINE_EXCEEDED
    assert len((await bench.mount()).files) == 1


async def test_many_mounts_of_one_target(bench: Bench) -> None:
    """The driver may send a mount again before the first has ended: each gets the same answer."""
    answers = await asyncio.gather(*(bench.mount() for _ in range(20)))
    assert len({one.SerializeToString(deterministic=True) for one in answers}) == 1
