"""Which Events are written, which only counted up, which dropped: client-go's rules. Pure, no I/O.

Three steps: events alike but for their message become one after ten in ten minutes; one that was seen before is
counted instead of written; an object that has used up its budget (25, then one each five minutes) is silent.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from podidentity.api.meta import ObjectReference

BURST: Final = 25
REFILL: Final = 1 / 300
"""Events a second an object gets back."""

SIMILAR: Final = 10
"""Different messages of one kind of event, after which the next ones are combined."""

INTERVAL: Final = 600.0
"""Seconds without such an event after which combining starts anew."""

REMEMBERED: Final = 4096
"""Objects, kinds of event and events remembered; the oldest is forgotten first."""

COMBINED: Final = "(combined from similar events): "

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Something that happened to ``ref``; ``at`` in seconds since the epoch."""

    ref: ObjectReference
    type: str
    reason: str
    message: str
    at: float


@dataclass(frozen=True, slots=True)
class Decision:
    """Write this: a new event, or (``name`` set) the one already written, counted up to ``count``.

    ``key`` is for ``Correlator.wrote``; ``first`` is when it happened first, in seconds since the epoch.
    """

    key: tuple[str, ...]
    message: str
    count: int
    first: float
    name: str = ""


@dataclass(slots=True)
class _Budget:
    tokens: float = BURST
    at: float = 0.0


@dataclass(slots=True)
class _Similar:
    messages: set[str] = field(default_factory=set)
    at: float = 0.0


@dataclass(slots=True)
class _Seen:
    first: float
    count: int = 0
    name: str = ""


class _Recent(Generic[V]):
    """A bounded dictionary that forgets what was not used for longest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: OrderedDict[tuple[str, ...], V] = OrderedDict()

    def get(self, key: tuple[str, ...], make: Callable[[], V]) -> V:
        value = self._items.get(key)
        if value is None:
            value = self._items[key] = make()
            if len(self._items) > self._limit:
                self._items.popitem(last=False)
        self._items.move_to_end(key)
        return value

    def find(self, key: tuple[str, ...]) -> V | None:
        return self._items.get(key)


class Correlator:
    """Remembers what happened, bounded by ``remembered`` entries of each kind."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._budgets: _Recent[_Budget] = _Recent(remembered)
        self._similar: _Recent[_Similar] = _Recent(remembered)
        self._seen: _Recent[_Seen] = _Recent(remembered)

    def decide(self, one: Occurrence, now: float) -> Decision | None:
        """Say what to write for this, None for nothing; ``now`` in monotonic seconds."""
        key, message = self._combine(one, now)
        seen = self._seen.get(key, lambda: _Seen(one.at))
        seen.count += 1
        if not self._affordable(_object_key(one.ref), now):
            return None
        return Decision(key, message, seen.count, seen.first, seen.name)

    def wrote(self, decision: Decision, name: str) -> None:
        """Remember under which name the API has it; an empty name forgets it."""
        seen = self._seen.find(decision.key)
        if seen is not None:
            seen.name = name

    def _combine(self, one: Occurrence, now: float) -> tuple[tuple[str, ...], str]:
        kind = (*_object_key(one.ref), one.type, one.reason)
        similar = self._similar.get(kind, lambda: _Similar(at=now))
        if now - similar.at > INTERVAL:
            similar.messages.clear()
        similar.at = now
        similar.messages.add(one.message)
        if len(similar.messages) < SIMILAR:
            return (*kind, one.message), one.message
        similar.messages.pop()
        return kind, COMBINED + one.message

    def _affordable(self, key: tuple[str, ...], now: float) -> bool:
        budget = self._budgets.get(key, lambda: _Budget(at=now))
        budget.tokens = min(BURST, budget.tokens + (now - budget.at) * REFILL)
        budget.at = now
        if budget.tokens < 1:
            return False
        budget.tokens -= 1
        return True


def _object_key(ref: ObjectReference) -> tuple[str, ...]:
    return (ref.api_version, ref.kind, ref.namespace, ref.name, ref.uid)
