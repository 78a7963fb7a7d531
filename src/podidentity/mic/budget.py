"""What ARM allows: the controller's principal in one region, shared by all hosts, and each host by itself.

Token buckets with the documented limits, lowered to what ARM's answers say is left (others may use the same
principal), and a pause that ARM asks for when the principal itself is over its limit. What is added goes before what is
removed, what a pod waits for is read before drift is looked for. A 429 that is about one host only is that host's
(``memory``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from podidentity.aio.bucket import TokenBucket
from podidentity.aio.clock import Clock
from podidentity.aio.ranked import RankedBucket
from podidentity.azure.errors import AzureError, AzureStatusError, Throttled

READ_RATE: Final = (25.0, 250.0)
WRITE_RATE: Final = (10.0, 200.0)
"""ARM's limits for one principal in one region: refill a second, and cap."""
DRIFT_RATE: Final = (15.0, 15.0)
"""Of the reads, what looking for drift may use: the rest is for pods that wait."""
GET_RATE: Final = (12 / 60, 36.0)
PATCH_RATE: Final = (4 / 60, 12.0)
"""ARM's limits for one machine or scale set: refill a second, and cap."""
LEFT: Final = ("x-ms-ratelimit-remaining-subscription-reads", "x-ms-ratelimit-remaining-subscription-writes")
"""Headers of every answer of ARM: what is left of the principal's own budget."""
LEFT_OF_HOST: Final = "x-ms-ratelimit-remaining-resource"
SILENT: Final = 60.0
"""Seconds to pause when ARM does not say how long."""
REMEMBERED: Final = 1000
"""Hosts above which those are forgotten that have their whole budget again."""
_POLICY: Final = re.compile(r"Microsoft\.Compute/(Get|Update)VM(?:ScaleSet)?(Resource|SubscriptionMaximum);(\d{1,9})")

FIRST, LATER, LAST = range(3)
"""Ranks: what pods wait for, what is tidied up, what is only looked at."""


@dataclass(frozen=True, slots=True)
class HostBudget:
    """What ARM allows for one host."""

    gets: TokenBucket
    patches: TokenBucket

    @property
    def full(self) -> bool:
        """Whether it is as a new one."""
        return self.gets.full and self.patches.full


@dataclass(slots=True)
class Budget:
    """``paused_until`` (monotonic seconds): nothing is sent to ARM before. ``patches``: how many were begun."""

    clock: Clock
    reads: RankedBucket
    writes: RankedBucket
    drift: TokenBucket
    paused_until: float = -math.inf
    patches: int = 0
    _hosts: dict[str, HostBudget] = field(default_factory=dict)

    @classmethod
    def of(cls, clock: Clock) -> Budget:
        """The documented limits."""
        reads, writes = (RankedBucket(TokenBucket(*rate, clock)) for rate in (READ_RATE, WRITE_RATE))
        return cls(clock, reads, writes, TokenBucket(*DRIFT_RATE, clock))

    def of_host(self, key: str) -> HostBudget:
        """What is left for a host, whoever worked on it before. Do not keep it: one that is full may be replaced."""
        found = self._hosts.get(key)
        if found is None:
            if len(self._hosts) >= REMEMBERED:
                self._hosts = {name: one for name, one in self._hosts.items() if not one.full}
            found = HostBudget(TokenBucket(*GET_RATE, self.clock), TokenBucket(*PATCH_RATE, self.clock))
            self._hosts[key] = found
        return found

    def heard(self, key: str, headers: Mapping[str, str]) -> None:
        """Take in what an answer about a host says is left."""
        lower = {name.lower(): value.strip() for name, value in headers.items()}
        for name, bucket in zip(LEFT, (self.reads.bucket, self.writes.bucket), strict=True):
            if lower.get(name, "").isdecimal():
                bucket.lower_to(float(lower[name]))
        for verb, of, left in _POLICY.findall(lower.get(LEFT_OF_HOST, "")):
            if of == "Resource":
                host = self.of_host(key)
                (host.gets if verb == "Get" else host.patches).lower_to(float(left))
            elif verb == "Update":
                self.writes.bucket.lower_to(float(left))

    def refused(self, key: str, error: AzureError) -> bool:
        """Take an error in; whether it was about the principal, so that every host has to wait."""
        if isinstance(error, AzureStatusError):
            self.heard(key, error.headers)
        if not isinstance(error, Throttled) or not _principal_is_over(error):
            return False
        wait = SILENT if error.retry_after is None else error.retry_after
        self.paused_until = max(self.paused_until, self.clock.monotonic() + wait)
        return True


def _principal_is_over(error: Throttled) -> bool:
    """Whether the principal's budget is used up; the answer to a host that is over its own still has some of it."""
    headers = {name.lower(): value.strip() for name, value in error.headers.items()}
    return any(headers.get(name, "").startswith(("0", "-")) for name in LEFT)
