"""The datapath removed from every node: on each one remove and stay; for whoever uninstalls, wait for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final, Protocol

import msgspec

from podidentity.config.errors import ConfigError
from podidentity.kube.errors import KubeError
from podidentity.nmi.datapath.choice import Tool
from podidentity.nmi.datapath.programs import DatapathFailed
from podidentity.telemetry.logging import Logger
from podidentity.telemetry.status import Probe, StatusServer

READY_PATH: Final = "/removed"
"""Not ``/readyz``: the nmi of this node answers that at the same port, before it ends."""
_PAUSE_SECONDS: Final = 1.0
_QUIET_LOOKS: Final = 3
_PATIENCE_SECONDS: Final = 180.0


async def stay_removed(port: int, log: Logger, tools: Sequence[Tool], *, pause: float = _PAUSE_SECONDS) -> None:
    """Remove the datapath and stay until cancelled; ready at ``port`` once it has been gone for three looks.

    ``port`` is the probe port of the nmi of this node: while an nmi holds it, it would repair what is removed.
    """
    reasons = ["the datapath is not removed yet"]
    async with AsyncExitStack() as stack:
        await _listen(stack, port, reasons, log, pause)
        quiet = 0
        while quiet < _QUIET_LOOKS:
            try:
                there = [tool for tool in tools if await tool.installed()]
                for tool in there:
                    await tool.uninstall()
                    log.info("datapath is removed")
            except DatapathFailed as failed:
                log.warning("the datapath could not be removed, trying again", error=str(failed))
                there = list(tools)
            quiet = 0 if there else quiet + 1
            await asyncio.sleep(pause)
        reasons.clear()
        log.info("nothing of the datapath is left; staying until ended")
        await asyncio.Event().wait()


async def _listen(stack: AsyncExitStack, port: int, reasons: list[str], log: Logger, pause: float) -> None:
    said = ""
    while True:
        probe = Probe(lambda: "Active", lambda: reasons, ready_path=READY_PATH)
        server = StatusServer(port=port, probe=probe, metrics=None)
        try:
            await stack.enter_async_context(server)
        except ConfigError as error:
            if str(error) != said:
                said = str(error)
                log.info("waiting for the nmi of this node to end", port=said)
            await asyncio.sleep(pause)
        else:
            return


class Reader(Protocol):
    """What is needed of ``KubeClient``."""

    async def raw(self, method: str, path: str) -> bytes:
        """Give an answer's body. Raises KubeError."""


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    generation: int = 0


class _Counts(msgspec.Struct, frozen=True, rename="camel"):
    observed_generation: int = 0
    desired_number_scheduled: int = 0
    number_ready: int = 0


class _DaemonSet(msgspec.Struct, frozen=True):
    metadata: _Meta = _Meta()
    status: _Counts = _Counts()


_DAEMON_SET: Final = msgspec.json.Decoder(_DaemonSet)


async def await_daemonset(
    client: Reader,
    name: str,
    log: Logger,
    *,
    patience: float = _PATIENCE_SECONDS,
    pause: float = _PAUSE_SECONDS,
    clock: Callable[[], float] | None = None,
) -> None:
    """Wait until the DaemonSet ``name`` (``namespace/name``) is ready on every node it runs on.

    ConfigError when that takes longer than ``patience`` seconds.
    """
    namespace, _, own = name.partition("/")
    path = f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{own}"
    now = clock or asyncio.get_running_loop().time
    deadline, last = now() + patience, ""
    while True:
        missing = await _missing(client, path)
        if not missing:
            log.info("ready on every node", daemonset=name)
            return
        if missing != last:
            log.info("waiting", daemonset=name, why=missing)
        last = missing
        if now() >= deadline:
            raise ConfigError(
                f"DaemonSet {name}: {missing} after {patience:g} s; run `podidentity nmi --uninstall-datapath` on the "
                "nodes where its pods are not ready"
            )
        await asyncio.sleep(pause)


async def _missing(client: Reader, path: str) -> str:
    """What is still missing; empty when nothing is."""
    try:
        found = _DAEMON_SET.decode(await client.raw("GET", path))
    except KubeError as error:
        return str(error)
    except msgspec.MsgspecError:
        return "the API's answer is no DaemonSet"
    counts = found.status
    if counts.observed_generation < max(found.metadata.generation, 1):
        return "the DaemonSet controller has not seen it yet"
    if counts.number_ready < counts.desired_number_scheduled:
        return f"ready on {counts.number_ready} of {counts.desired_number_scheduled} nodes"
    return ""
