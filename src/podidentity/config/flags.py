"""What both flag grammars share: kinds of values, the table of a component's flags, the nearest known name. Pure."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from podidentity.config.duration import format_duration, parse_duration
from podidentity.config.errors import HelpRequested, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

T = TypeVar("T")

_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_OCTAL: Final = re.compile(r"([+-]?)0_?([0-7]+(?:_[0-7]+)*)")
_INTEGER: Final = re.compile(r"[+-]?[0-9a-fA-FxXoO_]+")
_FLOAT: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_INT64: Final = 2**63
_PORTS: Final = range(1, 65536)


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """One kind of value: its word in the usage text, its reader (ValueError's words follow the text) and its writer."""

    word: str
    read: Callable[[str], T]
    write: Callable[[T], str]


def _bool(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("is not a boolean, write true or false")


def _int(text: str) -> int:
    """Go's integers of base 0: decimal, 0x, 0b, 0o, a leading 0 is octal, 64 bits."""
    octal = _OCTAL.fullmatch(text)
    try:
        number = int(octal[1] + octal[2], 8) if octal else int(text if _INTEGER.fullmatch(text) else "", 0)
    except ValueError:
        raise ValueError("is not an integer") from None
    if not -_INT64 <= number < _INT64:
        raise ValueError("is out of range")
    return number


def _float(text: str) -> float:
    if not _FLOAT.fullmatch(text):
        raise ValueError("is not a number")
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("is out of range")
    return number


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) in _PORTS):  # noqa: PLR2004 - any bound
        raise ValueError("is not a port (1-65535)")
    return int(text)


def _client_ids(text: str) -> frozenset[str]:
    return frozenset(one.strip().lower() for one in text.split(",") if one.strip())


def _words(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(",") if one.strip())


def _quoted(text: str) -> str:
    return f'"{text}"' if text else ""


def _seconds(number: float) -> str:
    return f"{number:g}"


TEXT: Final = Kind("string", str, _quoted)
BOOL: Final = Kind("bool", _bool, lambda value: "true" if value else "")
INT: Final = Kind("int", _int, str)
FLOAT: Final = Kind("float", _float, _seconds)
DURATION: Final = Kind("duration", parse_duration, format_duration)
SECONDS: Final = Kind("seconds", lambda text: float(_int(text)), _seconds)
CLIENT_IDS: Final = Kind("string", _client_ids, ",".join)
LIST: Final = Kind("list", _words, ",".join)
PORT: Final = Kind("port", _port, str)


@dataclass(frozen=True, slots=True)
class Flag(Generic[T]):
    """One flag: ``name`` without dashes; a name of one letter is the short one of pflag too."""

    name: str
    kind: Kind[T]
    default: T
    help: str
    check: Callable[[T], str] = field(default=lambda _value: "")
    """Says what is wrong with a value, in words that follow it; empty: nothing."""

    @property
    def is_bool(self) -> bool:
        """Whether the bare flag means true."""
        return self.kind.word == BOOL.word

    def read(self, text: str) -> T:
        """Give the value of ``text``; UsageError names flag, text and fault."""
        try:
            value = self.kind.read(text)
        except ValueError as error:
            raise UsageError(f'--{self.name}: "{text}" {error}') from None
        if fault := self.check(value):
            raise UsageError(f'--{self.name}: "{text}" {fault}')
        return value


@dataclass(frozen=True, slots=True)
class Parsed:
    """A command line read: values of the flags given (the last of a name wins), and arguments that are no flags."""

    values: Mapping[str, object]
    rest: tuple[str, ...]


class Table:
    """The flags of one component; ``examples``: whole command lines."""

    def __init__(self, command: str, flags: Iterable[Flag[Any]], examples: Sequence[str] = ()) -> None:
        self.command = command
        self.examples = tuple(examples)
        self.flags = {flag.name: flag for flag in flags}

    def find(self, name: str, shown: str, like: str = "") -> Flag[Any]:
        """Give the flag of that name.

        HelpRequested for ``h`` and ``help`` unless they are flags; UsageError, with the nearest name, when unknown.
        ``shown``: how it was written, with dashes; ``like``: the word to find a near name for, if not ``name``.
        """
        flag = self.flags.get(name)
        if flag is not None:
            return flag
        if name in {"h", "help"}:
            raise HelpRequested(self.usage())
        near = nearest(like or name, self.flags)
        raise UsageError(f"unknown flag {shown}; {f'did you mean {dashed(near)}?' if near else 'see --help'}")

    def usage(self) -> str:
        """Give the usage text, sorted by name; flags without help come together at the end."""
        lines = [f"usage: podidentity {self.command} [flags]", ""]
        for name in sorted(self.flags, key=str.lower):
            flag = self.flags[name]
            if flag.help:
                default = flag.kind.write(flag.default)
                word = "" if flag.is_bool else f" {flag.kind.word}"
                lines += [
                    f"  {dashed(name)}{word}",
                    f"        {flag.help}{f' (default {default})' if default else ''}",
                ]
        silent = [dashed(name) for name in sorted(self.flags) if not self.flags[name].help]
        if silent:
            lines += ["", f"accepted without effect: {' '.join(silent)}"]
        if self.examples:
            lines += ["", "examples:", *(f"  {line}" for line in self.examples)]
        return "\n".join(lines)


def dashed(name: str) -> str:
    """Give the flag of that name as it is written."""
    return f"-{name}" if len(name) == 1 else f"--{name}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Give the known name that looks most like ``name``, in any case; nothing when none does."""
    folded: dict[str, str] = {candidate.lower(): candidate for candidate in known}
    found: Sequence[str] = difflib.get_close_matches(name.lower(), folded, n=1)
    return folded[found[0]] if found else ""
