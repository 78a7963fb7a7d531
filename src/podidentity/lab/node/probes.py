"""Liveness, readiness and startup probes, from the node's network namespace as kubelet does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import aiohttp

from podidentity.lab.node.objects import ContainerSpec, HttpGet, Probe, TcpSocket

_SUCCESS = range(200, 400)


class ProbeError(Exception):
    """One probe failed; the text is the Unhealthy event's."""


RunCommand = Callable[[Sequence[str], float], Awaitable[tuple[int, bytes]]]
"""Run a command in the container: exit code and output; TimeoutError after so many seconds."""

ChangeOfHealth = Callable[[bool], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Count:
    """Successes or failures in a row; ``healthy`` is None until a threshold was reached. Pure."""

    healthy: bool | None = None
    successes: int = 0
    failures: int = 0

    def after(self, succeeded: bool, probe: Probe) -> Count:
        """The count after one more result."""
        if succeeded:
            row = self.successes + 1
            return Count(True if row >= probe.success_threshold else self.healthy, row, 0)
        row = self.failures + 1
        return Count(False if row >= probe.failure_threshold else self.healthy, 0, row)


def port_number(port: int | str, spec: ContainerSpec) -> int:
    """A probe's port; names are looked up among the container's. Raises ProbeError."""
    if isinstance(port, int):
        return port
    found = next((item.container_port for item in spec.ports if item.name == port), None)
    if found is not None:
        return found
    if port.isdigit():
        return int(port)
    raise ProbeError(f"couldn't find port: {port}")


@dataclass(frozen=True, slots=True)
class Prober:
    """Probes one container; ``ip`` is its pod's address."""

    session: aiohttp.ClientSession
    spec: ContainerSpec
    ip: str
    run_command: RunCommand

    async def once(self, probe: Probe) -> None:
        """One probe. Raises ProbeError."""
        timeout = max(probe.timeout_seconds, 1)
        try:
            async with asyncio.timeout(timeout):
                if probe.http_get:
                    await self._http(probe.http_get)
                elif probe.tcp_socket:
                    await self._tcp(probe.tcp_socket)
                elif probe.exec:
                    await self._exec(probe.exec.command, timeout)
                else:
                    raise ProbeError("the lab has no probes of this kind")
        except TimeoutError:
            raise ProbeError(f"no answer within {timeout} s") from None

    async def _http(self, probe: HttpGet) -> None:
        url = f"{probe.scheme.lower()}://{probe.host or self.ip}:{port_number(probe.port, self.spec)}"
        url += probe.path if probe.path.startswith("/") else f"/{probe.path}"
        headers = {"User-Agent": "kube-probe/1.34"} | {item.name: item.value for item in probe.http_headers}
        try:
            async with self.session.get(url, headers=headers, ssl=False, allow_redirects=False) as response:
                if response.status not in _SUCCESS:
                    raise ProbeError(f"HTTP probe failed with statuscode: {response.status}")
        except aiohttp.ClientError as error:
            raise ProbeError(f'Get "{url}": {error}') from None

    async def _tcp(self, probe: TcpSocket) -> None:
        try:
            _, writer = await asyncio.open_connection(probe.host or self.ip, port_number(probe.port, self.spec))
        except OSError as error:
            raise ProbeError(f"dial tcp: {error.strerror or error}") from None
        writer.close()

    async def _exec(self, command: Sequence[str], timeout: float) -> None:  # noqa: ASYNC109 - kills the command too
        code, output = await self.run_command(command, timeout)
        if code:
            raise ProbeError(output.decode(errors="replace").strip() or f"command exited with {code}")


async def watch(probe: Probe, prober: Prober, on_change: ChangeOfHealth, on_failure: Callable[[str], None]) -> None:
    """Probe for ever; ``on_change`` hears each change of health, ``on_failure`` each failed probe's text."""
    count = Count()
    await asyncio.sleep(probe.initial_delay_seconds)
    while True:
        try:
            await prober.once(probe)
            after = count.after(succeeded=True, probe=probe)
        except ProbeError as error:
            on_failure(str(error))
            after = count.after(succeeded=False, probe=probe)
        changed, count = after.healthy is not count.healthy, after
        if changed and count.healthy is not None:
            await on_change(count.healthy)
        await asyncio.sleep(max(probe.period_seconds, 1))
