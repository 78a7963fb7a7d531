"""Health, readiness and metrics over HTTP."""

from __future__ import annotations

import asyncio
import errno
import socket
from dataclasses import dataclass, field

import aiohttp
import pytest

from podidentity.config.errors import ConfigError
from podidentity.telemetry.metrics import Metrics
from podidentity.telemetry.status import Probe, StatusServer, refusal


@dataclass
class State:
    """What the probes tell."""

    body: str = "Not Active"
    reasons: list[str] = field(default_factory=lambda: ["cache: pods are not synced"])

    @property
    def probe(self) -> Probe:
        """Give the probe of this state."""
        return Probe(lambda: self.body, lambda: self.reasons)


async def fetch(port: int, path: str, method: str = "GET", host: str = "127.0.0.1") -> tuple[int, str]:
    """Give status and body."""
    async with aiohttp.ClientSession() as session, session.request(method, f"http://{host}:{port}{path}") as answer:
        return answer.status, await answer.text()


async def test_health_is_always_200_and_readiness_says_why_not() -> None:
    """The body follows the state, any method is answered, and readiness turns from 503 with reasons to 200."""
    state = State()
    async with StatusServer(port=0, probe=state.probe, metrics=None, host="127.0.0.1") as server:
        assert await fetch(server.port, "/healthz") == (200, "Not Active")
        assert await fetch(server.port, "/readyz") == (503, "cache: pods are not synced\n")
        state.body, state.reasons = "Active", []
        assert await fetch(server.port, "/healthz", "POST") == (200, "Active")
        assert await fetch(server.port, "/readyz") == (200, "ok")
        assert (await fetch(server.port, "/metrics"))[0] == 404
        assert (await fetch(server.port, "/debug/pprof/"))[0] == 404


async def test_status_is_one_json_object() -> None:
    """People read /status on the probe port; a process that has none answers 404, and nothing but GET is taken."""
    probe = Probe(lambda: "Active", list, status=lambda: {"ready": True})
    async with StatusServer(port=0, probe=probe, metrics=None, host="127.0.0.1") as server:
        assert await fetch(server.port, "/status") == (200, '{\n  "ready": true\n}\n')
        assert (await fetch(server.port, "/status", "POST"))[0] == 405
    async with StatusServer(port=0, probe=State().probe, metrics=None, host="127.0.0.1") as server:
        assert (await fetch(server.port, "/status"))[0] == 404


async def test_d24_m40_m45_health_is_silent_when_the_loop_hangs() -> None:
    """Nobody but the loop that does the work answers for it; profiling is on no port at all."""
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    async with StatusServer(port=0, probe=State().probe, metrics=None, host="127.0.0.1") as server:
        with socket.create_connection(("127.0.0.1", server.port)) as kubelet:
            kubelet.sendall(request)
            kubelet.settimeout(0.3)
            with pytest.raises(TimeoutError):
                kubelet.recv(1)
            kubelet.settimeout(5)
            assert (await asyncio.to_thread(kubelet.recv, 100)).startswith(b"HTTP/1.1 200 ")
        assert (await fetch(server.port, "/debug/pprof/"))[0] == 404


async def test_metrics_are_served_on_both_families() -> None:
    """Without a host the server answers on IPv4 and IPv6 at one port."""
    metrics = Metrics()
    metrics.count("mic_cycle_count")
    async with StatusServer(port=0, probe=None, metrics=metrics) as server:
        for host in ("127.0.0.1", "[::1]"):
            status, text = await fetch(server.port, "/metrics", host=host)
            assert (status, "aadpodidentity_mic_cycle_count 1.0" in text) == (200, True)
        assert (await fetch(server.port, "/healthz"))[0] == 404


async def test_a_given_ipv6_host_is_used() -> None:
    """A host is bound as given."""
    async with StatusServer(port=0, probe=State().probe, metrics=None, host="::1") as server:
        assert await fetch(server.port, "/healthz", host="[::1]") == (200, "Not Active")
        with pytest.raises(aiohttp.ClientConnectorError):
            await fetch(server.port, "/healthz")


async def test_a_busy_port_names_its_holder() -> None:
    """Who finds the port taken reads which one and by whom."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"^127.0.0.1 port {port} is in use by .+ \(pid \d+\); free it"):
            async with StatusServer(port=port, probe=None, metrics=None, host="127.0.0.1"):
                pass
        with pytest.raises(ConfigError, match=rf"^port {port} is in use"):
            async with StatusServer(port=port, probe=None, metrics=None):
                pass


async def test_an_address_that_is_not_here_is_refused() -> None:
    """An address of another machine is an error in one line."""
    with pytest.raises(ConfigError, match=r"^cannot listen on 192\.0\.2\.1 port 1234: "):
        async with StatusServer(port=1234, probe=None, metrics=None, host="192.0.2.1"):
            pass


async def test_leaving_ends_slow_peers() -> None:
    """A peer that never finishes its request neither delays the end nor survives it."""
    async with StatusServer(port=0, probe=State().probe, metrics=None, host="127.0.0.1") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        await writer.drain()
        assert await fetch(server.port, "/healthz") == (200, "Not Active")
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(("idle", "lifetime"), [(0.2, 30.0), (30.0, 0.4)])
async def test_no_connection_lives_for_ever(idle: float, lifetime: float) -> None:
    """A silent connection ends by the idle time, one that drips its request by its lifetime; others are served."""
    async with StatusServer(
        port=0, probe=State().probe, metrics=None, host="127.0.0.1", idle_seconds=idle, lifetime_seconds=lifetime
    ) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" if idle < lifetime else b"GET /healthz HTTP/1.1\r\n")
        async with asyncio.timeout(10):
            await reader.read()
        writer.close()
        await writer.wait_closed()
        assert await fetch(server.port, "/healthz") == (200, "Not Active")


def test_a_privileged_port_says_so() -> None:
    """Without the right to a low port the line says what would work; a holder that cannot be told is left out."""
    words = refusal(None, 80, PermissionError(errno.EACCES, "Permission denied"))
    assert words == "port 80 needs more rights than this process has; choose one above 1023"
    assert refusal(None, 1, OSError(errno.EADDRINUSE, "x")) == "port 1 is in use; free it or choose another"


async def test_malformed_requests_get_400() -> None:
    """Bytes that are no HTTP and overlong lines are refused, and the server lives on."""
    async with StatusServer(port=0, probe=State().probe, metrics=None, host="127.0.0.1") as server:
        for sent in (b"\x16\x03\x01\x00\xa5\r\n\r\n", b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(sent)
            assert b" 400 " in (await reader.read()).split(b"\r\n")[0]
            writer.close()
            await writer.wait_closed()
        assert await fetch(server.port, "/healthz") == (200, "Not Active")
