"""Who held both records when, and which writes were made by somebody who did not. Pure.

The records are read by the test itself; times are seconds since the epoch, of the one clock this machine has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Kind = Literal["endpoints", "leases"]
Span = tuple[float, float]

GRACE = 0.25
"""Seconds between what happens and when we see it: a write, or a change of a record, may be seen this much later."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A record as it was read at ``at``: ``holder`` is empty when it was released."""

    at: float
    kind: Kind
    holder: str
    renewed: float


@dataclass(frozen=True, slots=True)
class Made:
    """A write of ``source`` that arrived between ``earliest`` and ``at``: a PATCH at Azure, or one of a record."""

    earliest: float
    at: float
    source: str
    what: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many writes there were, those whose sender did not hold both records, those after its own deadline."""

    writes: int
    foreign: tuple[Made, ...]
    late: tuple[Made, ...]


def judge(seen: Sequence[Seen], writes: Iterable[Made], lease: float) -> Verdict:
    """Compare the writes with the records; ``lease`` is their duration in seconds, half of it the renew deadline."""
    made = tuple(writes)
    foreign = tuple(write for write in made if not _within(write, leading(seen, write.source, lease)))
    late = tuple(write for write in made if not _within(write, renewed_within(seen, write.source, lease / 2)))
    return Verdict(len(made), foreign, late)


def leading(seen: Sequence[Seen], holder: str, lease: float) -> list[Span]:
    """When ``holder`` held both records, neither of them expired."""
    return _overlaps(held(seen, "endpoints", holder, lease), held(seen, "leases", holder, lease))


def held(seen: Sequence[Seen], kind: Kind, holder: str, lease: float) -> list[Span]:
    """When ``holder`` held one of the records, up to ``lease`` seconds after its last renewal."""
    mine = [one for one in seen if one.kind == kind]
    spans = []
    for one, following in pairwise([*mine, None]):
        if one is not None and one.holder == holder:
            until = one.at + lease
            spans.append((one.at, min(until, following.at) if following else until))
    return _joined(spans)


def renewed_within(seen: Sequence[Seen], holder: str, seconds: float) -> list[Span]:
    """When the Lease had been renewed by ``holder`` at most ``seconds`` before."""
    mine = [one for one in seen if one.kind == "leases" and one.holder == holder]
    return _joined([(one.renewed, one.renewed + seconds) for one in mine])


def _joined(spans: Iterable[Span]) -> list[Span]:
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _overlaps(ones: Iterable[Span], others: Sequence[Span]) -> list[Span]:
    both = [(max(a[0], b[0]), min(a[1], b[1])) for a in ones for b in others]
    return [span for span in both if span[0] < span[1]]


def _within(write: Made, spans: Iterable[Span]) -> bool:
    return any(start - GRACE <= write.at and write.earliest <= end + GRACE for start, end in spans)
