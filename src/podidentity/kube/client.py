"""The Kubernetes client: one place that sends, retries and meters."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self, TypeVar, cast

import aiohttp
import msgspec
from yarl import URL

from podidentity.aio.backoff import Backoff
from podidentity.aio.bucket import TokenBucket
from podidentity.aio.clock import Clock
from podidentity.aio.fenced_request import fenced
from podidentity.aio.wording import connection_error
from podidentity.api.meta import KubeObject
from podidentity.kube import request as build
from podidentity.kube.errors import ApiError, Gone, KubeError, KubeUnavailable, Unauthorized, WatchSilent
from podidentity.kube.pace import Pace
from podidentity.kube.request import ObjectList, Parser, Request
from podidentity.kube.transport import TlsFiles, connector
from podidentity.kube.watch import MAX_LINE, LineSplitter, decode_event

if TYPE_CHECKING:
    from podidentity.aio.fence import Fence
    from podidentity.api.resources import Resource
    from podidentity.kube.store import WatchEvent
    from podidentity.kube.target import KubeSettings

T = TypeVar("T", bound=KubeObject)

REQUEST_TIMEOUT: Final = 30.0
"""Seconds one attempt may take, from connecting to the last byte; for a watch: to its first byte."""

IN_FLIGHT: Final = 24
"""Requests at the same time. A TLS connection costs 300 to 400 KiB of memory; watches have theirs and do not count."""

ATTEMPTS: Final = 4
"""Attempts of a request that is safe to send again."""

RETRY_AFTER_LIMIT: Final = 30.0
"""A longer ``Retry-After`` (seconds) is not slept through here: the caller gets the error, which carries it."""

_BACKOFF: Final = Backoff(initial=0.2, factor=2.0, maximum=5.0, jitter=0.2)
_REDIRECT: Final = 300
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500
_REFUSALS: Final = frozenset({_TOO_MANY, 503})
"""With ``Retry-After``: the API says that it did nothing, so a write may be sent again too."""

OnError = Callable[[str, KubeError], None]


class KubeClient:
    """A client of one API server; an async context manager.

    The server sets the pace (``Pace``), and ``qps`` requests a second with bursts of ``burst`` cap it (0: no cap);
    ``on_error`` hears of each request that failed for good, with its operation (``update leases``). Every method raises
    KubeError. With a ``fence`` no write is sent, and none sent again, while it is closed: FenceClosedError.
    """

    def __init__(
        self,
        settings: KubeSettings,
        *,
        user_agent: str,
        qps: float = 0,
        burst: int = 0,
        timeout: float = REQUEST_TIMEOUT,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        on_error: OnError | None = None,
        fence: Fence | None = None,
    ) -> None:
        self.settings = settings
        self._user_agent = user_agent
        self._timeout = timeout
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
        clock = clock or Clock()
        self._bucket = TokenBucket(qps, max(burst, 1), clock) if qps > 0 else None
        self._on_error = on_error
        self._request_class = fenced(fence) if fence is not None else aiohttp.ClientRequest
        self._base = settings.server.rstrip("/")
        self._secure = self._base.startswith("https:")
        self._tls = TlsFiles(settings)
        self._session: aiohttp.ClientSession | None = None
        self._pace = Pace(IN_FLIGHT, clock)
        self._parsers: dict[object, object] = {}

    async def __aenter__(self) -> Self:
        """Open the pool of connections. Raises ConfigError for unusable certificates."""
        if self._secure:
            self._tls.context()
        self._session = aiohttp.ClientSession(
            connector=connector(self.settings),
            headers={"User-Agent": self._user_agent},
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            trust_env=False,
            request_class=self._request_class,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def server_version(self) -> str:
        """Read the server's version, ``v1.34.4``."""
        body = await self._send(Request("get version", "GET", "/version"))
        try:
            return msgspec.json.decode(body, type=_Version).git_version
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise KubeUnavailable(f"{self._base}/version answered no Kubernetes version: {error}") from error

    async def get(self, resource: Resource[T], name: str, namespace: str = "") -> T:
        """Read one object."""
        return self._parser(resource).object(await self._send(build.get(resource, name, namespace)))

    async def list(
        self,
        resource: Resource[T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        slim: Callable[[T], T] | None = None,
    ) -> ObjectList[T]:
        """Read a collection, all its pages; one that expires half way is read again in one piece.

        ``slim`` gives what to keep of an object: whole ones are in memory for one page only.
        """
        parser = self._parser(resource)
        limit, token = build.PAGE, ""
        items: list[T] = []
        unreadable: list[str] = []
        while True:
            request = build.list_page(
                resource,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                limit=limit,
                continue_token=token,
            )
            try:
                page = parser.list(await self._send(request))
            except Gone:
                if not token:
                    raise
                limit, token, items, unreadable = 0, "", [], []
                continue
            items.extend(page.items if slim is None else map(slim, page.items))
            unreadable.extend(page.unreadable)
            token = page.continue_token
            if not token:
                return ObjectList(tuple(items), page.resource_version, "", tuple(unreadable))

    async def create(self, resource: Resource[T], obj: T) -> T:
        """Create an object; the namespace is the one in its metadata. AlreadyExists when the name is taken."""
        return self._parser(resource).object(await self._send(build.create(resource, obj)))

    async def replace(self, resource: Resource[T], obj: T) -> T:
        """Replace an object; Conflict when its resource version is not the current one."""
        return self._parser(resource).object(await self._send(build.replace(resource, obj)))

    async def patch_json(
        self, resource: Resource[T], name: str, namespace: str, ops: Sequence[Mapping[str, object]]
    ) -> T:
        """Apply a JSON patch (RFC 6902)."""
        request = build.patch(resource, name, namespace, build.JSON_PATCH, ops)
        return self._parser(resource).object(await self._send(request))

    async def patch_merge(
        self,
        resource: Resource[T],
        name: str,
        namespace: str,
        patch: Mapping[str, object],
        *,
        subresource: str = "",
    ) -> T:
        """Apply a merge patch (RFC 7386), optionally to a subresource such as ``status``."""
        request = build.patch(resource, name, namespace, build.MERGE_PATCH, patch, subresource)
        return self._parser(resource).object(await self._send(request))

    async def delete(self, resource: Resource[T], name: str, namespace: str = "", *, uid: str = "") -> T | None:
        """Delete an object, with ``uid`` only if it still is that one (else Conflict).

        Gives the object when it stays Terminating (finalizers, grace period), None when it is gone.
        """
        return self._parser(resource).deleted(await self._send(build.delete(resource, name, namespace, uid=uid)))

    async def raw(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = build.JSON,
        accept: str = build.JSON,
    ) -> bytes:
        """Any request (``path`` percent-encoded), same credentials, errors and retries; gives the answer's body."""
        data = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        query = tuple((params or {}).items())
        operation = f"{method.lower()} {path}"
        return await self._send(Request(operation, method.upper(), path, query, data, content_type, accept))

    async def watch(
        self,
        resource: Resource[T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str,
        timeout: float,  # noqa: ASYNC109 - the server ends the watch after these seconds, we do not
        idle: float = 0,
        on_heard: Callable[[], None] | None = None,
    ) -> AsyncGenerator[WatchEvent[T], None]:
        """Events from ``resource_version`` on; ends when the server ends the watch (after ``timeout`` seconds).

        ``idle``: seconds without a byte after which WatchSilent is raised (0: ``timeout`` plus 15).
        ``on_heard`` is called when the watch is open and at each byte heard. Gone: list again.
        """
        request = build.watch(
            resource,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            resource_version=resource_version,
            timeout=timeout,
        )
        parser, splitter = self._parser(resource), LineSplitter(MAX_LINE)
        heard = on_heard or _nothing
        response = await self._open_stream(request)
        try:
            heard()
            while chunk := await _next_chunk(request, response, idle or timeout + 15):
                heard()
                for line in splitter.feed(chunk):
                    yield decode_event(line, parser)
        finally:
            response.close()
        if splitter.unfinished:
            raise KubeUnavailable("the API closed the watch in the middle of an event")

    def _parser(self, resource: Resource[T]) -> Parser[T]:
        """Return the parser of a resource; decoders are made once."""
        parser = self._parsers.get(resource)
        if parser is None:
            parser = self._parsers[resource] = Parser(resource)
        return cast("Parser[T]", parser)  # of this resource, whose type is part of it

    async def _send(self, request: Request) -> bytes:
        """Send until answered, refused for good, or out of attempts."""
        attempt, renewed = 0, False
        while True:
            try:
                return await self._once(request, refresh=renewed)
            except Unauthorized as error:
                if renewed or self.settings.token_source is None:
                    raise self._failed(request, error) from None
                renewed = True
            except KubeError as error:
                attempt += 1
                pause = _pause(request, error, attempt, self._rng)
                if pause is None:
                    raise self._failed(request, error) from error.__cause__
                await asyncio.sleep(pause)

    async def _once(self, request: Request, *, refresh: bool) -> bytes:
        async with self._pace.turn():
            try:
                with _translated(request):
                    async with asyncio.timeout(self._timeout):
                        response = await self._open(request, refresh=refresh)
                        async with response:
                            body = await response.read()
            except ApiError as error:
                if error.code == _TOO_MANY:
                    self._pace.refused()
                raise
            self._pace.answered()
            return body

    async def _open_stream(self, request: Request) -> aiohttp.ClientResponse:
        """Open a watch: no retry, the caller has its own pace, but one newer token after a 401."""
        for renewed in (False, True):
            try:
                with _translated(request):
                    async with asyncio.timeout(self._timeout):
                        return await self._open(request, refresh=renewed)
            except Unauthorized:
                if renewed or self.settings.token_source is None:
                    raise
        raise AssertionError  # the second round returns or raises

    async def _open(self, request: Request, *, refresh: bool) -> aiohttp.ClientResponse:
        """Return an answer whose status is a success, its body not read yet; whoever gets it closes it."""
        if self._session is None:
            raise RuntimeError("the client is not open; use it in `async with`")
        if self._bucket is not None:
            await self._bucket.take()
        headers = {"Accept": request.accept}
        if request.body:
            headers["Content-Type"] = request.content_type
        source = self.settings.token_source
        if source is not None and self._secure:
            headers["Authorization"] = f"Bearer {await source.token(refresh=refresh)}"
        response = await self._session.request(
            request.method,
            URL(self._base + request.target, encoded=True),
            data=request.body or None,
            headers=headers,
            ssl=self._tls.context() if self._secure else True,
            server_hostname=self.settings.tls_server_name or None,
            allow_redirects=False,
        )
        if response.status < _REDIRECT:
            return response
        async with response:
            raise build.error(response.status, await response.read(), response.headers.get("Retry-After", ""))

    def _failed(self, request: Request, error: KubeError) -> KubeError:
        if self._on_error is not None:
            self._on_error(request.operation, error)
        return error


class _Version(msgspec.Struct, frozen=True):
    git_version: str = msgspec.field(name="gitVersion")


def _nothing() -> None:
    """Nobody wants to know."""


def _pause(request: Request, error: KubeError, attempt: int, rng: random.Random) -> float | None:
    """Seconds to wait before ``attempt`` more, None when the request must not or need not be sent again."""
    if attempt >= ATTEMPTS:
        return None
    if isinstance(error, ApiError):
        told = error.retry_after
        if told is not None and error.code in _REFUSALS:
            return told if told <= RETRY_AFTER_LIMIT else None
        transient = request.reads and (error.code == _TOO_MANY or error.code >= _SERVER_ERROR)
    elif isinstance(error.__cause__, aiohttp.ClientConnectorCertificateError):
        transient = False  # the same certificate will be there in a second
    else:
        transient = isinstance(error, KubeUnavailable) and (request.reads or not error.sent)
    return _BACKOFF.delay(attempt - 1, rng) if transient else None


@contextmanager
def _translated(request: Request) -> Iterator[None]:
    """Whatever sockets, TLS and HTTP raise, as KubeUnavailable with one line that says what was tried."""
    try:
        yield
    except TimeoutError as error:
        sent = not isinstance(error, aiohttp.ConnectionTimeoutError)
        raise KubeUnavailable(f"{request.operation}: no answer in time", sent=sent) from error
    except aiohttp.ClientConnectorError as error:
        raise KubeUnavailable(f"{request.operation}: {connection_error(error)}", sent=False) from error
    except (aiohttp.ClientError, OSError) as error:
        raise KubeUnavailable(f"{request.operation}: {connection_error(error)}") from error


async def _next_chunk(request: Request, response: aiohttp.ClientResponse, idle: float) -> bytes:
    """Return what arrives next, empty at the end. Raises KubeUnavailable after ``idle`` silent seconds."""
    try:
        with _translated(request):
            async with asyncio.timeout(idle):
                return await response.content.readany()
    except KubeUnavailable as error:
        if isinstance(error.__cause__, TimeoutError):
            raise WatchSilent(f"{request.operation}: silent for {idle:g}s") from error.__cause__
        raise
