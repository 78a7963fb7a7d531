"""Times as kubectl prints them (pure)."""

from __future__ import annotations

import datetime as dt
from typing import Final

UNKNOWN: Final = "<unknown>"
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400
_STEPS: Final[tuple[tuple[int | None, int, str, int, str], ...]] = (
    (2 * _MINUTE, 1, "s", 0, ""),
    (10 * _MINUTE, _MINUTE, "m", 1, "s"),
    (3 * _HOUR, _MINUTE, "m", 0, ""),
    (8 * _HOUR, _HOUR, "h", _MINUTE, "m"),
    (2 * _DAY, _HOUR, "h", 0, ""),
    (8 * _DAY, _DAY, "d", _HOUR, "h"),
    (2 * _YEAR, _DAY, "d", 0, ""),
    (8 * _YEAR, _YEAR, "y", _DAY, "d"),
    (None, _YEAR, "y", 0, ""),
)
"""Below how many seconds, which unit, and which smaller one beside it (0: none)."""


def human(seconds: float) -> str:
    """A duration in the two coarsest units that matter: ``2m8s``, ``3h``, ``4d2h``."""
    whole = int(seconds)
    if whole < 0:
        return "0s" if whole >= -1 else "<invalid>"
    for limit, unit, name, small, small_name in _STEPS:
        if limit is None or whole < limit:
            rest = whole % unit // small if small else 0
            return f"{whole // unit}{name}{rest}{small_name}" if rest else f"{whole // unit}{name}"
    raise AssertionError  # the last step has no limit


def seconds_of(text: object) -> float | None:
    """Seconds since the epoch of an RFC 3339 time, None when it is none."""
    try:
        return dt.datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None


def age(text: object, now: float) -> str:
    """How long ago ``text`` was."""
    then = seconds_of(text)
    return UNKNOWN if then is None else human(now - then)
