"""What nmi logs and counts: the lines people grep, bounded so that no pod can flood the log or the metrics."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Protocol

from podidentity.aio.bucket import TokenBucket
from podidentity.aio.clock import Clock
from podidentity.api.core import Pod
from podidentity.api.identity import AzureIdentity
from podidentity.config.redact import redact_client_id
from podidentity.nmi.answer import Answer
from podidentity.nmi.auditor import Auditor
from podidentity.nmi.request import Request
from podidentity.nmi.verdict import CONNECTIONS, rule_of_answer, rule_of_connection
from podidentity.rules.identity_choice import ANY, Named
from podidentity.telemetry.logging import Logger


class Meter(Protocol):
    """The part of ``telemetry.metrics.Metrics`` used here."""

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Record a duration."""
        ...

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        ...

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        ...


TOKEN_ROUTES: Final = frozenset({"/metadata/identity/oauth2/token", "/host/token"})
_MOST_RESOURCES: Final = 32
_MOST_NAMESPACES: Final = 64
_MOST_SEEN: Final = 4096
_LINES_A_SECOND: Final = 20.0
_LINES_AT_ONCE: Final = 200.0


class Journal:
    """Writes the log lines and metrics of one nmi. A line too many is counted, and the next one says how many.

    ``pod_of`` knows the pod of an address.
    """

    def __init__(
        self,
        log: Logger,
        meter: Meter,
        *,
        clock: Clock,
        auditor: Auditor,
        pod_of: Callable[[str], Pod | None] = lambda _: None,
    ) -> None:
        self._log = log
        self._meter = meter
        self._auditor = auditor
        self._pod_of = pod_of
        self._number = 0
        self.refusals: Counter[str] = Counter()
        self._lines = TokenBucket(_LINES_A_SECOND, _LINES_AT_ONCE, clock)
        self._left_out = 0
        self._resources: set[str] = set()
        self._namespaces: set[str] = set()
        self._seen: OrderedDict[tuple[str, ...], None] = OrderedDict()

    def answered(self, request: Request, answer: Answer, seconds: float) -> None:
        """Record a request that was answered."""
        route = request.route
        self._number += 1
        if answer.status >= HTTPStatus.BAD_REQUEST:
            self.refusals[rule_of_answer(request.rule, answer.status)] += 1
        self._auditor.decided(request, answer, self._number)
        if route in TOKEN_ROUTES:
            self._meter.observe(
                "nmi_operations_duration_seconds",
                seconds,
                operation_type=route,
                status_code=str(answer.status),
                namespace=self._namespace(request.pod.partition("/")[0]),
                resource=self._resource(request.resource, answer.status),
            )
        if self._lines.try_take() > 0:
            self._left_out += 1
            return
        path = route or request.target[:200].decode("latin-1").partition("?")[0]
        more: dict[str, object] = {"request": self._auditor.request_id(self._number)}
        if self._left_out:
            more["left_out"] = self._left_out
        self._left_out = 0
        text = (
            f"status ({answer.status}) took {int(seconds * 1e9)} ns for req.method={request.method} "
            f"reg.path={_printable(path)} req.remote={request.peer}"
        )
        self._log.bind(**more).info(text)

    def turned_away(self, source: str, status: int) -> None:
        """Record what was answered ``status`` before it was a request."""
        rule = rule_of_connection(status)
        self.refusals[rule] += 1
        self._auditor.turned_away(source, self._pod_of(source), rule, status, 1)

    def limited(self, source: str, count: int) -> None:
        """Record connections that the packet filter refused for a limit."""
        self.refusals[CONNECTIONS] += count
        pod = self._pod_of(source)
        self._auditor.turned_away(source, pod, CONNECTIONS, 0, count)
        if self._first_time("limit", source, pod.metadata.uid if pod is not None else ""):
            self._log.warning(
                "connections are refused: more than --pod-connections at once or --pod-connection-rate a second",
                source=source,
                pod=pod.key if pod is not None else "",
                refused=count,
            )

    def fault(self, request: Request, fault: Exception) -> None:
        """Record an exception that should not have been."""
        self._log.error("internal error", path=request.route, error=f"{type(fault).__name__}: {fault}")

    def matched(self, pod: Pod, named: Named, identity: AzureIdentity, resource: str, *, several: bool) -> None:
        """Record which identity a pod's request was matched with."""
        if self._lines.try_take() > 0:
            self._left_out += 1
            return
        client_id = redact_client_id(identity.spec.client_id)
        if named.client_id:
            start = f"clientID in request: {redact_client_id(named.client_id)}, "
        elif named.resource_id:
            start = f"resourceID in request: {named.resource_id}, "
        else:
            start = "no clientID or resourceID in request. "
        self._log.info(f"{start}{pod.key} has been matched with azure identity {identity.key}")
        self._log.info(f"matched identityType:{identity.spec.type} clientid:{client_id} resource:{resource}")
        if several and named == ANY and self._first_time("several", pod.metadata.uid, identity.key):
            self._log.warning(
                f"{pod.key} has several identities and named none: it gets {identity.key}, the first by binding; "
                "name one by client_id",
            )

    def passed(self, pod: Pod, why: str) -> None:
        """Record that a pod got the node's own token."""
        if self._lines.try_take() == 0:
            self._log.info(f"exception pod {pod.key} token handling", why=why)

    def no_identity(self, pod: Pod, reason: str) -> None:
        """Record that a pod got nothing."""
        if self._lines.try_take() == 0:
            self._log.error(reason, pod=pod.key)

    def refused(self, pod: str, resource: str, status: int, reason: str) -> None:
        """Record that Azure gave no token."""
        if self._lines.try_take() == 0:
            self._log.error("failed to get a token", pod=pod, resource=resource, status=status, error=reason)

    def _resource(self, resource: str, status: int) -> str:
        """Return the label for a resource: only those that were served count as names, and not too many."""
        if resource in self._resources:
            return resource
        if status == HTTPStatus.OK and len(self._resources) < _MOST_RESOURCES:
            self._resources.add(resource)
            return resource
        return "other" if resource else ""

    def _namespace(self, namespace: str) -> str:
        """Return the label for a namespace: not too many are told apart."""
        if namespace in self._namespaces or len(self._namespaces) < _MOST_NAMESPACES:
            self._namespaces.add(namespace)
            return namespace
        return "other"

    def _first_time(self, *key: str) -> bool:
        if key in self._seen:
            return False
        self._seen[key] = None
        if len(self._seen) > _MOST_SEEN:
            self._seen.popitem(last=False)
        return True


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() and char.isascii() else "?" for char in text)
