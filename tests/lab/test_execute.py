"""``lab exec`` against a server that speaks kubectl's protocol."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence

import aiohttp
import pytest
from aiohttp import web

from podidentity.config.errors import ConfigError
from podidentity.lab.execute import STDERR, STDOUT, run_in_pod

EXIT_7 = {"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}}


class Pods:
    """Plays an API server with one pod ``shell``, whose commands write ``frames``, and one that waits."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Upgrade for ``shell``; the words of the API for anything else."""
        if request.path.endswith("/shell/exec"):
            socket = web.WebSocketResponse(protocols=["v5.channel.k8s.io"])
            await socket.prepare(request)
            for frame in self.frames:
                await socket.send_bytes(frame)
            await socket.close()
            return socket
        if request.path.endswith("/waiting"):
            return web.json_response({"metadata": {"name": "waiting"}, "status": {"phase": "Pending"}})
        code = 500 if "/waiting/" in request.path else 404
        return web.json_response({"message": 'pods "nope" not found'}, status=code)


@pytest.fixture
async def pods() -> AsyncIterator[Pods]:
    """The server, on loopback."""
    fake = Pods()
    app = web.Application()
    app.router.add_get("/{path:.*}", fake.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    fake.url = f"http://{host}:{port}"
    yield fake
    await runner.cleanup()


async def ran(pods: Pods, pod: str, frames: Sequence[bytes] = ()) -> tuple[int, list[tuple[int, bytes]]]:
    """Exit code and what the sink got."""
    pods.frames = list(frames)
    heard: list[tuple[int, bytes]] = []
    async with aiohttp.ClientSession() as session:
        code = await run_in_pod(
            session, pods.url, "default", pod, ["ls"], lambda channel, data: heard.append((channel, data))
        )
    return code, heard


async def test_output_comes_in_its_order_with_the_exit_code(pods: Pods) -> None:
    """Both streams are told apart, every byte as it was written, and the command's own exit code is given."""
    frames = [b"\x01out\xff\n", b"\x02err\n", b"\x01", b"\x01more", b"\x03" + json.dumps(EXIT_7).encode()]
    assert await ran(pods, "shell", frames) == (7, [(STDOUT, b"out\xff\n"), (STDERR, b"err\n"), (STDOUT, b"more")])


async def test_a_lost_connection_is_not_success(pods: Pods) -> None:
    """Without the final status nobody knows how the command ended."""
    with pytest.raises(ConfigError, match="ended before the command did"):
        await ran(pods, "shell", [b"\x01half"])


@pytest.mark.parametrize(
    ("pod", "words"),
    [("nope", 'pods "nope" not found'), ("waiting", 'pod "waiting" is Pending: '), ("a/b", "cannot be")],
)
async def test_a_refusal_says_why(pods: Pods, pod: str, words: str) -> None:
    """An unknown pod and one that does not run yet are told in words."""
    with pytest.raises(ConfigError, match=words):
        await ran(pods, pod)
