"""The table that a run of the faults prints: a line for each fault and lease, all its rounds in it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.faults.judge import Verdict

HEAD: Final = (
    f"{'fault':<46} {'clock':<8} {'lease':>5} {'rounds':>6} {'leader in (median, max)':>24} "
    f"{'ARM':>6} {'records':>8} {'non-leader':>10}"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One round of one fault; ``took``: seconds until somebody led. ``arm`` and ``records``: who wrote what."""

    fault: str
    clock: str
    lease: float
    took: float
    arm: Verdict
    records: Verdict


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """The table, head first."""
    yield HEAD
    for key in dict.fromkeys((row.clock, row.lease, row.fault) for row in rows):
        group = [row for row in rows if (row.clock, row.lease, row.fault) == key]
        clock, lease, fault = key
        took = [row.took for row in group]
        arm, records = sum(row.arm.writes for row in group), sum(row.records.writes for row in group)
        foreign = sum(len(row.arm.foreign) + len(row.records.foreign) for row in group)
        spread = f"{statistics.median(took):.1f} s, {max(took):.1f} s"
        yield f"{fault:<46} {clock:<8} {lease:>4g}s {len(group):>6} {spread:>24} {arm:>6} {records:>8} {foreign:>10}"
