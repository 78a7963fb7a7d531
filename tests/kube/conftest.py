"""A small API server over real sockets, made to misbehave on command."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from podidentity.kube.settings import KubeSettings

Json = dict[str, Any]
Hook = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


def status(code: int, reason: str, message: str = "told so", headers: Mapping[str, str] | None = None) -> web.Response:
    """An error as the API words it."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason}
    return web.json_response({**body, "code": code}, status=code, headers=headers)


class FakeApi:
    """Objects by URL path of their collection; lists, watches, writes with optimistic locking.

    ``hooks`` are run in order, one a request, before anything else; one that returns None lets the request through.
    ``requests`` is what came in, ``METHOD path?query``.
    """

    def __init__(self) -> None:
        self.version = 100
        self.oldest = 0
        self.objects: dict[str, dict[str, Json]] = {}
        self.log: list[tuple[int, str, str, Json]] = []
        self.changed = asyncio.Condition()
        self.hooks: deque[Hook] = deque()
        self.requests: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.bodies: list[tuple[str, Any]] = []
        self.page = 0

    # --- what tests do to it

    async def put(self, collection: str, obj: Json, *, type_: str = "") -> Json:
        """Store an object as a writer would."""
        self.version += 1
        meta = obj.setdefault("metadata", {})
        meta.setdefault("uid", f"uid-{self.version}")
        meta["resourceVersion"] = str(self.version)
        table = self.objects.setdefault(collection, {})
        event = type_ or ("MODIFIED" if _key(obj) in table else "ADDED")
        table[_key(obj)] = obj
        await self._emit(event, collection, obj)
        return obj

    async def drop(self, collection: str, key: str) -> None:
        """Delete an object as a writer would."""
        obj = self.objects[collection].pop(key)
        self.version += 1
        await self._emit("DELETED", collection, obj)

    async def _emit(self, event: str, collection: str, obj: Json) -> None:
        self.log.append((self.version, event, collection, json.loads(json.dumps(obj))))
        async with self.changed:
            self.changed.notify_all()

    def answer(self, response: Callable[[], web.StreamResponse]) -> None:
        """Answer the next request with this."""

        async def hook(_: web.Request) -> web.StreamResponse:
            return response()

        self.hooks.append(hook)

    def fail(self, code: int, reason: str = "", **headers: str) -> None:
        """Fail the next request."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer(lambda: status(code, reason, headers=named))

    def pass_one(self) -> None:
        """Let the next request through, before later hooks."""

        async def hook(_: web.Request) -> None:
            return None

        self.hooks.append(hook)

    # --- what clients see

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Every request."""
        self.requests.append(f"{request.method} {request.raw_path}")
        self.headers.append(dict(request.headers))
        if self.hooks:
            response = await self.hooks.popleft()(request)
            if response is not None:
                return response
        path = request.path
        if path == "/version":
            return web.json_response({"gitVersion": "v1.34.4", "major": "1"})
        if request.query.get("watch"):
            return await self._watch(request)
        if request.method == "GET" and (
            path in self.objects or (path.count("/") in {3, 5} and "namespaces" not in path)
        ):
            return self._list(request)
        return await self._object(request)

    def _list(self, request: web.Request) -> web.Response:
        items = [*self.objects.get(request.path, {}).values()]
        meta: Json = {"resourceVersion": str(self.version)}
        if self.page and request.query.get("limit"):
            start = int(request.query.get("continue", "0"))
            if start + self.page < len(items):
                meta["continue"] = str(start + self.page)
            items = items[start : start + self.page]
        return web.json_response({"kind": "List", "apiVersion": "v1", "metadata": meta, "items": items})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if since < self.oldest:
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            await response.write(json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n")
            return response
        sent = 0
        while True:
            while sent < len(self.log):
                version, event, collection, obj = self.log[sent]
                sent += 1
                if version > since and collection == request.path:
                    await response.write(json.dumps({"type": event, "object": obj}).encode() + b"\n")
            async with self.changed:
                if sent == len(self.log):
                    await self.changed.wait()

    async def _object(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            return await self._create(request)
        collection, _, name = request.path.rpartition("/")
        if name == "status":
            collection, _, name = collection.rpartition("/")
        key = next((key for key in self.objects.get(collection, {}) if key.rpartition("/")[2] == name), "")
        if not key:
            return status(404, "NotFound", f'things "{name}" not found')
        current = self.objects[collection][key]
        body = await request.json() if request.can_read_body else {}
        change = {"DELETE": self._delete, "PUT": self._put, "PATCH": self._patch}.get(request.method)
        if change is None:
            return web.json_response(current)
        self.bodies.append((request.content_type, body))
        return await change(collection, key, body, current)

    async def _delete(self, collection: str, key: str, body: Any, current: Json) -> web.Response:
        meta = current["metadata"]
        if body.get("preconditions", {}).get("uid", meta["uid"]) != meta["uid"]:
            return status(409, "Conflict")
        if meta.get("finalizers"):
            meta |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}
            return web.json_response(await self.put(collection, current))
        await self.drop(collection, key)
        return web.json_response({"kind": "Status", "status": "Success"})

    async def _put(self, collection: str, key: str, body: Any, current: Json) -> web.Response:
        version = body["metadata"].get("resourceVersion", "")
        if version and version != current["metadata"]["resourceVersion"]:
            return status(409, "Conflict", "the object has been modified")
        body["metadata"]["uid"] = current["metadata"]["uid"]
        return web.json_response(await self.put(collection, body))

    async def _patch(self, collection: str, key: str, body: Any, current: Json) -> web.Response:
        return web.json_response(
            await self.put(collection, _merge(current, body)) if isinstance(body, dict) else current
        )

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        if _key(body) in self.objects.get(request.path, {}):
            return status(409, "AlreadyExists", "already exists")
        return web.json_response(await self.put(request.path, body), status=201)


def _key(obj: Json) -> str:
    meta = obj["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta["name"])


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge(result.get(key), value)
    return result


@dataclass(frozen=True)
class Served:
    """A running server."""

    api: FakeApi
    url: str

    @property
    def settings(self) -> KubeSettings:
        """Settings without credentials."""
        return KubeSettings(server=self.url)


@asynccontextmanager
async def serving(api: FakeApi, tls: ssl.SSLContext | None = None, unix: str = "") -> AsyncIterator[str]:
    """Serve ``api`` on loopback (or a Unix socket); gives the URL."""
    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{tail:.*}", api.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site: web.BaseSite
    site = web.UnixSite(runner, unix, ssl_context=tls) if unix else web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1] if not unix else 443
    try:
        yield f"{'https' if tls else 'http'}://{'localhost' if unix else '127.0.0.1'}:{port}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A fresh API server."""
    api = FakeApi()
    async with serving(api) as url:
        yield Served(api, url)


@dataclass(frozen=True)
class Certificates:
    """A throwaway authority, a server certificate for 127.0.0.1 and localhost, a client certificate."""

    folder: Path

    def server_context(self, *, ask_client: bool = False) -> ssl.SSLContext:
        """TLS for the server."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.folder / "server.crt", self.folder / "server.key")
        if ask_client:
            context.load_verify_locations(self.folder / "ca.crt")
            context.verify_mode = ssl.CERT_REQUIRED
        return context


Issuer = tuple[x509.Name, ec.EllipticCurvePrivateKey]


def _issue(folder: Path, name: str, issuer: Issuer | None) -> Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer_name, issuer_key = issuer or (subject, key)
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName("localhost"), x509.DNSName(f"{name}.test")]
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([*names, address]), critical=False)
    )
    certificate = builder.sign(issuer_key, hashes.SHA256())
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return subject, key


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Certificates]:
    """One authority a test session."""
    folder = tmp_path_factory.mktemp("pki")
    authority = _issue(folder, "ca", None)
    for name in ("server", "client"):
        _issue(folder, name, authority)
    _issue(folder, "stranger", None)
    return Certificates(folder)


@pytest.fixture
def serve() -> Callable[..., AbstractAsyncContextManager[tuple[FakeApi, str]]]:
    """Start another API server: ``serve(tls_context, unix_path)`` gives (api, url)."""

    @asynccontextmanager
    async def start(tls: ssl.SSLContext | None = None, unix: str = "") -> AsyncIterator[tuple[FakeApi, str]]:
        api = FakeApi()
        async with serving(api, tls, unix) as url:
            yield api, url

    return start
