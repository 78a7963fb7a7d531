"""What ARM allows the controller's principal in one region, shared by all hosts.

Two buckets with the documented limits, and a pause that ARM asks for when the principal itself is over its limit. A 429
that is about one host only is that host's (``memory``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from podidentity.aio.bucket import TokenBucket
from podidentity.aio.clock import Clock
from podidentity.azure.errors import AzureError, Throttled

READ_RATE: Final = (25.0, 250.0)
WRITE_RATE: Final = (10.0, 200.0)
"""ARM's limits for one principal in one region: refill a second, and cap."""
LEFT: Final = ("x-ms-ratelimit-remaining-subscription-reads", "x-ms-ratelimit-remaining-subscription-writes")
"""Headers of every answer of ARM: what is left of the principal's own budget."""
SILENT: Final = 60.0
"""Seconds to pause when ARM does not say how long."""


@dataclass(slots=True)
class Budget:
    """``paused_until`` (monotonic seconds): nothing is sent to ARM before."""

    reads: TokenBucket
    writes: TokenBucket
    paused_until: float = -math.inf

    @classmethod
    def of(cls, clock: Clock) -> Budget:
        """The documented limits."""
        return cls(TokenBucket(*READ_RATE, clock), TokenBucket(*WRITE_RATE, clock))

    def refused(self, error: AzureError, now: float) -> bool:
        """Take an error in; whether it was about the principal, so that every host has to wait."""
        if not isinstance(error, Throttled) or not _principal_is_over(error):
            return False
        wait = SILENT if error.retry_after is None else error.retry_after
        self.paused_until = max(self.paused_until, now + wait)
        return True


def _principal_is_over(error: Throttled) -> bool:
    """Whether the principal's budget is used up; the answer to a host that is over its own still has some of it."""
    headers = {name.lower(): value.strip() for name, value in error.headers.items()}
    return any(headers.get(name, "").startswith(("0", "-")) for name in LEFT)
