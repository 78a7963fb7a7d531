"""``podidentity lab exec``: kubectl's websocket protocol (v5.channel.k8s.io) for one command without a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable

import aiohttp

from podidentity.aio.wording import connection_error
from podidentity.config.errors import ConfigError
from podidentity.lab.access import segment

STDOUT, STDERR, STATUS = 1, 2, 3
Sink = Callable[[int, bytes], None]
"""Takes what the command writes, as it comes: :data:`STDOUT` or :data:`STDERR`, and the bytes."""


def exit_code(status: bytes) -> int:
    """The exit code inside a channel-3 Status; ConfigError with the server's words for any other failure."""
    document = json.loads(status)
    if document.get("status") == "Success":
        return 0
    for cause in document.get("details", {}).get("causes", []):
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise ConfigError(str(document.get("message", "the command could not be run")))


async def run_in_pod(  # noqa: PLR0917 - where, what, and who hears of it
    session: aiohttp.ClientSession, server: str, namespace: str, pod: str, command: list[str], sink: Sink
) -> int:
    """Run ``command`` in the pod's first container and give its exit code; its output goes to ``sink``."""
    query = [("command", word) for word in command] + [("stdout", "true"), ("stderr", "true")]
    url = f"{server}/api/v1/namespaces/{segment(namespace)}/pods/{segment(pod)}"
    try:
        async with session.ws_connect(
            f"{url}/exec", params=query, protocols=["v5.channel.k8s.io"], max_msg_size=0
        ) as socket:
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                    continue
                channel, data = message.data[0], message.data[1:]
                if channel == STATUS:
                    return exit_code(data)
                if channel in {STDOUT, STDERR} and data:
                    sink(channel, data)
    except aiohttp.WSServerHandshakeError as error:
        raise ConfigError(await _why(session, url) or f"exec in {namespace}/{pod}: {error.status}") from None
    except aiohttp.ClientError as error:
        raise ConfigError(f"exec in {namespace}/{pod}: {connection_error(error)}") from None
    raise ConfigError(f"exec in {namespace}/{pod}: the connection ended before the command did")


async def _why(session: aiohttp.ClientSession, pod_url: str) -> str:
    """What is the matter with the pod, as far as the API says; a refused upgrade brings no words of its own."""
    async with session.get(pod_url) as answer:
        document = await answer.json(content_type=None)
    if answer.ok:
        phase = document.get("status", {}).get("phase", "Pending")
        return f'pod "{document["metadata"]["name"]}" is {phase}: commands run only in a running container'
    return str(document.get("message", ""))
