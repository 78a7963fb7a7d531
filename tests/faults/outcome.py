"""The table of the controller under churn: a line for each fault and clock, all its rounds in it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

HEAD: Final = (
    "| fault | clock | rounds | records written | PATCHes | wrong removals | lost | leaked | by a non-leader "
    "| two at once | converged in, median | worst |"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One round. ``took``: seconds from the end of fault and churn until all was right, infinite for never."""

    fault: str
    clock: str
    records: int
    patches: int
    wrong: int
    lost: int
    leaked: int
    foreign: int
    overlaps: int
    took: float


def lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The table as Markdown."""
    yield HEAD
    yield "|---" * (HEAD.count("|") - 1) + "|"
    for fault, clock in dict.fromkeys((one.fault, one.clock) for one in outcomes):
        rounds = [one for one in outcomes if (one.fault, one.clock) == (fault, clock)]
        sums = [
            sum(getattr(one, name) for one in rounds)
            for name in ("records", "patches", "wrong", "lost", "leaked", "foreign", "overlaps")
        ]
        took = [one.took for one in rounds]
        shown = map(_seconds, (statistics.median(took), max(took)))
        yield f"| {' | '.join([fault, clock, str(len(rounds)), *map(str, sums), *shown])} |"


def _seconds(took: float) -> str:
    return f"{took:.1f} s" if took < math.inf else "never"
