"""Why a request was answered as it was: a closed list of rules, for audit events and metrics (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from podidentity.nmi.answer import Answer
from podidentity.nmi.gate import Target

ALLOW, PASS, DENY, ERROR = "allow", "pass", "deny", "error"

ASSIGNED: Final = "assigned"
BINDING: Final = "binding"
EXCEPTION: Final = "exception"
MIC: Final = "mic"
DOCUMENT: Final = "document"
CALLER: Final = "caller"
NODE_ADDRESS: Final = "node-address"
OTHER_POD: Final = "other-pod"
POD_UNKNOWN: Final = "pod-unknown"
POD_NOT_YET: Final = "pod-not-yet"
NO_IDENTITY: Final = "no-identity"
NOT_IN_TIME: Final = "not-in-time"
TOO_MANY_WAITING: Final = "too-many-waiting"
THROTTLED: Final = "throttled"
NO_TOKEN: Final = "no-token"  # noqa: S105 - the name of a rule
INTERNAL: Final = "internal"
BUSY: Final = "busy"
CONNECTIONS: Final = "connections"
MALFORMED: Final = "malformed"
TOO_LARGE: Final = "too-large"
TOO_SLOW: Final = "too-slow"
PIPELINED: Final = "pipelined"

RULES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        ASSIGNED: (ALLOW, "an assigned identity of this pod"),
        BINDING: (ALLOW, "managed mode: a binding of the pod's namespace"),
        EXCEPTION: (PASS, "an AzurePodIdentityException matches: the node's own token"),
        MIC: (PASS, "a pod of mic: the node's own token"),
        DOCUMENT: (PASS, "a read-only document of the metadata service"),
        "options": (PASS, "OPTIONS: which methods there are"),
        "target": (DENY, "the form of the request target"),
        "path": (DENY, "a path that is not served"),
        "method": (DENY, "a method other than GET"),
        "headers": (DENY, "Metadata, X-Forwarded-For, Origin, Host and the like"),
        "query": (DENY, "resource missing, names repeated or contradicting"),
        "blocked": (DENY, "--block-instance-metadata, or /host/token from elsewhere than the node"),
        CALLER: (DENY, "/host/token: the caller did not prove to be one of --host-token-callers"),
        NODE_ADDRESS: (DENY, "the source is the node itself"),
        OTHER_POD: (DENY, "the address passed to another pod while the connection was open"),
        POD_UNKNOWN: (DENY, "no pod of this node has the source address or the name"),
        POD_NOT_YET: (DENY, "no pod yet; asked again a little later there may be one"),
        NO_IDENTITY: (DENY, "the pod has no identity that suits"),
        NOT_IN_TIME: (DENY, "the identity was not assigned while the request was held"),
        TOO_MANY_WAITING: (DENY, "more requests are held than the limits allow"),
        THROTTLED: (ERROR, "allowed; the budget of the metadata service is spent, or it said 429"),
        NO_TOKEN: (ERROR, "allowed; Azure or the identity's Secret gave no token"),
        BUSY: (ERROR, "too many requests in flight"),
        MALFORMED: (DENY, "not HTTP/1.1; refused before it is a request"),
        TOO_LARGE: (DENY, "header or body beyond its limit; refused before it is a request"),
        TOO_SLOW: (DENY, "header or body not there in time; refused before it is a request"),
        PIPELINED: (DENY, "too many requests sent ahead on one connection"),
        CONNECTIONS: (DENY, "more connections than the limits allow, open at once or new in a second"),
        INTERNAL: (ERROR, "a fault of nmi"),
    }
)
"""Rule to verdict and meaning."""


def verdict_of(rule: str) -> str:
    """Return ``allow``, ``pass``, ``deny`` or ``error``."""
    return RULES[rule][0]


def rule_of_refusal(refusal: Answer, target: Target) -> str:
    """Return the rule behind an answer that was given before anything was looked up."""
    if refusal is target.bad_query:
        return "query"
    if refusal is target.refused:
        return "path" if refusal.status == HTTPStatus.NOT_FOUND else "target"
    by_status = {
        HTTPStatus.NO_CONTENT: "options",
        HTTPStatus.METHOD_NOT_ALLOWED: "method",
        HTTPStatus.FORBIDDEN: "blocked",
    }
    return by_status.get(HTTPStatus(refusal.status), "headers")


_BEFORE_REQUESTS: Final[Mapping[int, str]] = MappingProxyType(
    {
        HTTPStatus.REQUEST_TIMEOUT: TOO_SLOW,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: TOO_LARGE,
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: TOO_LARGE,
        HTTPStatus.TOO_MANY_REQUESTS: PIPELINED,
        HTTPStatus.SERVICE_UNAVAILABLE: CONNECTIONS,
    }
)


def rule_of_connection(status: int) -> str:
    """Return the rule behind ``status`` where it was answered before there was a request."""
    return _BEFORE_REQUESTS.get(status, MALFORMED)


def rule_of_passing(why: str) -> str:
    """Return the rule behind ``authorize.PassThrough.why``."""
    return MIC if why == MIC else EXCEPTION


def rule_of_answer(rule: str, status: int) -> str:
    """Return the rule of a finished request: ``rule`` unless it ended in a fault of ours or never began."""
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return INTERNAL
    return rule or BUSY
