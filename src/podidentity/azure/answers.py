"""Reading what Azure answers: times and excerpts. No I/O."""

from __future__ import annotations

import email.utils
import math
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_RETRY_AFTER: Final = 3600.0
"""Seconds; no ``Retry-After`` closes us for longer."""

_SECONDS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds of the ``Retry-After`` header (a number or an HTTP date), between 0 and one hour; None without one.

    ``now`` is seconds since the epoch. A header nobody can read counts as absent.
    """
    value = next((text for name, text in headers.items() if name.lower() == "retry-after"), "").strip()
    if not value:
        return None
    if _SECONDS.fullmatch(value):
        return min(float(value), MAX_RETRY_AFTER)
    try:
        at = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None
    wait = at - now
    return min(max(wait, 0.0), MAX_RETRY_AFTER) if math.isfinite(wait) else None


def excerpt(body: bytes, limit: int = 200) -> str:
    """Return the start of a body as one printable line, for messages."""
    text = " ".join(body[: limit * 4].decode("utf-8", "replace").split())
    printable = "".join(char if char.isprintable() else "?" for char in text)
    return printable[:limit] + ("..." if len(printable) > limit or len(body) > limit * 4 else "")
