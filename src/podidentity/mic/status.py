"""What mic tells of itself: ``/status`` for people, and the metrics that are read when somebody looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podidentity.aio.clock import Clock
from podidentity.kube.reflector import Reflector
from podidentity.mic.budget import Budget
from podidentity.mic.controller import Controller
from podidentity.mic.report import oldest, shown
from podidentity.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Status:
    """One mic, looked at. ``reasons``: why it could not take over now."""

    version: str
    controller: Controller
    budget: Budget
    reflectors: Sequence[Reflector[Any]]
    reasons: Callable[[], Sequence[str]]
    clock: Clock

    def report(self) -> Mapping[str, object]:
        """Return the object of ``/status``: no id, no name of a pod or an identity, for every pod can read it."""
        reasons, budget, now = self.reasons(), self.budget, self.clock.monotonic()
        pods, identities, bindings = self.controller.counts()
        return {
            "version": self.version,
            "leader": self.controller.leading,
            "ready": not reasons,
            "notReady": reasons,
            "watches": {
                one.resource.plural: {"listed": one.synced.is_set(), "ageSeconds": _rounded(one.age())}
                for one in self.reflectors
            },
            "found": {"pods": pods, "identities": identities, "bindings": bindings},
            "azure": {
                "readsLeft": int(max(budget.reads.bucket.left, 0)),
                "writesLeft": int(max(budget.writes.bucket.left, 0)),
                "pausedSeconds": round(max(budget.paused_until - now, 0), 1),
                "patches": budget.patches,
                "assignments": self.controller.assignments,
                "patchesPerAssignment": self._ratio(),
            },
            "hosts": [shown(one, now, self.clock.wall()) for one in self.controller.reports()],
        }

    def sample(self, metrics: Metrics) -> None:
        """Set the metrics whose values are kept elsewhere."""
        reports, now, budget = self.controller.reports(), self.clock.monotonic(), self.budget
        since = oldest(reports)
        metrics.gauge("mic_leader", float(self.controller.leading))
        metrics.gauge("mic_queue_depth", sum(one.waiting for one in reports))
        metrics.gauge("mic_oldest_waiting_seconds", 0.0 if since is None else now - since)
        metrics.gauge("mic_quarantined_identities", sum(one.quarantined for one in reports))
        metrics.gauge("mic_identities_in_flight", sum(one.in_flight for one in reports))
        metrics.gauge("mic_hosts_in_trouble", sum(one.trouble for one in reports))
        metrics.gauge("mic_arm_budget_left", max(budget.reads.bucket.left, 0), operation="reads")
        metrics.gauge("mic_arm_budget_left", max(budget.writes.bucket.left, 0), operation="writes")
        metrics.gauge("mic_arm_pause_seconds", max(budget.paused_until - now, 0))
        metrics.total("mic_identity_patches_count", budget.patches)
        metrics.total("mic_assignments_count", self.controller.assignments)
        ratio = self._ratio()
        if ratio is not None:
            metrics.gauge("mic_patches_per_assignment", ratio)
        for one in self.reflectors:
            if one.synced.is_set():
                metrics.gauge("mic_watch_age_seconds", one.age(), resource=one.resource.plural)

    def _ratio(self) -> float | None:
        made = self.controller.assignments
        return round(self.budget.patches / made, 3) if made else None


def _rounded(seconds: float) -> float | None:
    """Whole tenths; None for a watch that never heard anything (infinity is no JSON)."""
    return round(seconds, 1) if seconds != float("inf") else None
