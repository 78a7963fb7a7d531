"""Hostile raw requests over real sockets: each is refused with JSON, and nothing of it reaches IMDS."""

from __future__ import annotations

import json

import pytest
from tests.nmi.conftest import Bench, Make, Start

T = "/metadata/identity/oauth2/token"
Q = "?api-version=2018-02-01&resource=https://vault.azure.net"
POD = "127.1.0.1"
GOOD = "Host: 169.254.169.254\r\nMetadata: true\r\n"

TARGETS = [
    ("/metadata/identity%2foauth2/token" + Q, 400),
    ("/metadata/identity%2Foauth2%2Ftoken" + Q, 400),
    ("/metad%61ta/identity/oauth2/token" + Q, 400),
    ("/%6detadata/identity/oauth2/token" + Q, 400),
    ("/metadata/identity/oauth2/token%00" + Q, 400),
    ("/metadata/identity/oauth2/token%0d%0a" + Q, 400),
    ("/metadata/identity/oauth2/token%23x" + Q, 400),
    ("/metadata/identity/oauth2/token%3fx=1" + Q, 400),
    ("/metadata/identity/oauth2/%74oken" + Q, 400),
    ("/metadata/identity/oauth2/token%" + Q, 400),
    ("/metadata/identity/oauth2%5ctoken" + Q, 400),
    ("/metadata/identity\\oauth2\\token" + Q, 400),
    ("/metadata\\identity/oauth2/token" + Q, 400),
    ("\\metadata/identity/oauth2/token" + Q, 400),
    ("//metadata/identity/oauth2/token" + Q, 400),
    ("/metadata//identity/oauth2/token" + Q, 400),
    ("/metadata/identity/oauth2//token" + Q, 400),
    ("/metadata/identity/oauth2/token//" + Q, 400),
    ("/metadata/./identity/oauth2/token" + Q, 400),
    ("/metadata/../metadata/identity/oauth2/token" + Q, 400),
    ("/metadata/instance/../identity/oauth2/token" + Q, 400),
    ("/metadata/identity/oauth2/token/." + Q, 400),
    ("/metadata/identity/oauth2/token/.." + Q, 400),
    ("/./metadata/identity/oauth2/token" + Q, 400),
    ("/../metadata/identity/oauth2/token" + Q, 400),
    ("http://169.254.169.254" + T + Q, 400),
    ("HTTP://169.254.169.254" + T + Q, 400),
    ("http://evil.example" + T + Q, 400),
    ("//169.254.169.254" + T + Q, 400),
    ("*", 400),
    (T + "#x" + Q, 400),
    (T + Q + "#fragment", 400),
    (T[1:] + Q, 400),
    ("?" + Q[1:], 400),
    (T + "\x00" + Q, 400),
    (T + "\x01" + Q, 400),
    (T + "\x7f" + Q, 400),
    (T + "\t" + Q, 400),
    (T + "\xe9" + Q, 400),
    (T + "\xc0\xaf" + Q, 400),
    (T + Q + "\x80", 400),
    (T + Q + "%zz", 400),
    (T + Q + "%", 400),
    (T + Q + "%e9", 400),
    (T + Q + "%00", 400),
    (T + Q + "%0d%0aMetadata:%20true", 400),
    (T + ";x=1" + Q, 404),
    (T + "X" + Q, 404),
    (T + "/x" + Q, 404),
    ("/metadata/Identity/oauth2/token" + Q, 404),
    ("/metadata/identity/OAuth2/token" + Q, 404),
    ("/metadata/identity/oauth2/Token" + Q, 404),
    ("/metadata/identity/oauth2" + Q, 404),
    ("/metadata/identity" + Q, 404),
    ("/metadata" + Q, 404),
    ("/metadataX/identity/oauth2/token" + Q, 404),
    ("/xmetadata/identity/oauth2/token" + Q, 404),
    ("/METADATA/IDENTITY/oauth2/token" + Q, 404),
    ("/", 404),
    ("/doesnotexist", 404),
    ("/healthz", 404),
    ("/metrics", 404),
    ("/machine?comp=goalstate", 404),
    ("/latest/meta-data/iam", 404),
    ("/metadata/instanceX?api-version=2021-02-01", 404),
    ("/metadata/instance/compute;x?api-version=2021-02-01", 404),
    ("/metadata/instance/compute/a.b?api-version=2021-02-01", 404),
    ("/metadata/scheduledevents/x?api-version=2020-07-01", 404),
    ("/metadata/identity/info/x?api-version=2018-02-01", 404),
    ("/Host/token" + Q, 404),
    ("/host/tokenX" + Q, 404),
    ("/host/../host/token" + Q, 400),
    (T, 400),
    (T + "?", 400),
    (T + "?resource=", 400),
    (T + "?resource", 400),
    (T + "?api-version=2018-02-01", 400),
    (T + Q + "&resource=https://other", 400),
    (T + Q + "&RESOURCE=https://other", 400),
    (T + Q + "&client_id=a&client_id=b", 400),
    (T + Q + "&client_id=a&Client_ID=b", 400),
    (T + Q + "&client_id=a&clien%74_id=b", 400),
    (T + Q + "&client_id=a&msi_res_id=/x", 400),
    (T + Q + "&client_id=a&object_id=b", 400),
    (T + Q + "&msi_res_id=/x&mi_res_id=/y", 400),
    (T + Q + "&api-version=2018-02-01", 400),
    (T + Q + "&x=" + "a" * 4000, 400),
    (T + Q + "".join(f"&x{n}=1" for n in range(64)), 400),
    (T + Q + "&x=" + "a" * 9000, 414),
]

