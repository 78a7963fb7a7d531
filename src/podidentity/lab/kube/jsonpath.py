"""The part of kubectl's JSONPath that printer columns use: fields, indexes, ``[*]`` and equality filters (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

_STEP: Final = re.compile(
    r"""\.(?P<field>[A-Za-z0-9_/$-]+(?:\\\.[A-Za-z0-9_/$-]+)*)
    | \[(?P<index>-?\d+)\]
    | \[(?P<all>\*)\] | \.(?P<star>\*)
    | \[['"](?P<quoted>[^'"]+)['"]\]
    | \[\?\(\s*@(?P<path>(?:\.[A-Za-z0-9_-]+)+)\s*==\s*['"](?P<value>[^'"]*)['"]\s*\)\]""",
    re.VERBOSE,
)


@lru_cache(maxsize=1024)
def _steps(path: str) -> tuple[Mapping[str, str | None], ...] | None:
    text = path.strip().strip("{}")
    steps, position = [], 0
    while position < len(text):
        found = _STEP.match(text, position)
        if found is None:
            return None
        steps.append(found.groupdict())
        position = found.end()
    return tuple(steps)


def find(path: str, obj: object) -> Any:
    """The first value at ``path``; None without one, or when the path uses more than is known here."""
    steps = _steps(path)
    if steps is None:
        return None
    values: Iterator[Any] = iter([obj])
    for step in steps:
        values = _advance(values, step)
    return next(values, None)


def _advance(values: Iterator[Any], step: Mapping[str, str | None]) -> Iterator[Any]:
    for value in values:
        yield from _take(value, step)


def _take(value: Any, step: Mapping[str, str | None]) -> Iterator[Any]:
    name = step["field"] or step["quoted"]
    if name is not None:
        name = name.replace("\\.", ".")
        if isinstance(value, Mapping) and name in value:
            yield value[name]
    elif step["index"] is not None:
        number = int(step["index"])
        if isinstance(value, list) and -len(value) <= number < len(value):
            yield value[number]
    elif step["path"] is not None:
        inner = step["path"]
        if isinstance(value, list):
            yield from (item for item in value if find(inner, item) == step["value"])
    elif isinstance(value, list):
        yield from value
    elif isinstance(value, Mapping):
        yield from value.values()
