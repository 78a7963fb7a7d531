"""TLS, tokens, client certificates and Unix sockets, over real sockets."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from podidentity.api.resources import PODS
from podidentity.kube.auth import FileToken, StaticToken
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import (
    KubeUnavailable,
    Unauthorized,
)
from podidentity.kube.settings import KubeSettings
from podidentity.kube.transport import PROBES, connector

if TYPE_CHECKING:
    from tests.kube.conftest import Certificates, FakeApi, Served


@asynccontextmanager
async def opened(settings: KubeSettings, **options: object) -> AsyncIterator[KubeClient]:
    """A client with a repeatable random source."""
    async with KubeClient(settings, user_agent="tests/1", rng=random.Random(1), **options) as client:  # type: ignore[arg-type]
        yield client


def tls_settings(url: str, certificates: Certificates, **changes: object) -> KubeSettings:
    """Settings that trust the test's authority."""
    return KubeSettings(server=url, **{"ca_file": str(certificates.folder / "ca.crt"), **changes})  # type: ignore[arg-type]


@pytest.fixture
async def secure(certificates: Certificates, serve: object) -> AsyncIterator[tuple[FakeApi, str]]:
    """An API server with TLS."""
    async with serve(certificates.server_context()) as (api, url):  # type: ignore[operator]
        yield api, url


async def test_token_over_tls_only(secure: tuple[FakeApi, str], served: Served, certificates: Certificates) -> None:
    """The token goes over TLS, and never in clear text."""
    api, url = secure
    async with opened(tls_settings(url, certificates, token_source=StaticToken("s3cret"))) as client:
        await client.server_version()
    assert api.headers[0]["Authorization"] == "Bearer s3cret"
    async with opened(KubeSettings(server=served.url, token_source=StaticToken("s3cret"))) as client:
        await client.server_version()
    assert "Authorization" not in served.api.headers[0]


async def test_token_rotation(secure: tuple[FakeApi, str], certificates: Certificates, tmp_path: Path) -> None:
    """A rotated token file is used from the next request on; a 401 reads it once more; a lasting 401 is an error."""
    api, url = secure
    file = tmp_path / "token"
    file.write_text("one\n")
    async with opened(tls_settings(url, certificates, token_source=FileToken(file))) as client:
        await client.server_version()
        file.write_text("two\n")
        await client.server_version()
        api.fail(401, "Unauthorized")
        await client.server_version()
        file.unlink()
        await client.server_version()
        api.fail(401, "Unauthorized")
        api.fail(401, "Unauthorized")
        with pytest.raises(Unauthorized):
            await client.server_version()
    assert [one["Authorization"] for one in api.headers] == ["Bearer one", *["Bearer two"] * 6]


BOOKMARK = b'{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"12"}}}\n'


async def test_watch_renews_its_token(secure: tuple[FakeApi, str], certificates: Certificates, tmp_path: Path) -> None:
    """A watch that meets a 401 opens again with a newer token."""
    api, url = secure
    (tmp_path / "token").write_text("one")
    api.fail(401, "Unauthorized")
    api.answer(lambda: web.Response(body=BOOKMARK))
    async with opened(tls_settings(url, certificates, token_source=FileToken(tmp_path / "token"))) as client:
        assert [event.type async for event in client.watch(PODS, resource_version="1", timeout=5)] == ["BOOKMARK"]
        api.fail(401, "Unauthorized")
        api.fail(401, "Unauthorized")
        with pytest.raises(Unauthorized):
            await anext(client.watch(PODS, resource_version="1", timeout=5))


async def test_tls_failures(secure: tuple[FakeApi, str], certificates: Certificates) -> None:
    """An unknown authority is refused before anything is sent; insecure accepts it; so does the right name only."""
    api, url = secure
    wrong = tls_settings(url, certificates, ca_file=str(certificates.folder / "stranger.crt"))
    async with opened(wrong) as client:
        with pytest.raises(KubeUnavailable, match="certificate"):
            await client.server_version()
    assert api.requests == []
    async with opened(KubeSettings(server=url, insecure=True)) as client:
        await client.server_version()
    async with opened(tls_settings(url, certificates, tls_server_name="server.test")) as client:
        await client.server_version()
    async with opened(tls_settings(url, certificates, tls_server_name="elsewhere.test")) as client:
        with pytest.raises(KubeUnavailable, match="certificate"):
            await client.server_version()


async def test_rotated_authority(secure: tuple[FakeApi, str], certificates: Certificates, tmp_path: Path) -> None:
    """A CA file that is replaced while we run is used for the next connection."""
    _, url = secure
    authority = tmp_path / "ca.crt"
    authority.write_bytes((certificates.folder / "stranger.crt").read_bytes())
    async with opened(tls_settings(url, certificates, ca_file=str(authority))) as client:
        with pytest.raises(KubeUnavailable):
            await client.server_version()
        authority.write_bytes((certificates.folder / "ca.crt").read_bytes())
        assert await client.server_version()


@pytest.mark.parametrize("as_data", [True, False])
async def test_client_certificate(certificates: Certificates, serve: object, as_data: bool) -> None:
    """A client certificate opens a server that demands one, from files and from data; without it nothing works."""
    folder = certificates.folder
    async with serve(certificates.server_context(ask_client=True)) as (_, url):  # type: ignore[operator]
        settings = tls_settings(
            url, certificates, client_cert_file=str(folder / "client.crt"), client_key_file=str(folder / "client.key")
        )
        if as_data:
            settings = KubeSettings(
                server=url,
                ca_data=(folder / "ca.crt").read_bytes(),
                client_cert_data=(folder / "client.crt").read_bytes(),
                client_key_data=(folder / "client.key").read_bytes(),
            )
        async with opened(settings) as client:
            assert await client.server_version() == "v1.34.4"
        async with opened(tls_settings(url, certificates)) as client:
            with pytest.raises(KubeUnavailable):
                await client.server_version()


@pytest.mark.parametrize("tls", [True, False])
async def test_unix_socket(certificates: Certificates, serve: object, tmp_path: Path, tls: bool) -> None:
    """The API is reached on a Unix socket, with TLS (the certificate is checked) and without."""
    path = str(tmp_path / "api.sock")
    context = certificates.server_context() if tls else None
    async with serve(context, path) as (_, url):  # type: ignore[operator]
        async with opened(tls_settings(url, certificates, unix_socket=path)) as client:
            assert await client.server_version() == "v1.34.4"
        if tls:
            wrong = tls_settings(url, certificates, unix_socket=path, ca_file=str(certificates.folder / "stranger.crt"))
            async with opened(wrong) as client:
                with pytest.raises(KubeUnavailable, match="certificate"):
                    await client.server_version()
    async with opened(tls_settings(url, certificates, unix_socket=str(tmp_path / "none.sock"))) as client:
        with pytest.raises(KubeUnavailable):
            await client.server_version()


async def test_a_silent_server_is_asked_whether_it_is_there() -> None:
    """A watch whose packets are dropped on the way is told so by the kernel, long before a bookmark is missed."""

    async def begin(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        await gone.wait()
        writer.close()

    gone = asyncio.Event()
    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with aiohttp.ClientSession(connector=connector(KubeSettings(server=url))) as session:
        answer = await session.get(url)
        assert answer.connection is not None
        assert answer.connection.transport is not None
        sock = answer.connection.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        found = {option: sock.getsockopt(socket.IPPROTO_TCP, option) for option in PROBES}
        assert found == PROBES
        answer.close()
    gone.set()
    server.close()
    await server.wait_closed()