HEADERS = [
    ("Host: 169.254.169.254\r\n", 400, "Required metadata header not specified"),
    ("Host: 169.254.169.254\r\nMetadata: True\r\n", 400, "Required metadata header not specified"),
    ("Host: 169.254.169.254\r\nMetadata: TRUE\r\n", 400, "Required metadata header not specified"),
    ("Host: 169.254.169.254\r\nMetadata:\r\n", 400, "Required metadata header not specified"),
    ("Host: 169.254.169.254\r\nMetadata: true, true\r\n", 400, "Required metadata header not specified"),
    ("Host: 169.254.169.254\r\nMetadata: false\r\nMetadata: true\r\n", 400, "more than once"),
    ("Host: 169.254.169.254\r\nMetadata:\r\nMetadata: true\r\n", 400, "more than once"),
    (GOOD + "X-Forwarded-For: 10.0.0.1\r\n", 400, "X-Forwarded-For"),
    (GOOD + "x-forwarded-for:\r\n", 400, "x-forwarded-for"),
    (GOOD + "Forwarded: for=10.0.0.1\r\n", 400, "Forwarded"),
    (GOOD + "Origin: http://evil.example\r\n", 400, "Origin"),
    (GOOD + "Origin: null\r\n", 400, "Origin"),
    (GOOD + "Sec-Fetch-Site: same-origin\r\n", 400, "Sec-Fetch-Site"),
    (GOOD + "sec-fetch-site: none\r\n", 400, "sec-fetch-site"),
    ("Host: [169.254.169.254]\r\nMetadata: true\r\n", 400, "another host"),
    ("Host: [fe80::1%25eth0]\r\nMetadata: true\r\n", 400, "another host"),
    ("Host: ::1\r\nMetadata: true\r\n", 400, "another host"),
    ("Host: 0xa9fea9fe\r\nMetadata: true\r\n", 400, "another host"),
    ("Host: localhost.\r\nMetadata: true\r\n", 400, "another host"),
    ("Metadata: true\r\n", 400, "Host is missing"),
    ("Host: evil.example\r\nMetadata: true\r\n", 400, "another host"),
    ("Host: 169.254.169.254.evil.example\r\nMetadata: true\r\n", 400, "another host"),
    ("Host: 169.254.169.254:80:80\r\nMetadata: true\r\n", 400, "another host"),
    ("Host: 169.254.169.254@evil\r\nMetadata: true\r\n", 400, "another host"),
    ("Host:\r\nMetadata: true\r\n", 400, "another host"),
    ("Host: 169.254.169.254\r\nHost: evil\r\nMetadata: true\r\n", 400, "more than once"),
    (GOOD + "Content-Length: 3\r\nContent-Length: 4\r\n", 400, "well-formed"),
    (GOOD + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", 400, "well-formed"),
    (GOOD + "Content-Length: -1\r\n", 400, "well-formed"),
    (GOOD + "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", 400, "well-formed"),
    (GOOD + "Bad Name: x\r\n", 400, "well-formed"),
    (GOOD + "X: a\x00b\r\n", 400, "well-formed"),
    (GOOD + " folded: x\r\n", 400, "well-formed"),
    (GOOD + "Connection: Upgrade\r\nUpgrade: websocket\r\n", 400, "upgrades"),
    (GOOD + "X-Big: " + "a" * 20000 + "\r\n", 431, "too large"),
    (GOOD + "".join(f"X-{n}: 1\r\n" for n in range(100)), 431, "too large"),
    (GOOD + "Content-Length: 5000\r\n\r\n" + "a" * 5000, 413, "body is too large"),
]

METHODS = ["POST", "PUT", "DELETE", "PATCH", "TRACE", "HEAD", "PROPFIND"]


def prepare(bench: Bench, make: type[Make]) -> None:
    """Make the caller a pod that would get a token if it asked properly."""
    pod = make.pod(ip=POD)
    bench.put_pod(pod)
    bench.put_assigned(make.assigned(pod))


async def test_no_hostile_target_gets_a_token_or_is_forwarded(start: Start, make: type[Make]) -> None:
    """An entitled pod gets neither token nor IMDS document through any target outside the allow-list."""
    bench = await start()
    prepare(bench, make)
    wrong = []
    for target, status in TARGETS:
        reply = await bench.send(f"GET {target} HTTP/1.1\r\n{GOOD}\r\n".encode("latin-1"), POD)
        if reply.status != status:
            wrong.append((target, status, reply.status))
        assert set(json.loads(reply.body)) == {"error", "error_description"}, target
        assert reply.headers["content-type"].startswith("application/json")
    assert wrong == []
    assert bench.imds.calls == []
    assert bench.imds.forwarded == []


async def test_no_hostile_header_gets_a_token(start: Start, make: type[Make]) -> None:
    """An entitled pod gets no token with headers that IMDS, or any sane server, refuses."""
    bench = await start()
    prepare(bench, make)
    for headers, status, words in HEADERS:
        raw = f"GET {T}{Q} HTTP/1.1\r\n{headers}\r\n".encode("latin-1")
        reply = await bench.send(raw, POD)
        assert reply.status == status, headers[:200]
        body = json.loads(reply.body)
        assert set(body) == {"error", "error_description"}
        assert words in body["error_description"], headers[:200]
    assert bench.imds.calls == []


@pytest.mark.parametrize("method", METHODS)
async def test_only_get_is_served(start: Start, make: type[Make], method: str) -> None:
    """Any other method is answered 405 with Allow, and without a CORS header."""
    bench = await start()
    prepare(bench, make)
    reply = await bench.send(f"{method} {T}{Q} HTTP/1.1\r\n{GOOD}\r\n".encode(), POD)
    assert reply.status == 405
    assert reply.headers["allow"] == "GET, OPTIONS"
    assert not any(name.startswith("access-control") for name in reply.headers)
    assert bench.imds.calls == []


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"get / HTTP/1.1\r\n\r\n",
        b"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00\x00\x00\x00",
        b"GET / HTTP/1.1\nHost: 169.254.169.254\nMetadata: true\r\n\r\n\xff",
    ],
)
async def test_what_is_no_http_is_answered_in_json(start: Start, raw: bytes) -> None:
    """The parser's own refusals have IMDS's shape too."""
    bench = await start()
    reply = await bench.send(raw)
    assert reply.status in (400, 404, 405)
    assert set(json.loads(reply.body)) == {"error", "error_description"}


