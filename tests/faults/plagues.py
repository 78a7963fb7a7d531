"""The faults of the virtual table: each does its worst to a living town and returns when its cause is over."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Final

from tests.faults.arm_rules import ARM_FAULTS, Rules
from tests.faults.life import CONTROLLER, IDS, SUCCESSOR
from tests.faults.patches import forget_roles
from tests.faults.town import LEASE, Town

CONFLICT: Final = 409
OTHERS: Final = f"{IDS}/others"
PROMPTLY: Final = 60.0
"""Seconds within which what was taken off amid a PATCH is back: the comparison after it sees that, not drift repair."""
Plague = Callable[[Town], Awaitable[None]]


async def killed(town: Town) -> None:
    """Kill -9."""
    leader, _ = await town.led()
    await leader.kill()
    await town.sleep(0, 2 * LEASE)
    leader.start()


async def terminated(town: Town) -> None:
    """SIGTERM."""
    leader, _ = await town.led()
    await leader.terminate()
    await town.sleep(0, LEASE)
    leader.start()


async def frozen(town: Town) -> None:
    """SIGSTOP past the lease, SIGCONT."""
    leader, _ = await town.led()
    leader.freeze()
    await town.sleep(LEASE, 3 * LEASE)
    leader.thaw()


async def paused_in_turn(town: Town) -> None:
    """Both paused in turn, past the lease."""
    for _ in range(2):
        leader, standby = await town.led()
        leader.freeze()
        await town.sleep(LEASE, 2 * LEASE)
        standby.freeze()
        leader.thaw()
        await town.sleep(LEASE, 2 * LEASE)
        standby.thaw()


async def machine_paused(town: Town) -> None:
    """Machine paused, its monotonic clock too."""
    leader, _ = await town.led()
    leader.freeze()
    start = town.now
    await town.sleep(LEASE, 3 * LEASE)
    leader.lost += town.now - start
    leader.thaw()


async def api_restarts(town: Town) -> None:
    """API server restarts."""
    await town.led()
    town.api.leave()
    await town.sleep(1, 3 * LEASE)
    town.api.away = False


async def watches_silent(town: Town) -> None:
    """Watches of the leader fall silent."""
    leader, _ = await town.led()
    leader.to_api.mute()
    await town.sleep(0, 60)


async def stale_takes_over(town: Town) -> None:
    """Watches of the standby fall silent, kill -9."""
    leader, standby = await town.led()
    standby.to_api.mute()
    await town.sleep(1, 60)
    await leader.kill()
    await town.sleep(0, 2 * LEASE)
    leader.start()


async def forgotten(town: Town) -> None:
    """410: the history is forgotten."""
    await town.led()
    for _ in range(3):
        town.api.away = True
        town.api.forget()
        await town.sleep(0.5, 3)
        town.api.forget()
        town.api.away = False
        await town.sleep(0, 5)


async def cut_from_api(town: Town) -> None:
    """Network cut between leader and API."""
    leader, _ = await town.led()
    leader.to_api.whole.clear()
    await town.sleep(1, 3 * LEASE)
    leader.to_api.whole.set()


async def cut_from_azure(town: Town) -> None:
    """Network cut between leader and Azure."""
    leader, _ = await town.led()
    leader.to_azure.whole.clear()
    await town.sleep(1, 3 * LEASE)
    leader.to_azure.whole.set()


async def azure_json_replaced(town: Town) -> None:
    """azure.json replaced, the old principal's roles gone."""
    await town.led()
    forget_roles(town.arm.cloud.world, CONTROLLER)
    await town.sleep(0, 20)
    town.replace_azure_json(SUCCESSOR)


async def clocks_jump(town: Town) -> None:
    """Wall clocks jump by an hour, apart."""
    leader, standby = await town.led()
    leader.wrong, standby.wrong = town.rng.choice(((-3600, 3600), (3600, -3600)))
    await town.sleep(0, LEASE)


async def others_write(town: Town) -> None:
    """ARM 409, another put an identity there."""
    patches, admin = town.arm.patches, town.arm.admin

    def put(host: str, status: int) -> None:
        if status == CONFLICT:
            admin.attach(host, OTHERS)
            patches.by_hand(host, put=OTHERS.casefold())

    await town.led()
    town.arm.meddler = put
    admin.set_faults(rules=ARM_FAULTS["ARM 409"])
    await town.sleep(20, 60)
    admin.set_faults(rules=[])
    town.arm.meddler = lambda _host, _status: None


async def taken_off(town: Town) -> None:
    """Identities taken off by hand amid PATCHes."""
    patches, admin, last = town.arm.patches, town.arm.admin, dict(town.arm.patches.attached())

    def take(host: str, _status: int) -> None:
        for fresh in patches.attached()[host] - last[host]:
            admin.detach(host, fresh)
            patches.by_hand(host, took=fresh)
        last[host] = patches.attached()[host]

    await town.led()
    for _ in range(4):
        last.update(patches.attached())
        town.arm.meddler = take
        await town.sleep(0, 10)
        town.arm.meddler = lambda _host, _status: None
        await town.sleep(0, 10)


async def azure_misbehaves(rules: Rules, town: Town) -> None:
    """Azure answers wrongly for a while, and once more over a change of the leader."""
    failing = "" if rules else "InternalExecutionError: An internal execution error occurred."
    for again in (False, True):
        leader, _ = await town.led()
        town.arm.admin.set_faults(rules=rules, arm_operation_error=failing)
        await town.sleep(5, 40)
        if again and town.rng.random() < 0.5:
            await leader.kill()
            leader.start()
        town.arm.admin.set_faults(rules=[], arm_operation_error="")


async def nothing(town: Town) -> None:
    """Nothing but the churn."""
    await town.led()


_TOLD: Final[tuple[Plague, ...]] = (
    nothing,
    killed,
    terminated,
    frozen,
    paused_in_turn,
    machine_paused,
    api_restarts,
    watches_silent,
    stale_takes_over,
    forgotten,
    cut_from_api,
    cut_from_azure,
    azure_json_replaced,
    clocks_jump,
    others_write,
    taken_off,
)
LIMITS: Final = {"Identities taken off by hand amid PATCHes": PROMPTLY}
PLAGUES: Final[dict[str, Plague]] = {
    **{(one.__doc__ or "").strip().rstrip("."): one for one in _TOLD},
    **{name: functools.partial(azure_misbehaves, rules) for name, rules in ARM_FAULTS.items()},
}
