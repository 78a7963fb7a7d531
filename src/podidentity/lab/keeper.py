"""Keeps the processes of a lab running: starts them, waits until they are ready, starts again what ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from podidentity.config.errors import ConfigError
from podidentity.lab.parts import Part

POLL = 0.01
RESTART_PAUSE = 0.5
MOST_ENDS = 3
"""A part that ended so many times before all were ready is broken; one that lost a race with another is not."""
_TAIL = 4096


class WorldError(ConfigError):
    """The lab could not be built."""


class Keeper:
    """Starts parts, whose logs go to files in ``logs``, as tasks of ``group``."""

    def __init__(self, logs: Path, group: asyncio.TaskGroup, pause: float = RESTART_PAUSE) -> None:
        self._logs = logs
        self._group = group
        self._pause = pause
        self._environ = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        self._ends: Counter[str] = Counter()
        self._code: dict[str, int] = {}

    async def start(self, parts: Sequence[Part], deadline: float) -> None:
        """Start all of them at once; returns when all are ready. WorldError names the one that is not, and why."""
        waiting = ""
        for part in parts:
            self._group.create_task(self._keep(part), name=part.name)
        try:
            async with asyncio.timeout(deadline):
                for part in parts:
                    waiting = part.name
                    while not await part.ready():
                        self._raise_for_broken()
                        await asyncio.sleep(POLL)
        except TimeoutError:
            raise WorldError(f"{waiting}: not ready after {deadline:.0f} s; see {self._logs}") from None
        self._ends.clear()

    def _raise_for_broken(self) -> None:
        for name, times in self._ends.items():
            if times >= MOST_ENDS:
                log = self._logs / f"{name}.log"
                how = f"ended {times} times while the lab started, with code {self._code[name]}"
                raise WorldError(f"{name} {how}: {_last_line(log)}; see {log}")

    async def _keep(self, part: Part) -> None:
        while True:
            with (self._logs / f"{part.name}.log").open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    *part.command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=self._environ
                )
            try:
                code = await process.wait()
            except asyncio.CancelledError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
                raise
            self._ends[part.name] += 1
            self._code[part.name] = code
            sys.stderr.write(f"{part.name} ended with code {code}; starting it again\n")
            await asyncio.sleep(self._pause)


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it wrote nothing")
