"""The two servers the contract holds for, and a plain client of either: nothing of the product is in between."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.real_server import RealServer

from podidentity.lab.kube import ApiConfig, Running, serve
from podidentity.lab.kube.config import Tls
from podidentity.lab.pki import make_pki

Obj = dict[str, Any]
JSON: Final = "application/json"
MERGE: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"
PATIENCE: Final = 20.0
"""Seconds anything may take that a server does on its own."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status code, body (decoded when it is JSON) and headers."""

    status: int
    body: Any
    headers: http.client.HTTPMessage

    @property
    def reason(self) -> str:
        """``reason`` of a Status."""
        return str(self.body.get("reason", ""))

    @property
    def message(self) -> str:
        """``message`` of a Status."""
        return str(self.body.get("message", ""))

    @property
    def name(self) -> str:
        """``metadata.name`` of an object."""
        return str(self.body["metadata"]["name"])

    @property
    def version(self) -> str:
        """``metadata.resourceVersion`` of an object or a list."""
        return str(self.body["metadata"]["resourceVersion"])

    @property
    def names(self) -> list[str]:
        """The names in a list, in order."""
        return [item["metadata"]["name"] for item in self.body["items"]]

    @property
    def warnings(self) -> list[str]:
        """The texts of the Warning headers."""
        found = self.headers.get_all("Warning") or []
        return [text.removeprefix('299 - "').removesuffix('"').replace('\\"', '"') for text in found]


class Client:
    """One connection to a server, as somebody: ``headers`` carry a token or an impersonation."""

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext, headers: Mapping[str, str]) -> None:
        self._address = address
        self._tls = tls
        self._headers = headers
        self._connection: http.client.HTTPSConnection | None = None

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(*self._address, context=self._tls, timeout=PATIENCE)

    def close(self) -> None:
        """Hang up."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def call(self, method: str, path: str, body: object = None, **options: str) -> Answer:
        """Send one request; ``content_type`` and ``accept`` set those headers, other options are the query."""
        headers = {**self._headers, "Accept": options.pop("accept", JSON)}
        content_type = options.pop("content_type", JSON)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = content_type
        if self._connection is None:
            self._connection = self._connect()
        self._connection.request(method, with_query(path, options), data, headers)
        response = self._connection.getresponse()
        raw = response.read()
        if response.will_close:
            self.close()
        return Answer(response.status, readable(raw, response.headers.get_content_type()), response.headers)

    def get(self, path: str, **options: str) -> Answer:
        """Read."""
        return self.call("GET", path, **options)

    def post(self, path: str, body: object, **options: str) -> Answer:
        """Create."""
        return self.call("POST", path, body, **options)

    def put(self, path: str, body: object, **options: str) -> Answer:
        """Replace."""
        return self.call("PUT", path, body, **options)

    def patch(self, path: str, body: object, content_type: str = MERGE, **options: str) -> Answer:
        """Patch."""
        return self.call("PATCH", path, body, content_type=content_type, **options)

    def delete(self, path: str, body: object = None, **options: str) -> Answer:
        """Delete."""
        return self.call("DELETE", path, body, **options)

    @contextlib.contextmanager
    def watch(self, path: str, **options: str) -> Iterator[Watch]:
        """An open watch, on a connection of its own."""
        headers = {**self._headers, "Accept": options.pop("accept", JSON)}
        connection = self._connect()
        try:
            connection.request("GET", with_query(path, {"watch": "true", **options}), None, headers)
            response = connection.getresponse()
            with response:
                yield Watch(response)
        finally:
            connection.close()


def with_query(path: str, query: Mapping[str, str]) -> str:
    """The request target."""
    return f"{path}?{urllib.parse.urlencode(query)}" if query else path


def readable(raw: bytes, content_type: str) -> Any:
    """A body as JSON where it says it is."""
    return json.loads(raw) if content_type == JSON else raw.decode(errors="replace")


class Watch:
    """The answer to a watch: its status, then its events in order."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self._response = response

    def answer(self) -> Answer:
        """What a watch that may be refused is answered: its body only when it is."""
        headers = self._response.headers
        raw = self._response.read() if self.status >= http.client.BAD_REQUEST else b"{}"
        return Answer(self.status, readable(raw, headers.get_content_type()), headers)

    def next(self) -> tuple[str, Obj]:
        """Type and object of the next event; END when the server has ended the watch."""
        line = self._response.readline()
        if not line:
            return "END", {}
        event = json.loads(line)
        return event["type"], event["object"]

    def names(self, count: int) -> list[tuple[str, str]]:
        """Type and name of the next ``count`` events."""
        return [(kind, obj["metadata"]["name"]) for kind, obj in (self.next() for _ in range(count))]

    def rest(self) -> list[tuple[str, Obj]]:
        """Every event until the server ends the watch."""
        return list(iter(self.next, ("END", {})))


