"""Probes: counting, and what each kind does."""

import asyncio
from collections.abc import Sequence

import aiohttp
import pytest
from aiohttp import web

from podidentity.lab.node.objects import ContainerPort, ContainerSpec, EnvVar, ExecAction, HttpGet, Probe, TcpSocket
from podidentity.lab.node.probes import Count, ProbeError, Prober, port_number, watch

SPEC = ContainerSpec(name="main", ports=(ContainerPort(name="web", container_port=8080),))


def test_thresholds() -> None:
    """Protects failureThreshold and successThreshold: in a row, not in all."""
    probe = Probe(failure_threshold=2, success_threshold=2)
    count, seen = Count(), []
    for result in (True, False, True, True, False, True, False, False, True):
        count = count.after(result, probe)
        seen.append(count.healthy)
    assert seen == [None, None, None, True, True, True, True, False, False]


def test_ports() -> None:
    """Protects named ports, and the message for a name that is none."""
    assert [port_number(port, SPEC) for port in (1, "web", "81")] == [1, 8080, 81]
    with pytest.raises(ProbeError, match="couldn't find port: nope"):
        port_number("nope", SPEC)


async def command(words: Sequence[str], seconds: float) -> tuple[int, bytes]:
    """A container's command: ``ok``, or what it was called with and 1."""
    if words == ("hang",):
        raise TimeoutError
    return (0, b"") if words == ("ok",) else (1, " ".join(words).encode())


async def probed(probe: Probe) -> str:
    """The message of one failed probe, empty for success."""
    async with aiohttp.ClientSession() as session:
        try:
            await Prober(session, SPEC, "127.0.0.1", command).once(probe)
        except ProbeError as error:
            return str(error)
    return ""


async def test_http_probes() -> None:
    """Protects the status codes that count, headers, and a redirect not being followed."""

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/slow":
            await asyncio.sleep(30)
        if request.headers.get("X") != "y":
            return web.Response(status=400)
        return web.Response(status=int(request.path[1:]), headers={"Location": "/500"})

    app = web.Application()
    app.router.add_get("/{any}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    headers = (EnvVar(name="X", value="y"),)

    def get(path: str) -> Probe:
        return Probe(http_get=HttpGet(path=path, port=port, http_headers=headers))

    assert [await probed(get(path)) for path in ("/200", "204", "/302")] == ["", "", ""]
    assert await probed(get("/500")) == "HTTP probe failed with statuscode: 500"
    assert await probed(get("/slow")) == "no answer within 1 s"
    assert await probed(Probe(tcp_socket=TcpSocket(port=port))) == ""
    await runner.cleanup()
    assert "Connect" in await probed(get("/200"))
    assert (await probed(Probe(tcp_socket=TcpSocket(port=port)))).startswith("dial tcp: ")


async def test_commands_as_probes() -> None:
    """Protects exec probes: exit code, the message, time; and a kind that the lab does not have."""
    assert await probed(Probe(exec=ExecAction(command=("ok",)))) == ""
    assert await probed(Probe(exec=ExecAction(command=("not", "ok")))) == "not ok"
    assert await probed(Probe(exec=ExecAction(command=("hang",)))) == "no answer within 1 s"
    assert await probed(Probe()) == "the lab has no probes of this kind"


@pytest.mark.looptime
async def test_a_watch_tells_changes_only_at_the_probes_pace() -> None:
    """Protects delay, period and thresholds in time: three failures at 10 s each after a first 5 s."""
    loop = asyncio.get_running_loop()
    begun, told, failures, results = loop.time(), [], [], iter([0, 1, 1, 1, 1, 0, 0])

    async def run(words: Sequence[str], seconds: float) -> tuple[int, bytes]:
        return next(results, 0), b"sick"

    async def changed(healthy: bool) -> None:
        told.append((round(loop.time() - begun), healthy))

    probe = Probe(exec=ExecAction(command=("x",)), initial_delay_seconds=5, period_seconds=10)
    async with aiohttp.ClientSession() as session:
        prober = Prober(session, SPEC, "127.0.0.1", run)
        task = asyncio.create_task(watch(probe, prober, changed, failures.append))
        await asyncio.sleep(100)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert told == [(5, True), (35, False), (55, True)]
    assert failures == ["sick"] * 4
