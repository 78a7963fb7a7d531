"""What is remembered about one host between two plans. Pure: time and chance are handed in.

All of it may be lost: a restart reads the host again and finds the rest in the records.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from podidentity.aio.backoff import Backoff
from podidentity.azure.arm import HostIdentities, IdentityPatch
from podidentity.azure.errors import (
    ApiVersionRefused,
    AuthorizationFailed,
    AzureError,
    ConflictError,
    HostNotFound,
    SubscriptionNotFound,
    TokenError,
)
from podidentity.mic import messages
from podidentity.mic.failures import Verdict, judge, next_keys, succeeded
from podidentity.mic.names import plain_is_free
from podidentity.mic.plan import HostView, IdFacts, Item
from podidentity.mic.record import Record
from podidentity.mic.ripening import Ripening
from podidentity.mic.wanted import AssignmentKey
from podidentity.mic.world import Shelf, Tally
from podidentity.rules.resource_id import HostId

FRESH: Final = 10.0
"""Seconds for which an answer about a host may be acted upon."""
PATIENCE: Final = 2.0
"""Seconds a record waits for a look at its host before it is written without one."""
RIPEN: Final = 10.0
"""Seconds until a host is read again whose answer was incomplete."""
IDLE: Final = 0.1
AT_MOST: Final = 1.0
"""Seconds: a PATCH waits until nothing new was wanted for IDLE, but never longer than AT_MOST."""
IMMEDIATE_CONFLICTS: Final = 3
PERSISTENT: Final = 3
"""Failures in a row after which users are told that their host does not answer."""

HOST_BACKOFF: Final = Backoff(initial=1.0, factor=2.0, maximum=60.0, jitter=0.2)
BLOCK_BACKOFF: Final = Backoff(initial=10.0, factor=2.0, maximum=300.0, jitter=0.2)
FOR_PEOPLE: Final = (ApiVersionRefused, AuthorizationFailed, SubscriptionNotFound, TokenError)
"""Refusals that do not pass by themselves: users hear of them at once."""
WRITE_BACKOFF: Final = Backoff(initial=0.5, factor=2.0, maximum=60.0, jitter=0.2)


@dataclass(frozen=True, slots=True)
class Pause:
    """Something to leave alone until a time (monotonic seconds), why, and since when it is so again and again."""

    until: float
    attempt: int
    message: str = ""
    since: float = 0.0


class HostMemory:
    """State of one host: the last answer about it, what failed, and when to try again."""

    def __init__(self, rng: random.Random, *, linger: float, immutable: frozenset[str]) -> None:
        self._rng = rng
        self._linger = linger
        self._immutable = immutable
        self.known: HostIdentities | None = None
        self.looked_at = -math.inf
        self.not_before = -math.inf
        self.trouble = ""
        self.ripening = Ripening()
        self.waiting: dict[AssignmentKey, float] = {}
        self._gone = False
        self._blind = False
        self._failures = 0
        self._conflicts = 0
        self._groups: tuple[frozenset[str], ...] = ()
        self._blocks: dict[str, Pause] = {}
        self._deferred: dict[AssignmentKey, Pause] = {}
        self._due: dict[str, tuple[str, float]] = {}
        self._candidates: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
        self._first = self._last = -math.inf

    def view(
        self,
        shelf: Shelf,
        now: float,
        wall: float,
        *,
        patching: bool,
        looking_since: float | None,
        taken: Callable[[str], bool],
    ) -> HostView:
        """The snapshot to plan from; ``taken``: whether some record has this name."""
        keys = [key for key in shelf.open if not self._is_paused(self._deferred.get(key), now)]
        items = tuple(
            Item(key, shelf.wanted.get(key), shelf.records_for(key), plain_is_free(key, taken)) for key in keys
        )
        due = self._due_records(items, now, wall)
        fresh = self.known is not None and now - self.looked_at < FRESH
        slow = looking_since is not None and now - looking_since >= PATIENCE
        return HostView(
            host=shelf.host,
            items=items,
            facts={
                resource: self._facts(shelf, resource, due) for resource in self._resources(shelf, items, fresh=fresh)
            },
            known=self.known,
            fresh=fresh,
            patching=patching,
            gone=self._gone and now < self.not_before,
            blind=slow or (self._blind and now < self.not_before),
            blocked={key: pause.message for key, pause in self._blocks.items() if pause.until > now},
            due=frozenset(due),
            unripe=self.ripening.unripe(),
            dead={key: self._removable(shelf, key) for key in self.ripening.dead()},
            immutable=self._immutable,
        )

    def deadlines(self) -> Iterable[float]:
        """When time alone may change the plan."""
        yield self.not_before
        yield self.looked_at + FRESH
        yield from (pause.until for pause in self._blocks.values())
        yield from (pause.until for pause in self._deferred.values())
        yield from (at for _, at in self._due.values())

    def looked(self, found: HostIdentities, now: float) -> None:
        """The host was read."""
        self.known, self.looked_at = found, now
        self.ripening.heard(found, now)
        self._gone = self._blind = False
        self._failures = 0
        self.trouble = ""

    def look_failed(self, error: AzureError, host: HostId, now: float) -> None:
        """The host could not be read."""
        self.known = None
        self._gone = isinstance(error, HostNotFound)
        self._blind = not self._gone
        self._wait(error, host, now)

    def window(self, add: frozenset[str], remove: frozenset[str], now: float) -> float:
        """When the PATCH of these may start: 0.1 s after they last changed, 1 s after there were some at the latest."""
        if (add, remove) != self._candidates:
            if not any(self._candidates):
                self._first = now
            self._last = now
            self._candidates = (add, remove)
        return min(self._first + AT_MOST, self._last + IDLE)

    def narrowed(self, add: frozenset[str], remove: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
        """The part of the change to try next: all of it, or the next group of suspects."""
        add, remove, self._groups = next_keys(add, remove, self._groups)
        return add, remove

    def patching(self, patch: IdentityPatch) -> None:
        """A PATCH starts: what it removes does not count as attached any more."""
        self._candidates = (frozenset(), frozenset())
        if self.known is not None:
            left = {key: value for key, value in self.known.user_assigned.items() if key not in patch.remove}
            self.known = replace(self.known, user_assigned=left)

    def patched(self, patch: IdentityPatch) -> None:
        """A PATCH went through: the host is read again before anything is believed."""
        self.known = None
        self._failures = self._conflicts = 0
        self.trouble = ""
        self._groups = succeeded(patch, self._groups)
        self.ripening.detached(patch.remove)
        for key in patch.add | patch.remove:
            self._blocks.pop(key, None)

    def not_patched(self) -> None:
        """A PATCH was held back unsent: the host is read again."""
        self.known = None

    def patch_failed(self, error: AzureError, patch: IdentityPatch, host: HostId, now: float) -> Verdict:
        """A PATCH failed; what follows from it. The identities that are to blame are left alone for a while."""
        self.known = None
        verdict = judge(error, patch, self._groups)
        self._groups = verdict.groups
        for key in verdict.bad:
            before = self._blocks.get(key)
            attempt = before.attempt + 1 if before else 0
            until = now + (error.retry_after or BLOCK_BACKOFF.delay(attempt, self._rng))
            since = before.since if before else now
            self._blocks[key] = Pause(until, attempt, messages.attach_error(error, key, host), since)
        if verdict.host:
            if isinstance(error, ConflictError) and self._conflicts < IMMEDIATE_CONFLICTS:
                self._conflicts += 1
            else:
                self._blind = True
                self._wait(error, host, now)
        return verdict

    def quarantine(self) -> Iterable[tuple[str, Pause]]:
        """The identities that ARM refused, and went on refusing."""
        return self._blocks.items()

    def forgive(self, resource: str) -> bool:
        """Try an identity that was left alone again now; whether it was."""
        return self._blocks.pop(resource, None) is not None

    def write_failed(self, key: AssignmentKey, now: float, retry_after: float | None) -> None:
        """A record could not be written: leave its assignment alone for a while."""
        before = self._deferred.get(key)
        attempt = before.attempt + 1 if before else 0
        self._deferred[key] = Pause(now + (retry_after or WRITE_BACKOFF.delay(attempt, self._rng)), attempt)

    def written(self, key: AssignmentKey) -> None:
        """A record was written."""
        self._deferred.pop(key, None)

    def forget(self, shelf: Shelf, now: float) -> None:
        """Drop what concerns identities and records that are no more; note what begins to wait."""
        for want in shelf.open & shelf.wanted.keys():
            self.waiting.setdefault(want, now)
        for want in [key for key in self.waiting if key not in shelf.open or key not in shelf.wanted]:
            del self.waiting[want]
        for key in [k for k, p in self._blocks.items() if p.until <= now and k not in shelf.wanted_by_id]:
            del self._blocks[key]
        for name in [n for n in self._due if n not in shelf.records]:
            del self._due[name]
        for item in [k for k in self._deferred if k not in shelf.open]:
            del self._deferred[item]

    def _wait(self, error: AzureError, host: HostId, now: float) -> None:
        delay = error.retry_after if error.retry_after is not None else HOST_BACKOFF.delay(self._failures, self._rng)
        self._failures += 1
        self.not_before = now + max(delay, HOST_BACKOFF.initial * (1 - HOST_BACKOFF.jitter))
        if isinstance(error, FOR_PEOPLE) or self._failures >= PERSISTENT:
            self.trouble = messages.host_error(error, host)

    def _resources(self, shelf: Shelf, items: tuple[Item, ...], *, fresh: bool) -> set[str]:
        resources = {rec.resource for item in items for rec in item.records}
        resources |= {item.wanted.resource for item in items if item.wanted is not None}
        if self.known is not None and fresh:
            resources |= {key for key in shelf.wanted_by_id if key not in self.known.user_assigned}
        resources |= self.ripening.without & shelf.wanted_by_id.keys()
        return resources - {""}

    def _removable(self, shelf: Shelf, resource: str) -> bool:
        """Whether none of those that want an identity calls it one that is never removed."""
        wanting = (shelf.wanted[key].client_id for key in shelf.wanted_by_id.get(resource, ()))
        return self._immutable.isdisjoint(wanting)

    def _facts(self, shelf: Shelf, resource: str, due: set[str]) -> IdFacts:
        tally = shelf.tallies.get(resource, Tally())
        return IdFacts(
            wanted=resource in shelf.wanted_by_id,
            live=tally.live > 0,
            ours=tally.ours > 0,
            unlooked=tally.unlooked > 0,
            lingering=not tally.dying <= due,
        )

    def _due_records(self, items: tuple[Item, ...], now: float, wall: float) -> set[str]:
        due = set()
        for item in items:
            for rec in item.records:
                if rec.dying:
                    uid = rec.object.metadata.uid
                    known = self._due.get(rec.name)
                    if known is None or known[0] != uid:
                        known = self._due[rec.name] = (uid, now + self._lingering(rec, wall))
                    if known[1] <= now:
                        due.add(rec.name)
        return due

    def _lingering(self, rec: Record, wall: float) -> float:
        """Seconds left, by the API's clock, but never more than the whole linger by ours."""
        try:
            deleted = datetime.fromisoformat(rec.object.metadata.deletion_timestamp or "").timestamp()
        except ValueError:
            return self._linger
        return min(max(deleted + self._linger - wall, 0.0), self._linger)

    @staticmethod
    def _is_paused(pause: Pause | None, now: float) -> bool:
        return pause is not None and pause.until > now