@dataclass(slots=True)
class Server:
    """One of the two. ``admin`` may do all; ``compact`` makes the server forget what happened so far."""

    label: str
    address: tuple[str, int]
    pki: Path
    compact: Callable[[], None]
    admin: Client = field(init=False)
    _clients: list[Client] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.admin = self.client()

    @property
    def embedded(self) -> bool:
        """Whether it is the embedded one."""
        return self.label == "embedded"

    def _tls(self, user: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.pki / "ca.crt"))
        if user:
            context.load_cert_chain(self.pki / f"{user}.crt", self.pki / f"{user}.key")
        return context

    def client(self, *, certificate: str = "admin", token: str = "", user: str = "") -> Client:
        """A client with one of the PKI's certificates, or with a token; ``user`` is whom the first impersonates."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if user:
            headers["Impersonate-User"] = user
        found = Client(self.address, self._tls("" if token else certificate), headers)
        self._clients.append(found)
        return found

    def make(self, collection: str, obj: Obj) -> Obj:
        """Create an object at a collection's path; the object as stored."""
        answer = self.admin.post(collection, obj)
        assert answer.status == http.client.CREATED, answer.body
        found: Obj = answer.body
        return found

    def until(self, path: str, condition: Callable[[Answer], bool], **query: str) -> Answer:
        """What the administrator is answered at ``path`` once ``condition`` holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition(answer := self.admin.get(path, **query)):
            assert time.monotonic() < deadline, f"{path} stays {answer.status} {answer.body}"
            time.sleep(0.02)
        return answer

    @staticmethod
    def eventually(condition: Callable[[], bool]) -> None:
        """Wait until something holds that a server comes to know in its own time."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "it did not come about"
            time.sleep(0.02)

    def close(self) -> None:
        """End every client."""
        for one in self._clients:
            one.close()


@contextlib.contextmanager
def embedded_server(folder: Path) -> Iterator[Server]:
    """The embedded API server, configured as in the lab but for its port, in a thread of its own."""
    pki = folder / "pki"
    pki.mkdir()
    make_pki(pki, (), ())
    config = ApiConfig(
        tls=Tls(pki / "apiserver.crt", pki / "apiserver.key", pki / "ca.crt"),
        sa_key=(pki / "sa.key").read_bytes(),
        service_accounts=True,
    )
    started: list[tuple[asyncio.AbstractEventLoop, asyncio.Event, Running]] = []
    ready = threading.Event()

    async def run() -> None:
        stop = asyncio.Event()
        async with serve(config) as running:
            started.append((asyncio.get_running_loop(), stop, running))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert ready.wait(PATIENCE), "the embedded API server did not start"
    loop, stop, running = started[0]
    server = Server(
        "embedded",
        ("127.0.0.1", running.ports[0]),
        pki,
        lambda: asyncio.run_coroutine_threadsafe(_forget(running), loop).result(PATIENCE),
    )
    try:
        yield server
    finally:
        server.close()
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)


async def _forget(running: Running) -> None:
    running.forget_history()


@contextlib.contextmanager
def contract_server(real: RealServer) -> Iterator[Server]:
    """The real kube-apiserver."""
    server = Server(
        "real",
        ("127.0.0.1", real.plane.port),
        real.folder / "pki",
        lambda: compact_etcd(real.plane.etcd_port),
    )
    try:
        yield server
    finally:
        server.close()


def compact_etcd(port: int) -> None:
    """Compact etcd at its present revision, through its JSON gateway."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:

        def ask(path: str, body: Obj) -> Obj:
            connection.request("POST", path, json.dumps(body))
            response = connection.getresponse()
            found: Obj = json.loads(response.read())
            assert response.status == http.client.OK, found
            return found

        revision = ask("/v3/kv/range", {"key": "AA=="})["header"]["revision"]
        ask("/v3/kv/compaction", {"revision": revision, "physical": True})
    finally:
        connection.close()
