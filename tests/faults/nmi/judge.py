"""Whose tokens the pods got, and for how long they got none. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.faults.nmi.load import Heard


@dataclass(frozen=True, slots=True)
class Verdict:
    """``wrong``: tokens by pod that were not its identity's, or over; ``other``: all else; ``gap`` in seconds."""

    tokens: int
    wrong: Mapping[str, int]
    other: Mapping[str, int]
    gap: float


def judge(
    heard: Mapping[str, Sequence[Heard]],
    rights: Mapping[str, str],
    since: float,
    until: float,
    gone: Collection[str] = (),
) -> Verdict:
    """Judge what the pods heard from ``since`` to ``until``.

    ``rights`` has each pod's client id, empty for a pod that has none. Only pods with one, that are not ``gone``, can
    miss a token; a gap is counted from ``since`` on, for a younger pod from its own start.
    """
    tokens, wrong, other, gap = 0, Counter[str](), Counter[str](), 0.0
    for pod, lines in heard.items():
        seen = [line for line in lines if line.at >= since]
        for line in seen:
            tokens += sum(line.tokens.values())
            wrong[pod] += sum(count for who, count in line.tokens.items() if not who or who != rights[pod])
            if rights[pod]:
                other.update(line.other)
        if rights[pod] and pod not in gone:
            gap = max(gap, _gap(seen, since, until))
    return Verdict(tokens, +wrong, other, gap)


def _gap(seen: Iterable[Heard], since: float, until: float) -> float:
    """The longest time without a token; one that began before ``since`` counts from there."""
    longest, last = 0.0, since
    for line in seen:
        longest = max(longest, min(line.gap, line.last - since))
        last = max(last, line.last)
    return max(longest, until - last)
