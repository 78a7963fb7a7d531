"""The provider as the driver sees it."""

from __future__ import annotations

import asyncio
import stat

import aiohttp
import grpc.aio
import pytest
from aiohttp import web
from tests.csi.conftest import VERSION, Bench, attributes

from podidentity import __version__
from podidentity.csi.proto import provider_pb2


async def test_walkthrough(bench: Bench) -> None:
    """The walkthrough's class gives one file with the secret's bytes, nothing added, and asks nmi and vault once."""
    response = await bench.mount()
    assert [(f.path, f.mode, f.contents) for f in response.files] == [("kvs-test01", 0o644, b"e+9qBwdjC<q6<P_n")]
    assert [(v.id, v.version) for v in response.object_version] == [("secret/kvs-test01", VERSION)]
    assert response.error.code == ""
    ((target, headers),) = bench.nmi.asked
    assert target == "/host/token/?resource=https%3A%2F%2Fvault.azure.net"
    assert (headers["podns"], headers["podname"]) == ("default", "nginx-secrets-store-inline")
    assert "metadata" not in headers
    ((target, headers),) = bench.vault.asked
    assert target == f"/secrets/kvs-test01/{VERSION}?api-version=7.4"
    assert headers["authorization"] == "Bearer pod-token"
