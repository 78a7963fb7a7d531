"""Metrics under the original's names: counters without ``_total``, no series before its first value."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Kind = Literal["counter", "gauge", "histogram"]
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PREFIX: Final = "aadpodidentity_"

BUCKETS_A: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 2, 3, 4, 5, 10)
BUCKETS_B: Final = (0.5, 1, 5, 10, 30, 60, 120, 300, 600, 900, 1200)
BUCKETS_NMI: Final = (0.5, 1, 2, 3, 4, 5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90, 100)

_TYPE: Final = ("operation_type",)
_CONTRACT: Final[Sequence[tuple[str, Kind, str, Sequence[str], Sequence[float]]]] = (
    ("assigned_identity_addition_duration_seconds", "histogram", "Time to create an assigned identity", (), BUCKETS_A),
    ("assigned_identity_addition_count", "counter", "Assigned identities created", (), ()),
    ("assigned_identity_deletion_duration_seconds", "histogram", "Time to delete an assigned identity", (), BUCKETS_A),
    ("assigned_identity_deletion_count", "counter", "Assigned identities deleted", (), ()),
    ("assigned_identity_update_duration_seconds", "histogram", "Time to update an assigned identity", (), BUCKETS_A),
    ("assigned_identity_update_count", "counter", "Assigned identities updated", (), ()),
    ("mic_cycle_duration_seconds", "histogram", "Time of a cycle that had work", (), BUCKETS_B),
    ("mic_cycle_count", "counter", "Cycles that had work", (), ()),
    ("mic_new_leader_election_count", "counter", "Elections won", (), ()),
    ("cloud_provider_operations_duration_seconds", "histogram", "Time of an ARM operation", _TYPE, BUCKETS_B),
    ("cloud_provider_operations_errors_count", "counter", "ARM operations that failed", _TYPE, ()),
    ("kubernetes_api_operations_errors_count", "counter", "Kubernetes operations that failed", _TYPE, ()),
    (
        "nmi_operations_duration_seconds",
        "histogram",
        "Time of a token request",
        ("operation_type", "status_code", "namespace", "resource"),
        BUCKETS_NMI,
    ),
    ("imds_operations_duration_seconds", "histogram", "Time of a token operation", _TYPE, BUCKETS_A),
    ("imds_operations_errors_count", "counter", "Token operations that failed", _TYPE, ()),
)
_OURS: Final[Sequence[tuple[str, Kind, str, Sequence[str], Sequence[float]]]] = (
    ("mic_leader", "gauge", "1 while this process leads, else 0", (), ()),
    ("mic_queue_depth", "gauge", "Assignments that are wanted and not made yet", (), ()),
    ("mic_oldest_waiting_seconds", "gauge", "For how long the oldest of them waits, 0 when none does", (), ()),
    ("mic_quarantined_identities", "gauge", "Identities left alone on a host because Azure refuses them", (), ()),
    ("mic_identities_in_flight", "gauge", "Identities in the PATCHes under way", (), ()),
    ("mic_hosts_in_trouble", "gauge", "Hosts that cannot be read or changed, as users are told", (), ()),
    ("mic_arm_budget_left", "gauge", "Calls of ARM that may be made at once", ("operation",), ()),
    ("mic_arm_pause_seconds", "gauge", "Seconds for which ARM asked mic to be silent", (), ()),
    ("mic_identity_patches_count", "counter", "PATCHes of identities begun", (), ()),
    ("mic_assignments_count", "counter", "Assignments made", (), ()),
    ("mic_patches_per_assignment", "gauge", "PATCHes begun for each assignment made, since the start", (), ()),
    ("mic_watch_age_seconds", "gauge", "Seconds since the API was heard of a watched kind", ("resource",), ()),
    ("nmi_tokens_without_client_id_count", "counter", "Tokens IMDS gave without saying whose they are", (), ()),
    ("nmi_foreign_tokens_count", "counter", "Tokens of another identity than asked for, thrown away", (), ()),
    ("nmi_secret_problems_count", "counter", "Times a Secret of a service principal could not be used", (), ()),
    ("nmi_refusals_count", "counter", "Requests that got no 200, by cause", ("cause",), ()),
    ("nmi_token_cache_hits_count", "counter", "Token requests answered from the cache", (), ()),
    ("nmi_token_cache_misses_count", "counter", "Token requests for which Azure had to be asked", (), ()),
    ("nmi_tokens_cached", "gauge", "Tokens kept", (), ()),
    ("nmi_waiting_requests", "gauge", "Requests held until their identity is assigned", (), ()),
    ("nmi_requests_in_flight", "gauge", "Requests being worked on, the held ones included", (), ()),
    ("nmi_connections", "gauge", "Open connections", (), ()),
    ("nmi_imds_budget_rate", "gauge", "Token requests a second that the metadata service may be asked now", (), ()),
    ("nmi_imds_budget_waiting", "gauge", "Token requests waiting for their turn at the metadata service", (), ()),
    ("nmi_imds_pause_seconds", "gauge", "Seconds for which the metadata service asked to be left alone", (), ()),
    ("nmi_datapath_in_place", "gauge", "1 when guard and redirect are as they must be, else 0", (), ()),
    ("nmi_datapath_repairs_count", "counter", "Times the datapath was changed by somebody else and repaired", (), ()),
    ("nmi_audit_events_count", "counter", "Decisions audited", (), ()),
    ("nmi_audit_lines_count", "counter", "Audit lines written; equal events share one", (), ()),
    ("nmi_audit_failing", "gauge", "1 while the audit's sink takes no lines, else 0", (), ()),
    ("nmi_certificate_expiry_timestamp_seconds", "gauge", "End of a certificate in use", ("secret",), ()),
)
_COUNTER_HEADER: Final = re.compile(rb"^(# (?:HELP|TYPE) \S+)_total ", re.MULTILINE)


@dataclass(slots=True)
class _Histogram:
    counts: list[int]
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class _Family:
    """One name with all its series, keyed by label values in the order of ``labels``."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...]
    values: dict[tuple[str, ...], float] = field(default_factory=dict)
    histograms: dict[tuple[str, ...], _Histogram] = field(default_factory=dict)

    def key(self, kind: Kind, labels: dict[str, str]) -> tuple[str, ...]:
        """Give the series' key; KeyError for another kind or other labels than declared."""
        if kind != self.kind or len(labels) != len(self.labels):
            raise KeyError(f"{self.name} is a {self.kind} with labels {self.labels}, not a {kind} with {tuple(labels)}")
        return tuple([labels[name] for name in self.labels])

    def metric(self) -> Metric:
        """Give the family as prometheus_client knows it."""
        metric = Metric(self.name, self.help, self.kind)
        for key, value in self.values.items():
            metric.add_sample(self.name, dict(zip(self.labels, key, strict=True)), value)
        for key, histogram in self.histograms.items():
            labels = dict(zip(self.labels, key, strict=True))
            running = 0
            for bound, count in zip((*self.buckets, float("inf")), histogram.counts, strict=True):
                running += count
                metric.add_sample(f"{self.name}_bucket", {**labels, "le": _bound(bound)}, running)
            metric.add_sample(f"{self.name}_count", labels, running)
            metric.add_sample(f"{self.name}_sum", labels, histogram.total)
        return metric


