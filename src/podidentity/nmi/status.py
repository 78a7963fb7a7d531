"""What nmi tells of itself: ``/status`` for people, and the metrics that are read when somebody looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from podidentity.config.nmi import NmiSettings
from podidentity.nmi.assembly import App
from podidentity.nmi.datapath.keeper import Keeper
from podidentity.telemetry.audit import Audit
from podidentity.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Status:
    """One nmi, looked at. ``reasons``: why it is not ready."""

    settings: NmiSettings
    version: str
    app: App
    keeper: Keeper
    audit: Audit | None
    reasons: Callable[[], Sequence[str]]

    def report(self) -> Mapping[str, object]:
        """Return the object of ``/status``: neither names of pods nor ids nor tokens, for every pod can read it."""
        app, cached, budget = self.app, self.app.tokens.cached, self.app.tokens.imds
        asked = cached.hits + cached.misses
        reasons = self.reasons()
        return {
            "version": self.version,
            "node": self.settings.node,
            "mode": self.settings.operation_mode,
            "namespaced": self.settings.force_namespaced,
            "ready": not reasons,
            "notReady": reasons,
            "datapath": {
                "inPlace": self.keeper.active and not self.keeper.trouble,
                "repairs": self.keeper.repairs,
            },
            "requests": {
                "connections": app.server.connections,
                "inFlight": app.server.in_flight,
                "held": app.cluster.waiters.held,
                "refusedByCause": dict(sorted(app.journal.refusals.items())),
            },
            "tokens": {
                "cached": len(cached),
                "hits": cached.hits,
                "misses": cached.misses,
                "hitRatio": round(cached.hits / asked, 4) if asked else None,
            },
            "metadataService": {
                "callsPerSecond": budget.pace.rate,
                "callsPerSecondAtMost": self.settings.imds_rate,
                "waiting": budget.waiting,
                "pausedSeconds": round(budget.pause_left, 1),
            },
            "audit": self._audit_report(),
            "conditions": [
                {"about": one.about, "text": one.text, "since": f"{datetime.fromtimestamp(one.since, UTC):%FT%TZ}"}
                for one in app.tokens.conditions.standing()
            ],
        }

    def _audit_report(self) -> Mapping[str, object]:
        audit = self.audit
        if audit is None:
            return {"sink": "off"}
        return {
            "sink": self.settings.audit.partition(":")[0],
            "events": audit.events,
            "lines": audit.written,
            "failing": bool(audit.trouble),
        }

    def sample(self, metrics: Metrics) -> None:
        """Set the metrics whose values are kept elsewhere."""
        app, cached, budget = self.app, self.app.tokens.cached, self.app.tokens.imds
        metrics.total("nmi_token_cache_hits_count", cached.hits)
        metrics.total("nmi_token_cache_misses_count", cached.misses)
        metrics.gauge("nmi_tokens_cached", len(cached))
        metrics.gauge("nmi_waiting_requests", app.cluster.waiters.held)
        metrics.gauge("nmi_requests_in_flight", app.server.in_flight)
        metrics.gauge("nmi_connections", app.server.connections)
        metrics.gauge("nmi_imds_budget_rate", budget.pace.rate)
        metrics.gauge("nmi_imds_budget_waiting", budget.waiting)
        metrics.gauge("nmi_imds_pause_seconds", budget.pause_left)
        metrics.gauge("nmi_datapath_in_place", float(self.keeper.active and not self.keeper.trouble))
        metrics.total("nmi_datapath_repairs_count", self.keeper.repairs)
        for cause, count in app.journal.refusals.items():
            metrics.total("nmi_refusals_count", count, cause=cause)
        if self.audit is not None:
            metrics.total("nmi_audit_events_count", self.audit.events)
            metrics.total("nmi_audit_lines_count", self.audit.written)
            metrics.gauge("nmi_audit_failing", float(bool(self.audit.trouble)))
