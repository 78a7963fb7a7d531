"""``podidentity lab exec``: kubectl's websocket protocol (v5.channel.k8s.io) for one command without a terminal."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import aiohttp

from podidentity.config.errors import ConfigError

STDOUT, STDERR, STATUS = 1, 2, 3


@dataclass(slots=True)
class Finished:
    """What a command wrote, and its exit code."""

    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    code: int = 0


def exit_code(status: bytes) -> int:
    """The exit code inside a channel-3 Status; ConfigError with the server's words for any other failure."""
    document = json.loads(status)
    if document.get("status") == "Success":
        return 0
    for cause in document.get("details", {}).get("causes", []):
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise ConfigError(str(document.get("message", "the command could not be run")))


async def run_in_pod(
    session: aiohttp.ClientSession, server: str, namespace: str, pod: str, command: list[str]
) -> Finished:
    """Run ``command`` in the pod's first container and wait for its end."""
    query = [("command", word) for word in command] + [("stdout", "true"), ("stderr", "true")]
    url = f"{server}/api/v1/namespaces/{namespace}/pods/{pod}/exec"
    done = Finished()
    try:
        async with session.ws_connect(url, params=query, protocols=["v5.channel.k8s.io"], max_msg_size=0) as socket:
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                    continue
                channel, data = message.data[0], message.data[1:]
                if channel == STATUS:
                    done.code = exit_code(data)
                elif channel in (STDOUT, STDERR):
                    (done.stdout if channel == STDOUT else done.stderr).extend(data)
    except aiohttp.WSServerHandshakeError as error:
        raise ConfigError(f"exec in {namespace}/{pod}: the server answered {error.status} {error.message}") from None
    return done
