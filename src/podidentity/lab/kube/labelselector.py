"""Label selectors as kube-apiserver reads them: tokens, then requirements; errors in its words (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from podidentity.lab.kube.errors import bad_request
from podidentity.lab.kube.metadata import key_fault, value_fault
from podidentity.lab.kube.objects import go_value
from podidentity.lab.kube.selectors import Requirement

_TOKEN: Final = re.compile(r"\s*(==|!=|[=!(),<>]|[^\s=!(),<>]+)")
_SPECIAL: Final = frozenset("=!(),<>")
_OPERATORS: Final = {"in": "in", "notin": "notin", "=": "in", "==": "in", "!=": "notin", ">": "gt", "<": "lt"}
_END: Final = ""
_INTEGER: Final = re.compile(r"[+-]?\d+")


class _UnreadableError(Exception):
    """Why a selector, or with ``term`` one requirement of it, cannot be read."""

    def __init__(self, text: str, *, term: bool = True) -> None:
        super().__init__(f"unable to parse requirement: {text}" if term else text)


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """``a=b,c in (d,e),!f`` as terms that must all hold; StatusError 400 when it cannot be read."""
    try:
        return tuple(_Parser(text).terms())
    except _UnreadableError as error:
        raise bad_request(str(error)) from error


def _is_word(token: str) -> bool:
    return bool(token) and token[0] not in _SPECIAL


class _Parser:
    """Reads tokens from left to right; the end of the text is an empty one."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = [*_TOKEN.findall(text), _END]

    def _next(self) -> str:
        return self._tokens[0]

    def _take(self) -> str:
        return self._tokens.pop(0) if len(self._tokens) > 1 else _END

    def terms(self) -> Iterator[Requirement]:
        if self._next() == _END:
            return
        while True:
            if not (_is_word(self._next()) or self._next() == "!"):
                found = self._next()
                raise _UnreadableError(f"found '{found}', expected: !, identifier, or 'end of string'", term=False)
            yield self._term()
            if (found := self._take()) == _END:
                return
            if found != ",":
                raise _UnreadableError(f"found '{found}', expected: ',' or 'end of string'", term=False)
            if not (_is_word(self._next()) or self._next() == "!"):
                raise _UnreadableError(f"found '{self._next()}', expected: identifier after ','", term=False)

    def _term(self) -> Requirement:
        absent = self._next() == "!"
        if absent:
            self._take()
        key = self._word()
        if fault := key_fault(key):
            raise _UnreadableError(f"<nil>: Invalid value: {go_value(key)}: {fault}")
        if absent:
            return Requirement(key, "absent")
        if self._next() in {_END, ","}:
            return Requirement(key, "exists")
        sign = self._take()
        if sign not in _OPERATORS:
            raise _UnreadableError(f"found '{sign}', expected: in, notin, =, ==, !=, gt, lt")
        values = self._set() if sign in {"in", "notin"} else [self._value()]
        return Requirement(key, _OPERATORS[sign], frozenset(_checked(key, _OPERATORS[sign], values)))

    def _word(self) -> str:
        if not _is_word(found := self._take()):
            raise _UnreadableError(f"found '{found}', expected: identifier")
        return found

    def _value(self) -> str:
        return "" if self._next() in {_END, ","} else self._word()

    def _set(self) -> list[str]:
        if (found := self._take()) != "(":
            raise _UnreadableError(f"found '{found}' expected: '('")
        values = []
        while True:
            values.append(self._take() if _is_word(self._next()) else "")
            found = self._take()
            if found == ")":
                return values
            if found != ",":
                raise _UnreadableError(f"found '{found}', expected: ',' or ')'")


def _checked(key: str, operator: str, values: list[str]) -> list[str]:
    for number, value in enumerate(values):
        if operator in {"gt", "lt"} and not _INTEGER.fullmatch(value):
            text = "for 'Gt', 'Lt' operators, the value must be an integer"
            raise _UnreadableError(f"values[{number}]: Invalid value: {go_value(value)}: {text}")
        if fault := value_fault(value):
            raise _UnreadableError(f"values[{number}][{key}]: Invalid value: {go_value(value)}: {fault}")
    return values
