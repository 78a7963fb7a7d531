"""Selectors as terms that must all hold, and the fields' own grammar: parsed once, matched often (pure)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from podidentity.lab.kube.errors import bad_request


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
        if not (key or value):
            continue
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
