"""Endpoints, stale and live sockets, ports, and the process under SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from tests.ports import free_port

from podidentity.config.csi import csi_settings
from podidentity.config.errors import ConfigError
from podidentity.csi.app import build_app, started
from podidentity.csi.server import Endpoint, ask_version, make_way, parse_endpoint
from podidentity.csi.status import health_app, listening

RUN = (
    "import asyncio, sys; from podidentity.config.csi import csi_settings; from podidentity.csi.app import run; "
    "asyncio.run(run(csi_settings(sys.argv[1:], {})))"
)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("unix:///provider/azure.sock", Endpoint("unix", "/provider/azure.sock")),
        ("UNIX://rel.sock", Endpoint("unix", "rel.sock")),
        ("tcp://127.0.0.1:0", Endpoint("tcp", "127.0.0.1:0")),
    ],
)
def test_endpoints(text: str, endpoint: Endpoint) -> None:
    """Both schemes of the contract are read."""
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize("text", ["", "unix", "unix://", "http://x", "/azure.sock"])
def test_invalid_endpoints(text: str) -> None:
    """Anything else is the contract's error."""
    with pytest.raises(ConfigError, match=f"invalid endpoint: {text}"):
        parse_endpoint(text)


def test_stale_socket_is_removed(tmp_path: Path) -> None:
    """A socket that a dead provider left is removed."""
    path = tmp_path / "azure.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    make_way(str(path))
    assert not path.exists()
    make_way(str(path))


def test_live_socket_is_refused(tmp_path: Path) -> None:
    """A socket somebody listens on is left alone."""
    path = tmp_path / "azure.sock"
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen()
        with pytest.raises(ConfigError, match="another provider serves there"):
            make_way(str(path))
        assert path.exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    """A file, a link or a missing folder is named, nothing is removed."""
    file = tmp_path / "file"
    file.write_text("precious")
    link = tmp_path / "link"
    link.symlink_to(file)
    for path, text in (
        (file, "is not a socket"),
        (link, "is not a socket"),
        (tmp_path / "no" / "x", "folder is missing"),
    ):
        with pytest.raises(ConfigError, match=text):
            make_way(str(path))
    assert file.read_text() == "precious"


async def test_second_provider_on_one_socket(tmp_path: Path) -> None:
    """A second provider does not steal the socket of the first, which goes on serving; leaving removes it."""
    path = tmp_path / "azure.sock"
    settings = replace(csi_settings([f"--endpoint=unix://{path}"], {}), healthz_port=0, prometheus_port=0)
    async with started(build_app(settings, environ={})) as running:
        with pytest.raises(ConfigError, match="another provider"):
            async with started(build_app(settings, environ={})):
                pass
        assert await ask_version(running.target, 5) == "secrets-store-csi-driver-provider-azure"
    assert not path.exists()
    with pytest.raises(OSError, match="UNAVAILABLE"):
        await ask_version(running.target, 1)


async def test_tcp_endpoint() -> None:
    """A TCP endpoint works, and a busy one is refused in one line."""
    settings = replace(csi_settings(["--endpoint=tcp://127.0.0.1:0"], {}), healthz_port=0, prometheus_port=0)
    async with started(build_app(settings, environ={})) as running:
        assert await ask_version(running.target, 5)
        busy = replace(settings, endpoint=f"tcp://{running.target}")
        with pytest.raises(ConfigError, match="cannot listen on tcp"):
            async with started(build_app(busy, environ={})):
                pass


async def test_k8_busy_port(tmp_path: Path) -> None:
    """A busy health port is refused with its number, and the socket made before it is taken away again."""
    settings = replace(csi_settings([f"--endpoint=unix://{tmp_path}/a.sock"], {}), healthz_port=0, prometheus_port=0)
    async with started(build_app(settings, environ={})) as running:
        busy = replace(settings, endpoint=f"unix://{tmp_path}/b.sock", healthz_port=running.healthz_port)
        with pytest.raises(ConfigError, match=f"port {running.healthz_port} is in use by "):
            async with started(build_app(busy, environ={})):
                pass
    with pytest.raises(OSError, match="UNAVAILABLE"):
        await ask_version(f"unix:{tmp_path}/b.sock", 1)


def test_unknown_cloud() -> None:
    """An unknown default cloud ends the start."""
    with pytest.raises(ConfigError, match="is not known"):
        build_app(csi_settings(["--cloud-name=Mars"], {}), environ={})


async def test_health_tells_why_not() -> None:
    """A check that fails is a 503 with its text."""

    async def check() -> None:
        raise OSError("nobody there")

    async with (
        listening(health_app("/healthz", check), 0, host="127.0.0.1") as port,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/healthz") as response,
    ):
        assert (response.status, await response.text()) == (503, "nobody there\n")


async def test_process_ends_on_sigterm(tmp_path: Path) -> None:
    """The process serves, ends by itself with 0 on SIGTERM and leaves no socket; after SIGKILL it starts again."""
    path = tmp_path / "azure.sock"
    arguments = [f"--endpoint=unix://{path}", f"--healthz-port={free_port()}", f"--prometheus-port={free_port()}"]

    async def start() -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", RUN, *arguments, env={**os.environ}, stderr=asyncio.subprocess.PIPE
        )
        assert process.stderr is not None
        async with asyncio.timeout(20):
            async for line in process.stderr:
                if b"registered and exported metrics" in line:
                    return process
        raise AssertionError("the provider ended")

    process = await start()
    assert await ask_version(f"unix:{path}", 5)
    process.kill()
    await process.communicate()
    assert path.exists()
    process = await start()
    assert await ask_version(f"unix:{path}", 5)
    process.send_signal(signal.SIGTERM)
    _, rest = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 0
    assert b"Traceback" not in rest
    assert not path.exists()
