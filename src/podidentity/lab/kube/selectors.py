"""Label and field selectors: parsed once, matched often (pure)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from podidentity.lab.kube.errors import StatusError, bad_request

_WORD: Final = r"[A-Za-z0-9_./-]+"
_SET: Final = re.compile(rf"\s*({_WORD})\s+(in|notin)\s*\(([^()]*)\)\s*")
_EQUAL: Final = re.compile(rf"\s*({_WORD})\s*(==|=|!=)\s*([A-Za-z0-9_.-]*)\s*")
_COMPARE: Final = re.compile(rf"\s*({_WORD})\s*([<>])\s*(-?\d+)\s*")
_EXISTS: Final = re.compile(rf"\s*(!?)\s*({_WORD})\s*")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term. ``operator``: in, notin, exists, absent, gt, lt."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, values: Mapping[str, str]) -> bool:
        """Whether a set of labels (or fields) satisfies this term."""
        value = values.get(self.key)
        match self.operator:
            case "in":
                return value is not None and value in self.values
            case "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "absent":
                return value is None
            case _:
                return self._compares(value)

    def _compares(self, value: str | None) -> bool:
        try:
            left, right = int(value or ""), int(next(iter(self.values)))
        except ValueError:
            return False
        return left > right if self.operator == "gt" else left < right


Requirements = tuple[Requirement, ...]


def parse_labels(text: str) -> Requirements:
    """``a=b,c in (d,e),!f`` as terms that must all hold; StatusError 400 when it cannot be read."""
    return tuple(_terms(text))


def _terms(text: str) -> Iterator[Requirement]:
    position = 0
    if not text.strip():
        return
    while True:
        term, position = _term(text, position)
        yield term
        if position >= len(text):
            return
        if text[position] != ",":
            raise _unreadable(text)
        position += 1


def _term(text: str, position: int) -> tuple[Requirement, int]:
    if found := _SET.match(text, position):
        values = frozenset(value.strip() for value in found[3].split(","))
        return Requirement(found[1], found[2], values), found.end()
    if found := _EQUAL.match(text, position):
        return Requirement(found[1], "notin" if found[2] == "!=" else "in", frozenset([found[3]])), found.end()
    if found := _COMPARE.match(text, position):
        return Requirement(found[1], "gt" if found[2] == ">" else "lt", frozenset([found[3]])), found.end()
    if found := _EXISTS.match(text, position):
        return Requirement(found[2], "absent" if found[1] else "exists"), found.end()
    raise _unreadable(text)


def _unreadable(text: str) -> StatusError:
    return bad_request(f"unable to parse requirement: <nil>: Invalid value: {text!r}: not a label selector")


def parse_fields(text: str, check: Callable[[str], None]) -> Requirements:
    """``a=b,c!=d`` as terms; ``check`` raises for a field the kind does not select by."""
    terms: list[Requirement] = []
    for part in filter(None, _split_escaped(text)):
        for sign in ("!=", "==", "="):
            key, found, value = part.partition(sign)
            if found:
                break
        else:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        check(key)
        terms.append(Requirement(key, "notin" if sign == "!=" else "in", frozenset([_unescape(value)])))
    return tuple(terms)


def _split_escaped(text: str) -> list[str]:
    return re.split(r"(?<!\\),", text)


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def matches(requirements: Requirements, values: Mapping[str, str]) -> bool:
    """Whether every term holds."""
    return all(requirement.matches(values) for requirement in requirements)
