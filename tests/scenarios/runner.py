"""Plays scenarios in a lab: several at a time where they do not disturb each other, the others one by one."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass

from tests.scenarios.scene import Scene, Site, short
from tests.scenarios.steps import Scenario

AT_A_TIME = 4
MOST_SECONDS = 300.0


@dataclass(frozen=True)
class Result:
    """What came of a scenario; ``failed`` is empty when everything held. Seconds are of the wall clock."""

    id: str
    server: str
    seconds: float
    failed: str
    waits: tuple[tuple[str, float], ...]


async def play_all(site: Site, scenarios: Iterable[Scenario]) -> dict[str, Result]:
    """Play scenarios; the result of each by its id."""
    known = [one for one in scenarios if site.server in one.servers]
    slots, results = asyncio.Semaphore(AT_A_TIME), {}

    async def played(scenario: Scenario) -> None:
        async with slots:
            results[scenario.id] = await play(site, scenario)

    async with asyncio.TaskGroup() as group:
        for scenario in known:
            if not scenario.alone:
                group.create_task(played(scenario))
    for scenario in known:
        if scenario.alone:
            results[scenario.id] = await play(site, scenario)
    return results


async def play(site: Site, scenario: Scenario) -> Result:
    """Play one scenario and take away what it made; seconds are those of its steps, not of the cleaning."""
    scene, failed, begun = Scene(site, scenario.id), "", time.monotonic()
    try:
        async with asyncio.timeout(MOST_SECONDS):
            for step in scenario.steps:
                await step.play(scene)
    except Exception as error:  # noqa: BLE001 - every failure of a scenario is its result
        failed = await _told(scene, error)
    seconds = time.monotonic() - begun
    try:
        async with asyncio.timeout(MOST_SECONDS):
            await scene.leave()
    except Exception as error:  # noqa: BLE001 - as above
        failed = failed or f"afterwards: {_words(error)}"
    return Result(scenario.id, site.server, seconds, failed, tuple(scene.waits))


def _words(error: BaseException) -> str:
    """An error without the groups around it, with the line it came from."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    last = f"{frames[-1].name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error} ({last})"


async def _told(scene: Scene, error: BaseException) -> str:
    """What failed, and what the cluster and mic said meanwhile."""
    text = [_words(error)]
    try:
        for namespace in scene.namespaces:
            events = (await scene.call("GET", f"/api/v1/namespaces/{namespace}/events"))["items"]
            told = [f"{one['involvedObject']['name']}: {one['reason']}: {one['message'][:150]}" for one in events]
            text.append(f"events in {namespace}: {short(told)}")
    except Exception as trouble:  # noqa: BLE001 - the first failure is what counts
        text.append(f"no events: {trouble}")
    return "\n".join(text)
