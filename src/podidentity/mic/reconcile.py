"""When a host that looks settled is read again, to put back what was taken off it by hand. Pure."""

from __future__ import annotations

import hashlib

_STEPS = 1 << 32


def next_look(host: str, since: float, interval: float) -> float:
    """The next time to look, within ``interval`` seconds after ``since`` (monotonic seconds).

    Hosts are spread over the interval by their name, so that a cluster never reads all of them at once.
    """
    share = int.from_bytes(hashlib.sha256(host.encode()).digest()[:4], "big") / _STEPS
    phase = share * interval
    return since + _positive((phase - since) % interval, interval)


def _positive(delay: float, interval: float) -> float:
    return delay if delay > 0 else interval
