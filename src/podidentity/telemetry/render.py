"""One log line as text: klog's format and JSON. Pure."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_BARE: Final = re.compile(r"[^\s\"=]+")
_LETTERS: Final = {"info": "I", "warning": "W", "error": "E", "fatal": "F"}
_SEVERE: Final = ("error", "fatal")


@dataclass(frozen=True, slots=True)
class Line:
    """Everything one line is made of.

    ``severity``: info, warning, error or fatal. ``seconds``: since the epoch. ``file``: path of the calling file;
    ``number``: its line. ``stack``: a traceback, or empty.
    """

    severity: str
    verbosity: int
    seconds: float
    pid: int
    file: str
    number: int
    message: str
    context: Mapping[str, object]
    stack: str = ""


def text_line(line: Line) -> str:
    """Give ``I1123 22:04:05.123456       1 file.py:12] msg key=value`` and a newline, in local time.

    A stack stands below, indented.
    """
    second = int(line.seconds)
    head = (
        f"{_LETTERS[line.severity]}{_stamp(second)}.{int((line.seconds - second) * 1_000_000):06d} {line.pid:7d} "
        f"{_short(line.file)[1]}:{line.number}] {_safe(line.message)}"
    )
    pairs = "".join(f" {key}={_value(value)}" for key, value in line.context.items())
    stack = "".join(f"    {_safe(below)}\n" for below in line.stack.splitlines())
    return f"{head}{pairs}\n{stack}"


def json_line(line: Line) -> str:
    r"""Give a JSON object of ``ts`` (milliseconds), ``caller``, ``msg`` (ends with ``\n``), ``v`` and the context.

    Errors have no ``v``. A context key that is one of those four gets an underscore behind it.
    """
    entries: dict[str, object] = {
        "ts": round(line.seconds * 1000, 3),
        "caller": f"{_short(line.file)[0]}:{line.number}",
        "msg": f"{line.message}\n",
    }
    if line.severity not in _SEVERE:
        entries["v"] = line.verbosity
    for key, value in line.context.items():
        entries[f"{key}_" if key in {"ts", "caller", "msg", "v"} else key] = value
    if line.stack:
        entries["stacktrace"] = line.stack
    return _json(entries) + "\n"


def _json(entries: Mapping[str, object]) -> str:
    """Encode; what JSON cannot hold (lone surrogates, huge integers, odd keys) is written as text."""
    try:
        return msgspec.json.encode(entries, enc_hook=_plain).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        return json.dumps(
            {key: value if isinstance(value, str | int | float) else str(value) for key, value in entries.items()}
        )


def _plain(value: object) -> str:
    """Give the text of a value that has no form in JSON; an exception without words by its name."""
    return str(value) or type(value).__name__


def _value(value: object) -> str:
    """Give one value of ``key=value``, in double quotes where it would not read as one word."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    text = value if isinstance(value, str) else _plain(value)
    if _BARE.fullmatch(text) and not _UNSAFE.search(text):
        return text
    return _safe(json.dumps(text, ensure_ascii=False))


def _safe(text: str) -> str:
    """Escape what could end a line, move a cursor or not be encoded."""
    return _UNSAFE.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


@lru_cache(maxsize=4)
def _stamp(second: int) -> str:
    return time.strftime("%m%d %H:%M:%S", time.localtime(second))


@lru_cache(maxsize=1024)
def _short(file: str) -> tuple[str, str]:
    """Give last folder and file, and the file alone."""
    parts = file.split("/")
    return "/".join(parts[-2:]), parts[-1]
