"""The bars of mic's issue, and how a measured cluster is held against them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

WRITES: Final = 2
"""Record writes of a pod, to assign as to remove: create and settle, delete and release."""
SHARE: Final = 1.5
"""Where a bar goes by the API's speed: so many times the seconds that the API needs for the writes alone."""
MEBI: Final = 1.048576
"""A MiB in MB."""


@dataclass(frozen=True, slots=True)
class Bar:
    """At most so many seconds, PATCHes, MB; 0: no bar. ``original``: what the original was measured to take.

    ``by_writes``: seconds may be exceeded where the API itself takes long, see SHARE.
    """

    assigned: float = 0.0
    p50: float = 0.0
    removed: float = 0.0
    patches: int = 0
    rss: float = 0.0
    by_writes: bool = False
    original: str = "-"


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured; 0 for what was not. ``rss`` in MiB, ``rate``: the API's writes a second."""

    pods: int
    assigned: float
    p50: float
    removed: float
    patches: int
    rss: float
    rate: float


def cells(bar: Bar, found: Figures) -> tuple[str, ...]:
    """Each figure with its bar behind it, and whether all are kept: the cells of a row."""
    shown = [_cell(value, limit, digits) for _, value, limit, digits in _pairs(bar, found)]
    missed = [name for name, value, limit, _ in _pairs(bar, found) if limit and value > limit]
    return *shown, f"{found.rate:,.0f}" if found.rate else "-", "missed: " + ", ".join(missed) if missed else "kept"


def _pairs(bar: Bar, found: Figures) -> Iterator[tuple[str, float, float, int]]:
    """Name, figure, limit and decimal places."""
    slow = SHARE * WRITES * found.pods / found.rate if bar.by_writes else 0.0
    yield "assigned", found.assigned, bar.assigned and max(bar.assigned, slow), 2
    yield "p50", found.p50, bar.p50 and max(bar.p50, slow), 2
    yield "removed", found.removed, bar.removed and max(bar.removed, slow), 2
    yield "PATCHes", found.patches, bar.patches, 0
    yield "RSS", found.rss * MEBI, bar.rss, 0


def _cell(value: float, limit: float, digits: int) -> str:
    figure = f"{value:.{digits}f}" if value else "-"
    return f"{figure} ({limit:.3g})" if limit else figure
