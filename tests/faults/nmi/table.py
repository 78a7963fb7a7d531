"""The table that a run of the agent's faults prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.faults.nmi.judge import Verdict

HEAD: Final = (
    f"{'fault':<52} {'API':<8} {'tokens':>8} {'wrong':>6} {'at IMDS':>8} {'longest gap':>12} {'again after':>12} others"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One fault: ``took`` seconds from its end until every pod had tokens; ``at_imds`` requests not from a node."""

    fault: str
    server: str
    verdict: Verdict
    at_imds: int
    took: float


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """The table, head first, the sum last."""
    yield HEAD
    for row in rows:
        found = row.verdict
        others = ", ".join(f"{count} {word}" for word, count in sorted(found.other.items()))
        figures = f"{found.tokens:>8} {sum(found.wrong.values()):>6} {row.at_imds:>8}"
        yield f"{row.fault:<52} {row.server:<8} {figures} {found.gap:>10.2f} s {row.took:>10.2f} s {others}"
    tokens, wrong = sum(row.verdict.tokens for row in rows), sum(sum(row.verdict.wrong.values()) for row in rows)
    yield f"{'all':<61} {tokens:>8} {wrong:>6} {sum(row.at_imds for row in rows):>8}"
