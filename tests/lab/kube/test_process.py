"""The server as a process: nothing acknowledged is lost, whatever kills it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from tests.lab.kube.certificates import Authority, rsa_key
from tests.lab.kube.wire import CONFIG_MAPS, CRDS, THINGS, Client, client_session, config_map, thing, thing_crd

from podidentity.lab.kube import ApiConfig, serve


class Server:
    """Command line and files of one server process."""

    def __init__(self, folder: Path) -> None:
        self.ca = Authority(folder / "pki")
        self.cert, self.key = self.ca.issue("server", "apiserver")
        self.admin = self.ca.issue("admin", "root", "system:masters")
        self.sa_key = rsa_key(folder / "sa.key")
        self.folder = folder
        self.ready = folder / "ready"
        self.unix = folder / "api.sock"

    def arguments(self) -> list[str]:
        """The whole command line."""
        options = {
            "data-dir": self.folder / "data",
            "tls-cert": self.cert,
            "tls-key": self.key,
            "client-ca": self.ca.certificate,
            "sa-key": self.sa_key,
            "listen": "127.0.0.1:0",
            "unix": self.unix,
            "ready-file": self.ready,
        }
        return [f"--{name}={value}" for name, value in options.items()]

    def context(self) -> ssl.SSLContext:
        """The administrator's TLS."""
        context = ssl.create_default_context(cafile=str(self.ca.certificate))
        context.load_cert_chain(*self.admin)
        return context

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[asyncio.subprocess.Process, aiohttp.ClientSession]]:
        """The process, ready, and an administrator's session."""
        self.ready.unlink(missing_ok=True)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "podidentity.lab.kube", *self.arguments(), stderr=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(20):
                while not self.ready.exists():
                    assert process.returncode is None, (await process.communicate())[1].decode()
                    await asyncio.sleep(0.02)
            url = self.ready.read_text().strip()
            connector = aiohttp.TCPConnector(ssl=self.context())
            async with aiohttp.ClientSession(url, connector=connector) as session:
                yield process, session
        finally:
            if process.returncode is None:
                process.terminate()
            await process.communicate()


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A server that is not started yet."""
    return Server(tmp_path)


async def test_kill_nine_loses_nothing_acknowledged(server: Server) -> None:
    """After SIGKILL in the middle of writes every acknowledged object is there with its resourceVersion."""
    acknowledged: dict[str, str] = {}

    async def writer(session: aiohttp.ClientSession, number: int) -> None:
        for count in itertools.count():
            name = f"c{number}-{count}"
            async with session.post(CONFIG_MAPS, json=config_map(name)) as answer:
                body = await answer.json()
                assert answer.status == 201, body
                acknowledged[name] = body["metadata"]["resourceVersion"]

    async with server.running() as (process, session):
        tasks = [asyncio.ensure_future(writer(session, number)) for number in range(4)]
        while len(acknowledged) < 200:  # noqa: ASYNC110 - the point is to kill it in the middle
            await asyncio.sleep(0.01)
        process.kill()
        await process.wait()
        await asyncio.gather(*tasks, return_exceptions=True)
    async with server.running() as (_, session), session.get(CONFIG_MAPS) as answer:
        body = await answer.json()
    found = {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in body["items"]}
    assert acknowledged.items() <= found.items()
    assert int(body["metadata"]["resourceVersion"]) >= max(map(int, acknowledged.values()))


async def test_stops_in_order_on_sigterm(server: Server) -> None:
    """SIGTERM ends open watches cleanly and the process with 0; it offers a Unix socket meanwhile."""
    async with server.running() as (process, session):
        watch = await session.get(CONFIG_MAPS, params={"watch": "true"})
        connector = aiohttp.UnixConnector(str(server.unix))
        await connector.close()
        reader, writer = await asyncio.open_unix_connection(
            str(server.unix), ssl=server.context(), server_hostname="localhost"
        )
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"ok")
        writer.close()
        process.terminate()
        async with asyncio.timeout(5):
            assert await watch.content.read() == b""
            assert await process.wait() == 0
        watch.close()


async def test_unusable_files_are_one_line(server: Server) -> None:
    """A missing key ends the process with 1 and one line that names the file."""
    arguments = [*server.arguments(), f"--tls-key={server.folder}/nope"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "podidentity.lab.kube", *arguments, stderr=asyncio.subprocess.PIPE
    )
    _, stderr = await process.communicate()
    assert process.returncode == 1
    assert stderr.decode().count("\n") == 1
    assert stderr.startswith(b"podidentity.lab.kube: ")


async def test_restart_resumes_where_it_was(tmp_path: Path) -> None:
    """Versions go on after the last one, deletions included; custom kinds are served; an old watch gets 410."""
    config = ApiConfig(data_dir=tmp_path)
    async with serve(config) as running, client_session(running) as session:
        api = Client(session, running)
        await api.post(CRDS, thing_crd())
        await api.post(THINGS, thing("a", size=1))
        old = (await api.get(THINGS)).body["metadata"]["resourceVersion"]
        await api.post(CONFIG_MAPS, config_map("gone"))
        await api.delete(f"{CONFIG_MAPS}/gone")
        before = (await api.get("/api/v1/namespaces")).body
    async with serve(config) as running, client_session(running) as session:
        api = Client(session, running)
        after = (await api.get("/api/v1/namespaces")).body
        assert after == before
        assert (await api.get(f"{THINGS}/a")).body["spec"] == {"size": 1}
        assert (await api.get(f"{CONFIG_MAPS}/gone")).status == 404
        made = (await api.post(CONFIG_MAPS, config_map("new"))).body
        assert int(made["metadata"]["resourceVersion"]) == int(before["metadata"]["resourceVersion"]) + 1
        watch = await api.watch(THINGS, resourceVersion=old)
        assert (await watch.next())[1]["code"] == 410


async def test_address_in_use_is_an_error(tmp_path: Path) -> None:
    """A taken port is an OSError of serve, not a server that nobody reaches."""
    async with serve(ApiConfig(plain=True)) as running:
        taken = ApiConfig(plain=True, listen=(("127.0.0.1", running.ports[0]),))
        with pytest.raises(OSError, match="in use"):
            async with serve(taken):
                pass


async def test_plain_text_server_has_no_certificate() -> None:
    """`plain` serves http, for tests that need no TLS."""
    async with serve(ApiConfig(plain=True)) as running, client_session(running) as session:
        assert running.url.startswith("http://")
        assert running.ca == ""
        with contextlib.closing(await session.get("/version")) as answer:
            assert json.loads(await answer.read())["gitVersion"] == "v1.34.4"
