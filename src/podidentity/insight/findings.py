"""What ``podidentity doctor`` finds: rules as data, each a pure function over a cluster. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from podidentity.insight.cluster import Cluster

Severity = Literal["error", "warning", "note"]
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note")
"""The worst first."""


@dataclass(frozen=True, slots=True)
class Found:
    """One breach of a rule: whose, what was seen (one line), what to do."""

    subject: str
    evidence: str
    fix: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``needs``: the fields of the cluster that ``check`` reads; without them it cannot be judged."""

    id: str
    severity: Severity
    title: str
    needs: tuple[str, ...]
    check: Callable[[Cluster], Iterable[Found]]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found."""

    rule: str
    severity: Severity
    subject: str
    evidence: str
    fix: str


@dataclass(frozen=True, slots=True)
class Unseen:
    """A rule that could not be judged. ``right``: what would show it, empty when it is not about rights."""

    rule: str
    why: str
    right: str


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, the worst first, and the rules that could not be judged."""

    findings: tuple[Finding, ...]
    unseen: tuple[Unseen, ...]

    def worst(self) -> Severity | None:
        """The highest severity found."""
        return next((one.severity for one in self.findings), None)


def examine(cluster: Cluster, rules: Sequence[Rule]) -> Report:
    """Judge each rule on what was seen."""
    findings: list[Finding] = []
    unseen: list[Unseen] = []
    for rule in rules:
        hidden = next((cluster.hidden[one] for one in rule.needs if one in cluster.hidden), None)
        if hidden is not None:
            unseen.append(Unseen(rule.id, hidden.why, hidden.right))
            continue
        findings += (Finding(rule.id, rule.severity, one.subject, one.evidence, one.fix) for one in rule.check(cluster))
    findings.sort(key=lambda one: (SEVERITIES.index(one.severity), one.rule, one.subject))
    return Report(tuple(findings), tuple(unseen))


def reaches(severity: Severity | None, limit: Severity) -> bool:
    """Whether ``severity`` is as bad as ``limit`` or worse."""
    return severity is not None and SEVERITIES.index(severity) <= SEVERITIES.index(limit)


def named(names: Iterable[str], most: int = 3) -> str:
    """A few names and how many more there are."""
    found = sorted(set(names))
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more
