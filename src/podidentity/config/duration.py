"""Go's durations (``1h2m3.5s``): read and written as seconds. Pure."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART: Final = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([^0-9.]*)")
_LIMIT: Final = 2**63
_SECOND: Final = 1_000_000_000


def parse_duration(text: str) -> float:
    """Give the seconds of a Go duration; ValueError says in words that follow the text what is wrong."""
    body = text[1:] if text[:1] in {"+", "-"} else text
    if body == "0":
        return 0.0
    nanoseconds, position = 0, 0
    while found := _PART.match(body, position):
        unit = _UNITS.get(found[2])
        if unit is None:
            raise ValueError(
                f'has the unknown unit "{found[2]}"' if found[2] else f"has no unit, write for example {found[1]}s"
            )
        nanoseconds += int(Fraction(found[1]) * unit)
        position = found.end()
    if position == 0 or position != len(body):
        raise ValueError("is not a duration, write for example 90s or 1h30m")
    if nanoseconds >= _LIMIT:
        raise ValueError("is too long, at most 292 years")
    seconds = nanoseconds / _SECOND
    return -seconds if text[0] == "-" else seconds


def format_duration(seconds: float) -> str:
    """Write seconds as Go does: ``1h0m0s``, ``1.5s``, ``100ms``, ``0s``."""
    nanoseconds = round(abs(seconds) * _SECOND)
    sign = "-" if seconds < 0 and nanoseconds else ""
    if nanoseconds < _SECOND:
        for unit in ("ms", "µs", "ns"):
            if nanoseconds >= _UNITS[unit]:
                return f"{sign}{_decimal(nanoseconds, _UNITS[unit])}{unit}"
        return "0s"
    minutes, rest = divmod(nanoseconds, _UNITS["m"])
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{head}{_decimal(rest, _SECOND)}s"


def _decimal(amount: int, unit: int) -> str:
    """Give ``amount / unit`` exactly, without trailing zeros; ``unit`` is a power of ten."""
    whole, rest = divmod(amount, unit)
    digits = f"{rest:0{len(str(unit)) - 1}d}".rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)
