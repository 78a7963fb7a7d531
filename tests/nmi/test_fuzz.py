"""Connections fed with what a grammar of requests yields: broken, doubled, smuggled, cut anywhere."""

from __future__ import annotations

import asyncio
import itertools
import re
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from podidentity.nmi.answer import Answer
from podidentity.nmi.connection import Connection, Limits
from podidentity.nmi.gate import GateRules, admit, understand
from podidentity.nmi.paths import Kind
from podidentity.nmi.request import Request

RULES = GateRules(hosts=frozenset({"169.254.169.254", "localhost"}))
GRANTED = Answer(200, b'{"access_token":"t"}')
TOKEN = b"/metadata/identity/oauth2/token"
PLAIN = re.compile(
    rb"GET +/(?i:metadata)/identity/oauth2/token/?\?[!-~]+ +HTTP/1\.[01]\r\n"
    rb"(?=(?:[^\r\n]+\r\n)*?(?i:metadata):[ \t]*true[ \t]*\r\n)"
    rb"(?!(?:[^\r\n]+\r\n)*?(?i:x-forwarded-for|forwarded|origin|sec-fetch-site):)"
)
"""What a granted request must look like, said once more and in another way."""


class Wire:
    """The other side of a connection: keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        """Take bytes; none may follow the end."""
        assert not self.closed
        self.written += data

    def close(self) -> None:
        """End."""
        self.closed = True

    def pause_reading(self) -> None:
        """Nothing to pause."""

    resume_reading = pause_reading


class Still:
    """A loop of which only the time is asked: it stands still."""

    def time(self) -> float:
        """Give the time."""
        return 0.0


class Gate:
    """A server (``connection.Work``) of the gate alone: what it admits to the token path is granted, and kept."""

    def __init__(self) -> None:
        self.limits = Limits()
        self.ending = False
        self.granted: list[bytes] = []
        self.answers: list[int] = []

    def opened(self, _connection: Connection) -> Answer | None:
        """Accept."""
        return None

    def closed(self, _connection: Connection) -> None:
        """Forget."""

    def refused(self, _connection: Connection, answer: Answer) -> None:
        """Whatever is refused is refused with an error."""
        assert answer.status >= 400

    def turn(self, _connection: Connection) -> bool:
        """Nobody else is there."""
        return True

    def at_once(self, request: Request) -> Answer:
        """Answer what the gate says."""
        target = understand(request.target)
        refusal = admit(request, target, RULES)
        if refusal is None and target.route.kind is Kind.TOKEN:
            self.granted.append(request.target)
        return refusal or GRANTED

    def begin(self, _connection: Connection, _request: Request) -> asyncio.Task[None] | None:
        """Start nothing: all is answered at once."""
        return None

    def done(self, _request: Request, answer: Answer, _started: float) -> None:
        """Keep the status."""
        self.answers.append(answer.status)


def some(*texts: bytes) -> st.SearchStrategy[bytes]:
    """One of these."""
    return st.sampled_from(texts)


ODD = st.binary(max_size=6) | some(b"%2f", b"%00", b"\\", b"//", b"/../", b"#", b"\t", b"\r", b"\n", b"\r\n", b" ")
METHODS = some(b"GET", b"GET", b"GET", b"POST", b"HEAD", b"OPTIONS", b"get", b"GET ", b"CONNECT")
PATHS = some(
    TOKEN, TOKEN, TOKEN, b"/METADATA/identity/oauth2/token", TOKEN + b"/", b"/metadata/instance", b"/host/token", b"/"
)
QUERIES = some(
    b"?resource=r", b"?resource=r", b"?resource=r&client_id=c", b"", b"?resource=r&resource=s", b"?api-version=1"
)
VERSIONS = some(b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.1 ", b"")
HOSTS = some(b"Host: 169.254.169.254", b"Host: 169.254.169.254", b"host: localhost:80", b"Host: evil", b"X: y")
METADATA = some(
    b"Metadata: true", b"Metadata: true", b"metadata:true", b"Metadata: True", b"Metadata: true, x", b"Y: z"
)
MORE = some(
    b"X-Forwarded-For: a",
    b"Origin: null",
    b"Sec-Fetch-Site: none",
    b"Metadata: true",
    b"Host: evil",
    b"Content-Length: 4",
    b"Content-Length: 40",
    b"Content-Length: x",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip",
    b"Connection: close",
    b"Connection: Upgrade",
    b"Upgrade: h2c",
    b"Expect: 100-continue",
    b" folded",
)
BODIES = some(b"", b"", b"abcd", b"0\r\n\r\n", b"4\r\nabcd\r\n0\r\n\r\n", b"0\r\nMetadata: true\r\n\r\n", b"zz\r\n")


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One request, more or less; sometimes with something odd anywhere in it."""
    lines = [draw(HOSTS), draw(METADATA), *draw(st.lists(MORE, max_size=2))]
    start = draw(METHODS) + b" " + draw(PATHS) + draw(QUERIES) + b" " + draw(VERSIONS)
    raw = b"\r\n".join([start, *draw(st.permutations(lines)), b"", b""]) + draw(BODIES)
    if draw(st.integers(0, 2)):
        return raw
    where = draw(st.integers(0, len(raw)))
    return raw[:where] + draw(ODD) + raw[where:]


