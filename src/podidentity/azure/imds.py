"""The node's metadata service: tokens, and requests passed through as they came."""

from __future__ import annotations

import os
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec
import yarl

from podidentity.aio.wording import connection_error
from podidentity.azure.answers import excerpt, retry_after
from podidentity.azure.errors import AzureUnavailable, TokenError
from podidentity.azure.http import new_session, read_bounded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

IMDS_URL: Final = "http://169.254.169.254"
API_VERSION: Final = "2018-02-01"
TOKEN_PATH: Final = "/metadata/identity/oauth2/token"  # noqa: S105 - a path
_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NO_DEFAULTS: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class ImdsToken(msgspec.Struct, frozen=True):
    """A token as IMDS sends it: every value is text, times are epoch seconds or seconds."""

    access_token: str
    client_id: str = ""
    expires_in: str = ""
    expires_on: str = ""
    ext_expires_in: str = ""
    not_before: str = ""
    resource: str = ""
    token_type: str = "Bearer"  # noqa: S105 - the scheme's name

    def __repr__(self) -> str:
        """Without the token."""
        return f"ImdsToken(client_id={self.client_id!r}, resource={self.resource!r}, expires_on={self.expires_on!r})"


class _Refusal(msgspec.Struct, frozen=True):
    error: object = None
    error_description: object = None


@dataclass(frozen=True, slots=True)
class ImdsResponse:
    """An answer passed through. ``headers`` in order, without those of the connection."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class ImdsClient:
    """Talks to IMDS directly: no proxy, no redirect, nothing retried. Sizes and times are bounded.

    ``timeout`` is seconds for a whole exchange. A given ``session`` stays the caller's.
    """

    def __init__(
        self,
        base_url: str = IMDS_URL,
        *,
        timeout: float = 30.0,
        session: aiohttp.ClientSession | None = None,
        wall: Callable[[], float] = time.time,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout = timeout
        self._session = session
        self._owned = session is None
        self._wall = wall
        self._environ = os.environ if environ is None else environ

    async def token(
        self,
        resource: str,
        *,
        client_id: str = "",
        object_id: str = "",
        resource_id: str = "",
        bypass_cache: bool = False,
    ) -> ImdsToken:
        """Get a token of the named identity, of the default one with none. Raises TokenError, AzureUnavailable.

        ``bypass_cache`` asks IMDS for a new one.
        """
        query = {"api-version": API_VERSION, "resource": resource}
        named = {"client_id": client_id, "object_id": object_id, "msi_res_id": resource_id}
        query |= {name: value for name, value in named.items() if value}
        if bypass_cache:
            query["bypass_cache"] = "true"
        url = yarl.URL(self._base_url + TOKEN_PATH).with_query(query)
        async with self._send("GET", url, [("Metadata", "true"), ("Accept", "application/json")], b"") as response:
            body = await read_bounded(response.content.iter_any())
        if response.status != 200:  # noqa: PLR2004 - HTTP OK
            raise refusal(response.status, body, retry_after(response.headers, self._wall()))
        return parse_token(body, resource=resource, now=self._wall())

    async def forward(
        self, method: str, raw_target: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> ImdsResponse:
        """Pass a request on, its target (path and query) byte for byte. Raises AzureUnavailable.

        The headers of the connection (Host, Connection, Transfer-Encoding...) are left out in both directions.
        """
        url = yarl.URL(self._base_url + raw_target, encoded=True)
        async with self._send(method, url, _end_to_end(headers), body) as response:
            content = await read_bounded(response.content.iter_any())
        return ImdsResponse(response.status, tuple(_end_to_end(response.headers.items())), content)

    async def close(self) -> None:
        """Close the session if it is ours."""
        if self._owned and self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def _send(
        self, method: str, url: yarl.URL, headers: Iterable[tuple[str, str]], body: bytes
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            self._session = new_session(
                environ=self._environ,
                proxies=False,
                timeout=self._timeout,
                connect_timeout=min(5.0, self._timeout),
                tls=False,
            )
        try:
            async with self._session.request(
                method,
                url,
                headers=list(headers),
                data=body or None,
                allow_redirects=False,
                skip_auto_headers=_NO_DEFAULTS,
                timeout=aiohttp.ClientTimeout(total=self._timeout),
            ) as response:
                yield response
        except TimeoutError as error:
            raise AzureUnavailable(f"the metadata service did not answer within {self._timeout:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            text = connection_error(error)[:200]
            raise AzureUnavailable(f"the metadata service cannot be reached: {text}") from error


def parse_token(body: bytes, *, resource: str, now: float) -> ImdsToken:
    """Read a token answer of IMDS or Entra ID, numbers made text and ``expires_on`` epoch seconds.

    Raises TokenError (``invalid_response``) when there is no token in it or no expiry.
    """
    try:
        answer = msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        answer = {}
    text = {name: _text(value) for name, value in answer.items() if name in ImdsToken.__struct_fields__}
    expires_in, expires_on = text.get("expires_in", ""), text.get("expires_on", "")
    if not expires_on.isdecimal():
        expires_on = str(int(now) + int(expires_in)) if expires_in.isdecimal() else ""
    if not expires_in.isdecimal() and expires_on:
        expires_in = str(max(int(expires_on) - int(now), 0))
    if not text.get("access_token") or not expires_on:
        raise TokenError(200, "invalid_response", "the answer holds no token with an expiry")
    filled = {name: value for name, value in text.items() if value}
    filled |= {"expires_in": expires_in, "expires_on": expires_on}
    return ImdsToken(**{"resource": resource, **filled})


def refusal(status: int, body: bytes, wait: float | None) -> TokenError:
    """Return the error an OAuth error body stands for; any body is survived."""
    try:
        parsed = msgspec.json.decode(body, type=_Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        parsed = _Refusal()
    if isinstance(parsed.error, str) and parsed.error:
        description = parsed.error_description if isinstance(parsed.error_description, str) else ""
        return TokenError(status, parsed.error, description.strip(), wait)
    return TokenError(status, f"http_{status}", excerpt(body), wait)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return ""
    return str(int(value)) if isinstance(value, int | float) else ""


def _end_to_end(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in _HOP_BY_HOP]
