"""IMDS's read-only documents, fetched for a pod: within IMDS's budget, and nothing of the caller's but the query."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from podidentity.azure.errors import AzureError
from podidentity.nmi.answer import JSON, Answer, error
from podidentity.nmi.paths import Route
from podidentity.nmi.request import Request
from podidentity.nmi.tokens.fair import BudgetSpent, FairBudget

_OK: Final = 200
_REDIRECT: Final = 300
_CLIENT_ERROR: Final = 400


class ImdsResponse(Protocol):
    """An answer of IMDS, read whole."""

    @property
    def status(self) -> int:
        """HTTP status."""
        ...

    @property
    def headers(self) -> Iterable[tuple[str, str]]:
        """Response headers in order."""
        ...

    @property
    def body(self) -> bytes:
        """The whole body, bounded by the client."""
        ...


class ImdsForward(Protocol):
    """The part of ``azure.imds.ImdsClient`` used here."""

    async def forward(
        self, method: str, raw_target: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> ImdsResponse:
        """Raise AzureError when there is no answer."""
        ...


class Documents:
    """Forwards what the allow-list lets through. IMDS's limit is 5 such requests a second for a whole VM."""

    def __init__(self, client: ImdsForward, budget: FairBudget) -> None:
        self._client = client
        self._budget = budget

    async def answer(self, request: Request, route: Route) -> Answer:
        """Ask IMDS; its status, content type and body are the answer."""
        headers = [] if request.headers.metadata is None else [("Metadata", request.headers.metadata)]
        target = f"{route.path}?{route.query}" if route.query else route.path
        try:
            async with self._budget.turn(request.peer):
                response = await self._client.forward("GET", target, headers, b"")
        except BudgetSpent as spent:
            return error(429, "too many requests are waiting", retry_after=int(spent.retry_after))
        except AzureError:
            return error(503, "the metadata endpoint cannot be reached", retry_after=1)
        if not _OK <= response.status < _REDIRECT and response.status < _CLIENT_ERROR:
            return error(502, "the metadata endpoint sent no document")
        kind = _header(response.headers, "content-type")
        return Answer(response.status, response.body, content_type=kind or JSON)


def _header(headers: Iterable[tuple[str, str]], name: str) -> str:
    for key, value in headers:
        if key.lower() == name:
            return "".join(char for char in value if char.isprintable() and char.isascii())
    return ""