@pytest.mark.parametrize(
    "target",
    [T + Q, "/Metadata/identity/oauth2/token" + Q, "/METADATA/identity/oauth2/token" + Q, T + "/" + Q],
)
async def test_the_plain_forms_are_served(start: Start, make: type[Make], target: str) -> None:
    """The path itself, any case of its first segment, and one final slash get the token."""
    bench = await start()
    prepare(bench, make)
    reply = await bench.get(target, POD)
    assert reply.status == 200


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "169.254.169.254:80", "10.9.9.9:2579", "LocalHost:2579", "[::1]:2579", "[fd00::5]", "10.0.0.5"],
)
async def test_own_names_are_served(start: Start, make: type[Make], host: str) -> None:
    """Requests sent to any address, or to loopback by name, pass the Host check."""
    bench = await start()
    prepare(bench, make)
    assert (await bench.get(T + Q, POD, Host=host)).status == 200


async def test_header_less_probe_is_answered_before_any_look_up(start: Start) -> None:
    """A probe without header or query, from nobody known, is answered 400 at once and asks nobody."""
    bench = await start()
    reply = await bench.send(f"GET {T} HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n".encode(), "127.9.9.9")
    assert reply.status == 400
    assert reply.json["error"] == "invalid_request"
    assert "Identity not found" not in reply.json["error_description"]
    assert bench.api.asked == []


async def test_unknown_path_without_header_misses_the_header_first(start: Start) -> None:
    """The documented check of the original: 400 without the header, 404 with it."""
    bench = await start()
    bare = await bench.send(b"GET /doesnotexist HTTP/1.1\r\nHost: 127.0.0.1:2579\r\n\r\n")
    assert (bare.status, bare.json["error_description"]) == (400, "Required metadata header not specified")
    assert (await bench.get("/doesnotexist")).status == 404
