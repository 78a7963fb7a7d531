"""Answers of ARM that are not to be acted upon yet: identities without a principal, a host that is being changed. Pure.

An identity that was just attached has no principal for a moment. One that was deleted and created anew under its name
never gets one on the hosts that had it: it has to be detached and attached.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from podidentity.azure.arm import HostIdentities

DEAD_AFTER: Final = 60.0
"""Seconds without a principal after which an identity counts as created anew; doubled with each time it was."""
LONGEST: Final = 3600.0
SETTLING: Final = 60.0
"""Seconds for which a host that is being changed by somebody else is waited for, before it is changed all the same."""


@dataclass(slots=True)
class Ripening:
    """What the answers about one host lacked, and since when (monotonic seconds)."""

    _without: dict[str, float] = field(default_factory=dict)
    _times: dict[str, int] = field(default_factory=dict)
    _updating: float | None = None
    _heard_at: float = 0.0

    def heard(self, found: HostIdentities, now: float) -> None:
        """Take an answer in."""
        self._heard_at = now
        without = {key for key, one in found.user_assigned.items() if not one.complete}
        self._without = {key: self._without.get(key, now) for key in without}
        for key in found.user_assigned.keys() - without:
            self._times.pop(key, None)
        self._updating = (now if self._updating is None else self._updating) if found.updating else None

    def detached(self, keys: Iterable[str]) -> None:
        """These were taken off to be attached anew."""
        for key in keys:
            if key in self._without:
                self._times[key] = self._times.get(key, 0) + 1

    @property
    def without(self) -> AbstractSet[str]:
        """The identities that had no principal in the last answer."""
        return self._without.keys()

    def dead(self) -> frozenset[str]:
        """The identities that will not get a principal: they still had none in an answer after all that time."""
        return frozenset(key for key, since in self._without.items() if self._heard_at - since >= self._patience(key))

    def unripe(self) -> AbstractSet[str]:
        """The identities that may still get one."""
        return self._without.keys() - self.dead()

    def settling(self, now: float) -> bool:
        """Whether the host is to be left alone for now."""
        return self._updating is not None and now - self._updating < SETTLING

    def _patience(self, key: str) -> float:
        return min(DEAD_AFTER * 2.0 ** self._times.get(key, 0), LONGEST)
