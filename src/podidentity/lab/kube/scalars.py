"""Texts that Go decodes further: times and bytes. Each is checked and written as Go writes it (pure)."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import re
from collections.abc import Callable, Mapping
from typing import Final

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_SIX_DIGITS: Final = re.compile(r"\.\d{6}")
_SECONDS_END: Final = len("2006-01-02T15:04:05")
_SECONDS: Final = "2006-01-02T15:04:05Z07:00"
_MICROSECONDS: Final = "2006-01-02T15:04:05.000000Z07:00"
_ALPHABET: Final = re.compile(r"[A-Za-z0-9+/]*")
_QUANTUM: Final = 4


def time(text: str) -> str:
    """A ``Time``: whole seconds in UTC; ValueError in Go's words."""
    return _utc(text, _SECONDS).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_time(text: str) -> str:
    """A ``MicroTime``: six digits behind the second; ValueError in Go's words."""
    found, rest = _utc(text, _MICROSECONDS), text[_SECONDS_END:]
    good = _SIX_DIGITS.match(rest)
    if not good or rest[good.end()].isdigit():
        where, wanted = (rest[good.end() :], "Z07:00") if good else (rest, ".000000")
        raise ValueError(f'parsing time "{text}" as "{_MICROSECONDS}": cannot parse "{where}" as "{wanted}"')
    return found.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _utc(text: str, layout: str) -> dt.datetime:
    try:
        if _TIME.fullmatch(text):
            return dt.datetime.fromisoformat(text).astimezone(dt.UTC)
    except ValueError:
        pass
    raise ValueError(f'parsing time "{text}" as "{layout}": cannot parse "{text}" as "2006"')


def data(text: str) -> str:
    """Bytes in base64; ValueError names the first character that is none."""
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        good = _ALPHABET.match(text)
        end = good.end() if good else 0
        position = end if end < len(text) and text[end] != "=" else end - end % _QUANTUM
        raise ValueError(f"illegal base64 data at input byte {position}") from None
    return text


SCALARS: Final[Mapping[str, Callable[[str], str]]] = {"t": time, "u": micro_time, "y": data}
"""By the letter of their type."""
