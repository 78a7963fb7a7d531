"""In which order a request is judged, and what is said of it before anything is looked up."""

from __future__ import annotations

import pytest
from tests.nmi.conftest import Bench, Make, Start

T = "/metadata/identity/oauth2/token?resource=r"
POD = "127.1.0.1"
HOST = "Host: 169.254.169.254\r\n"


async def ask(bench: Bench, first: str, headers: str) -> tuple[int, str]:
    """Send a request as POD; the status and the words of the answer."""
    reply = await bench.send(f"{first} HTTP/1.1\r\n{headers}\r\n".encode("latin-1"), POD)
    return reply.status, reply.json["error_description"]


async def test_checks_come_in_their_order(start: Start) -> None:
    """With everything wrong the Metadata header is named first, then proxies, browsers, the host, path and method."""
    bench = await start()
    wrong = {
        "Metadata: false": "Required metadata header",
        "X-Forwarded-For: a": "X-Forwarded-For",
        "Origin: b": "Origin",
        "Sec-Fetch-Site: none": "Sec-Fetch-Site",
        "Host: evil": "another host",
    }
    right = ["Metadata: true", "", "", "", "Host: 169.254.169.254"]
    lines = list(wrong)
    for number, words in enumerate(wrong.values()):
        status, said = await ask(bench, "POST /%2f", "".join(f"{line}\r\n" for line in lines if line))
        assert (status, words in said) == (400, True), said
        lines[number] = right[number]
    fields = "".join(f"{line}\r\n" for line in lines if line)
    assert "plain form" in (await ask(bench, "POST /%2f", fields))[1]
    assert (await ask(bench, "POST /", fields))[0] == 404
    assert (await ask(bench, f"POST {T}&resource=other", fields))[0] == 405
    assert "more than once" in (await ask(bench, f"GET {T}&resource=other", fields))[1]
    assert bench.api.asked == []
    assert bench.imds.calls == bench.imds.forwarded == []


async def test_head_and_options_are_answered_sensibly(start: Start) -> None:
    """HEAD is refused without a body, OPTIONS says what is allowed, and neither says anything of CORS."""
    bench = await start()
    for method, status in (("HEAD", 405), ("OPTIONS", 204)):
        raw = f"{method} {T} HTTP/1.1\r\n{HOST}Metadata: true\r\n\r\n"
        reply = await bench.send(raw.encode(), POD)
        assert (reply.status, reply.headers["allow"], reply.body) == (status, "GET, OPTIONS", b"")
        assert not any(name.startswith("access-control") for name in reply.headers)
    raw = f"OPTIONS {T} HTTP/1.1\r\n{HOST}Origin: http://evil\r\nAccess-Control-Request-Method: GET\r\n\r\n"
    reply = await bench.send(raw.encode(), POD)
    assert reply.status == 400
    assert not any(name.startswith("access-control") for name in reply.headers)


@pytest.mark.parametrize(("flags", "status"), [((), 400), (("--allowed-hosts=imds.test,Other.Test",), 200)])
async def test_a5_names_are_refused_unless_allowed(
    start: Start, make: type[Make], flags: tuple[str, ...], status: int
) -> None:
    """A name the operator allows may be asked for, in any case and with any port; others are rebound names."""
    bench = await start(*flags)
    pod = make.pod(ip=POD)
    bench.put_pod(pod)
    bench.put_assigned(make.assigned(pod))
    assert (await bench.get(T, POD, Host="OTHER.test:8080")).status == status
    assert (await bench.get(T, POD, Host="evil.test")).status == 400


async def test_header_not_required_is_warned_of(start: Start) -> None:
    """Whoever turns the Metadata header off reads what that means; by default nothing is said."""
    assert "--metadata-header-required=false" in (await start("--metadata-header-required=false")).log.getvalue()
    assert "--metadata-header-required" not in (await start()).log.getvalue()


async def test_header_less_probe_is_answered_before_any_look_up(start: Start) -> None:
    """A probe without header or query, from nobody known, is answered 400 at once and asks nobody."""
    bench = await start()
    probe = b"GET /metadata/identity/oauth2/token HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n"
    reply = await bench.send(probe, "127.9.9.9")
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
