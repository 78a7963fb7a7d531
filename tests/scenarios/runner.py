"""Plays scenarios in a lab: several at a time where they do not disturb each other, the others one by one."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass

from tests.scenarios.scene import Scene, Site, short
from tests.scenarios.steps import Scenario

AT_A_TIME = 8
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
    """Play scenarios; the result of each by its id.

    What those played together made is taken away when all of them are over: a host takes four PATCHes a minute.
    """
    known = [one for one in scenarios if site.server in one.servers]
    slots, together = asyncio.Semaphore(AT_A_TIME), [one for one in known if not one.alone]

    async def in_a_slot(scenario: Scenario) -> Playing:
        async with slots:
            return await play(site, scenario)

    playings = await asyncio.gather(*map(in_a_slot, together))
    results = await asyncio.gather(*map(over, playings))
    for scenario in known:
        if scenario.alone:
            results.append(await over(await play(site, scenario)))
    return {result.id: result for result in results}


@dataclass(frozen=True)
class Playing:
    """A scenario whose steps are over; ``failed`` and ``seconds`` as in the result."""

    scenario: Scenario
    scene: Scene
    seconds: float
    failed: str


async def play(site: Site, scenario: Scenario) -> Playing:
    """Play the steps of a scenario."""
    scene, failed, begun = Scene(site, scenario.id), "", time.monotonic()
    try:
        async with asyncio.timeout(MOST_SECONDS):
            for step in scenario.steps:
                await step.play(scene)
    except Exception as error:  # noqa: BLE001 - every failure of a scenario is its result
        failed = await _told(scene, error)
    return Playing(scenario, scene, time.monotonic() - begun, failed)


async def over(playing: Playing) -> Result:
    """Take away what a scenario made: nothing of it may be left."""
    scene, failed = playing.scene, playing.failed
    try:
        async with asyncio.timeout(MOST_SECONDS):
            if not playing.scenario.leaves:
                await scene.leave()
    except Exception as error:  # noqa: BLE001 - this too is its result
        failed = failed or f"afterwards: {_words(error)}"
    return Result(scene.id, scene.site.server, playing.seconds, failed, tuple(scene.waits))


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
