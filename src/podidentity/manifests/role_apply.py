"""Asks ARM for what there is, makes what is missing, waits until ARM lists it. Deciding is in ``rules``."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from podidentity.aio.backoff import Backoff
from podidentity.aio.clock import Clock
from podidentity.azure.errors import AuthorizationFailed, AzureError, AzureStatusError
from podidentity.config.errors import ConfigError
from podidentity.rules.role_check import Finding, Grant, State, judged
from podidentity.rules.roles import told

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from podidentity.rules.role_needs import Need

WAIT: Final = 300.0
"""Seconds until ARM lists what it has taken, and until it knows a principal that was just made."""
POLLS: Final = Backoff(initial=1.0, factor=1.5, maximum=10.0, jitter=0.2)


class Assignments(Protocol):
    """The part of ARM that is needed here."""

    async def grants(self, scope: str, principal_id: str) -> tuple[Grant, ...]:
        """What holds at a scope for a principal."""

    async def assign(self, need: Need) -> bool:
        """Make an assignment; whether it is new."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What there is for each need, and every grant that was seen."""

    findings: tuple[Finding, ...]
    grants: tuple[Grant, ...]

    @property
    def missing(self) -> tuple[Need, ...]:
        """The needs that nothing satisfies."""
        return tuple(found.need for found in self.findings if found.state is State.MISSING)


async def check(needs: Sequence[Need], arm: Assignments) -> Checked:
    """Compare the needs with ARM. Raises AzureError, ConfigError when the caller may not read assignments."""
    asked = dict.fromkeys((need.scope, need.principal.object_id) for need in needs)
    grants: dict[Grant, None] = {}
    for scope, principal in asked:
        try:
            grants |= dict.fromkeys(await arm.grants(scope, principal))
        except AuthorizationFailed as error:
            raise ConfigError(
                f"you may not read role assignments at {told(scope)} ({error.code}); Reader there is enough for it"
            ) from error
    return Checked(judged(needs, grants), tuple(grants))


async def apply(
    needs: Sequence[Need],
    arm: Assignments,
    *,
    made: Callable[[Need, bool], None] = lambda _need, _new: None,
    wait: float = WAIT,
    clock: Clock | None = None,
    rng: random.Random | None = None,
) -> Checked:
    """Make what is missing and wait until ARM lists it; a second time there is nothing to make.

    ``made`` hears of each assignment, and whether it is new. Raises AzureError; ConfigError when a right is missing,
    or when ``wait`` seconds have passed.
    """
    clock, rng = clock or Clock(), rng or random.Random()  # noqa: S311 - jitter, not a secret
    until = clock.monotonic() + wait
    checked = await check(needs, arm)
    for need in checked.missing:
        made(need, await _assigned(need, arm, until, clock, rng))
    attempt = 0
    while checked.missing:
        checked = await check(needs, arm)
        if checked.missing and clock.monotonic() >= until:
            named = ", ".join(f"{need.role.name} at {told(need.scope)}" for need in checked.missing)
            raise ConfigError(f"made, but not listed by ARM after {wait:.0f} s: {named}; check again later")
        if checked.missing:
            await asyncio.sleep(POLLS.delay(attempt, rng))
            attempt += 1
    return checked


async def _assigned(need: Need, arm: Assignments, until: float, clock: Clock, rng: random.Random) -> bool:
    """Make one; a principal that Entra ID does not show to ARM yet is waited for."""
    attempt = 0
    while True:
        try:
            return await arm.assign(need)
        except AuthorizationFailed as error:
            raise ConfigError(
                f"you may not assign roles at {told(need.scope)} ({error.code}); Owner, User Access Administrator or "
                f"Role Based Access Control Administrator there may"
            ) from error
        except AzureStatusError as error:
            if error.code != "PrincipalNotFound" or clock.monotonic() >= until:
                raise _told(need, error) from error
        await asyncio.sleep(POLLS.delay(attempt, rng))
        attempt += 1


def _told(need: Need, error: AzureError) -> ConfigError:
    return ConfigError(f"{need.role.name} for {need.principal.who} at {told(need.scope)}: {error}")
