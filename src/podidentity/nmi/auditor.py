"""One audit event for each decision of nmi: who asked, for what, as what, and why it was answered so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from random import SystemRandom
from typing import Final

from podidentity.api.core import Pod
from podidentity.nmi.answer import Answer
from podidentity.nmi.request import Request
from podidentity.nmi.verdict import rule_of_answer, verdict_of
from podidentity.telemetry.audit import Audit

OF_NODE: Final = frozenset({"node", "verdict", "rule", "status"})
OF_POD: Final = OF_NODE | {"pod", "uid", "serviceAccount", "source"}
"""What stays of an event when there are too many different ones, in all or of its pod."""

_TOKEN: Final = re.compile(r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*")
_NO_IDENTITY: Final = ("", "")


class Auditor:
    """Builds the events of one node; without ``audit`` it does nothing."""

    def __init__(self, audit: Audit | None, *, node: str) -> None:
        self._audit = audit
        self._node = node
        self._run = f"{SystemRandom().getrandbits(32):08x}"

    def request_id(self, number: int) -> str:
        """Return the id that the log and the audit give the request with this number."""
        return f"{self._run}-{number:x}"

    def decided(self, request: Request, answer: Answer, number: int) -> None:
        """Record a request that was answered; of equal ones the number of the first is kept."""
        audit = self._audit
        if audit is None:
            return
        rule = rule_of_answer(request.rule, answer.status)
        pod, identity = request.caller, request.identity
        key = (
            pod.metadata.uid if pod is not None else "",
            request.pod or request.peer,
            request.peer,
            (identity.metadata.namespace, identity.metadata.name) if identity is not None else _NO_IDENTITY,
            request.resource,
            rule,
            answer.status,
            request.route,
            request.proof,
        )
        if not audit.again(key):
            audit.first(key, request.pod or request.peer, self._fields(request, answer, rule, number))

    def turned_away(self, source: str, pod: Pod | None, rule: str, status: int, count: int) -> None:
        """Record what was refused before it was a request, ``count`` times; ``status`` 0: by a reset."""
        audit = self._audit
        if audit is None:
            return
        uid = pod.metadata.uid if pod is not None else ""
        key = (uid, source, rule, status)
        if audit.again(key, count):
            return
        fields = {
            "node": self._node,
            "pod": pod.key if pod is not None else "",
            "uid": uid,
            "serviceAccount": pod.spec.service_account_name if pod is not None else "",
            "source": source,
            "verdict": verdict_of(rule),
            "rule": rule,
            "status": status,
        }
        audit.first(key, pod.key if pod is not None else source, fields, count)

    def _fields(self, request: Request, answer: Answer, rule: str, number: int) -> Mapping[str, object]:
        pod, identity = request.caller, request.identity
        return {
            "node": self._node,
            "pod": request.pod,
            "uid": pod.metadata.uid if pod is not None else "",
            "serviceAccount": pod.spec.service_account_name if pod is not None else "",
            "source": request.peer,
            "path": request.route,
            "caller": request.proof,
            "identity": identity.key if identity is not None else "",
            "resource": _TOKEN.sub("(a token)", request.resource),
            "verdict": verdict_of(rule),
            "rule": rule,
            "status": answer.status,
            "request": self.request_id(number),
        }