def talk(pieces: list[bytes]) -> tuple[Gate, Wire]:
    """Feed a new connection; what came of it."""
    gate, wire = Gate(), Wire()
    connection = Connection(gate, cast("asyncio.AbstractEventLoop", Still()))
    connection.connection_made(cast("asyncio.Transport", wire))
    for piece in pieces:
        connection.data_received(piece)
    connection.connection_lost(None)
    return gate, wire


def more_than_asked(raw: bytes) -> bool:
    """Whether more is granted than stands there as a plain request."""
    plain = sum(1 for match in re.finditer(rb"GET ", raw) if PLAIN.match(raw, match.start()))
    return len(talk([raw])[0].granted) > plain


@given(st.lists(requests(), min_size=1, max_size=3))
@settings(max_examples=400, deadline=None)
def test_nothing_is_granted_that_is_not_a_plain_request(parts: list[bytes]) -> None:
    """Whatever is sent, no more is granted than stands there as a plain request, and all answers are JSON or empty."""
    raw = b"".join(parts)
    _, wire = talk([raw])
    assert not more_than_asked(raw)
    for head, body in re.findall(rb"(HTTP/1\.1 \d.*?\r\n\r\n)([^H]*)", wire.written, re.DOTALL):
        assert re.match(rb"HTTP/1\.1 (200|204|400|403|404|405|413|414|431|408) ", head)
        assert not body or body.startswith(b'{"')
        assert b"access-control" not in head.lower()


@given(st.lists(requests(), min_size=1, max_size=2), st.lists(st.integers(0, 400), max_size=4))
@settings(max_examples=300, deadline=None)
def test_where_the_network_cuts_changes_nothing(parts: list[bytes], cuts: list[int]) -> None:
    """The same bytes get the same answers and grants, however they arrive."""
    raw = b"".join(parts)
    places = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    whole, cut = talk([raw]), talk([raw[a:b] for a, b in itertools.pairwise(places)])
    assert (whole[0].granted, whole[1].written, whole[1].closed) == (cut[0].granted, cut[1].written, cut[1].closed)


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_survived(raw: bytes) -> None:
    """No bytes at all raise in the connection, and none are a token request by chance."""
    assert talk([raw])[0].granted == []


def test_the_plain_request_is_granted() -> None:
    """The oracle and the gate agree on the request that must be granted, also behind another one."""
    plain = b"GET " + TOKEN + b"?resource=r HTTP/1.1\r\nHost: localhost\r\nMetadata: true\r\n\r\n"
    assert PLAIN.match(plain)
    gate, _ = talk([plain * 2])
    assert gate.granted == [TOKEN + b"?resource=r"] * 2
    assert gate.answers == [200, 200]