def _bound(seconds: float) -> str:
    """Give an upper bound as Go writes it (``1``, not ``1.0``): queries select by this text."""
    return "+Inf" if seconds == float("inf") else f"{seconds:g}"


class Metrics:
    """A registry of its own (no process or Python metrics) with every name of the contract declared.

    Names are given without ``prefix``. A name that is not declared, a wrong kind or wrong labels is a KeyError: a
    programming error. Use it from one thread.
    """

    def __init__(self, prefix: str = PREFIX) -> None:
        self._prefix = prefix
        self._families: dict[str, _Family] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._readers: list[Callable[[], None]] = []
        if prefix == PREFIX:
            for row in (*_CONTRACT, *_OURS):
                self.declare(*row)

    def declare(
        self, name: str, kind: Kind, help_text: str, labels: Sequence[str] = (), buckets: Sequence[float] = ()
    ) -> None:
        """Add a metric; ``buckets``: ascending upper bounds in seconds, for histograms. ValueError when it is there."""
        if name in self._families:
            raise ValueError(f"metric {name} is declared twice")
        if (kind == "histogram") != bool(buckets):
            raise ValueError(f"metric {name}: histograms have buckets, and only they")
        self._families[name] = _Family(self._prefix + name, kind, help_text, tuple(labels), tuple(buckets))

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add one duration to a histogram."""
        family = self._families[name]
        key = family.key("histogram", labels)
        histogram = family.histograms.get(key)
        if histogram is None:
            histogram = family.histograms[key] = _Histogram([0] * (len(family.buckets) + 1))
        histogram.counts[bisect_left(family.buckets, seconds)] += 1
        histogram.total += seconds

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add ``amount`` (not negative: ValueError) to a counter."""
        if amount < 0:
            raise ValueError(f"counter {name} cannot fall by {amount}")
        family = self._families[name]
        key = family.key("counter", labels)
        family.values[key] = family.values.get(key, 0) + amount

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        family = self._families[name]
        family.values[family.key("gauge", labels)] = value

    def total(self, name: str, value: float, **labels: str) -> None:
        """Set a counter to a total that is kept elsewhere and never falls."""
        family = self._families[name]
        family.values[family.key("counter", labels)] = value

    def before_render(self, reader: Callable[[], None]) -> None:
        """Call ``reader`` before each :meth:`render`: for values that are read when somebody looks."""
        self._readers.append(reader)

    def collect(self) -> Iterator[Metric]:
        """Yield each family that has a series (what a prometheus_client registry asks of a collector)."""
        for family in self._families.values():
            if family.values or family.histograms:
                yield family.metric()

    def render(self) -> bytes:
        """Give all series in Prometheus' text format 0.0.4."""
        for reader in self._readers:
            reader()
        return _COUNTER_HEADER.sub(rb"\1 ", generate_latest(self._registry))
