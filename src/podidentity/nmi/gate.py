"""What can be said of a request before anything is looked up (pure): refused, or what it asks for."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

from podidentity.nmi.answer import Answer, error
from podidentity.nmi.paths import Kind, Route, route
from podidentity.nmi.request import Request, TokenQuery, is_loopback, parse_query, refusal_of_headers

_MEMO_TARGETS: Final = 2048
_MEMO_BYTES: Final = 1024
_NO_QUERY: Final = TokenQuery()


@dataclass(frozen=True, slots=True)
class Target:
    """A request target, understood. ``refused`` and ``bad_query`` are answers kept ready."""

    route: Route
    query: TokenQuery
    refused: Answer | None = None
    bad_query: Answer | None = None


@dataclass(frozen=True, slots=True)
class GateRules:
    """``hosts``: names a request may be sent to, lower-case, without port; addresses always may be."""

    hosts: frozenset[str]
    metadata_required: bool = True
    block_instance: bool = False


BLOCKED: Final = "Request blocked by AAD Pod Identity NMI"
NO_POD_HEADERS: Final = "missing 'podname' and 'podns' from request header"
NOT_FROM_HOST: Final = "request remote address is not from a host"
_ALLOWED: Final = "GET, OPTIONS"
_OPTIONS: Final = Answer(204, b"", allow=_ALLOWED)
"""No header of CORS: a browser's preflight fails."""


def understand(target: bytes) -> Target:
    """Classify a raw target and parse its query; the last few thousand short ones are remembered."""
    return _remembered(target) if len(target) <= _MEMO_BYTES else _understand(target)


def _understand(target: bytes) -> Target:
    found = route(target)
    if found.kind is Kind.REFUSED:
        return Target(found, _NO_QUERY, refused=error(found.status, found.reason))
    if found.kind in (Kind.TOKEN, Kind.HOST_TOKEN):
        query = parse_query(found.query)
        bad = error(400, query.refusal) if query.refusal else None
        return Target(found, query, bad_query=bad)
    return Target(found, _NO_QUERY)


_remembered = functools.lru_cache(maxsize=_MEMO_TARGETS)(_understand)


def admit(request: Request, target: Target, rules: GateRules) -> Answer | None:  # noqa: PLR0911 - a list of checks
    """Return the answer to a request that needs no look-up to be answered; None lets it in.

    Order: the headers, the target, the method, then what the route itself asks for.
    """
    kind = target.route.kind
    refusal = refusal_of_headers(
        request.headers,
        hosts=rules.hosts,
        metadata_required=rules.metadata_required and kind is not Kind.HOST_TOKEN,
        http10=request.http10,
    )
    if refusal:
        return error(400, refusal)
    if target.refused is not None:
        return target.refused
    if request.method == "OPTIONS":
        return _OPTIONS
    if request.method != "GET":
        return error(405, f"method {request.method} is not allowed", allow=_ALLOWED)
    if kind is Kind.TOKEN:
        return target.bad_query
    if kind is Kind.HOST_TOKEN:
        return _admit_host(request, target)
    if kind is Kind.INSTANCE and rules.block_instance:
        return error(403, BLOCKED, code="access_denied")
    return None


def _admit_host(request: Request, target: Target) -> Answer | None:
    if not request.headers.pod_name or not request.headers.pod_namespace:
        return error(400, NO_POD_HEADERS)
    if not is_loopback(request.peer):
        return error(403, NOT_FROM_HOST, code="access_denied")
    return target.bad_query
