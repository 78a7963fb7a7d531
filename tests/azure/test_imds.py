"""The metadata client against a stand-in on a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from tests.azure.servers import Fake, Request, answer, fake_server

from podidentity.azure.errors import AzureUnavailable, TokenError
from podidentity.azure.imds import ImdsClient, ImdsToken, parse_token, refusal

TOKEN = {
    "access_token": "tok",
    "client_id": "c",
    "expires_in": "86317",
    "expires_on": "1709895997",
    "ext_expires_in": "86399",
    "not_before": "1709809297",
    "resource": "https://vault.azure.net",
    "token_type": "Bearer",
    "refresh_token": "",
}


@pytest.fixture
async def imds() -> AsyncIterator[Fake]:
    """A stand-in for IMDS."""
    async with fake_server() as fake:
        yield fake


@pytest.fixture
async def client(imds: Fake) -> AsyncIterator[ImdsClient]:
    """A client with a short timeout that must not look at proxies."""
    client = ImdsClient(imds.url, timeout=0.5, environ={}, wall=lambda: 1000.0)
    yield client
    await client.close()


async def test_token(imds: Fake, client: ImdsClient) -> None:
    """A token request carries version, header and the identity, and the answer is given as sent."""
    imds.default = answer(200, TOKEN)
    got = await client.token("https://vault.azure.net", client_id="c")
    assert got == ImdsToken(**{k: v for k, v in TOKEN.items() if k != "refresh_token"})
    assert "tok" not in repr(got)
    (asked,) = imds.asked
    assert asked.target.startswith("/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https")
    assert asked.target.endswith("&client_id=c")
    assert asked.headers["metadata"] == "true"
    await client.token("r", resource_id="/subscriptions/x y&z=1")
    await client.token("r", object_id="o")
    assert imds.asked[1].target.endswith("&msi_res_id=/subscriptions/x+y%26z%3D1")
    assert imds.asked[2].target.endswith("&object_id=o")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"error": "invalid_request", "error_description": "Identity not found"}, "Identity not found"),
        (429, {"error": "invalid_request", "error_description": "throttled"}, "throttled"),
        (404, {"error": "Not Found"}, "Not Found"),
        (500, b"<html>\nboom", "http_500: <html> boom"),
        (410, b"", "http_410"),
        (302, b"", "http_302"),
        (400, {"error": 3, "error_description": ["x"]}, "http_400"),
        (400, b"[" * 50_000, "http_400"),
    ],
)
async def test_refusals(imds: Fake, client: ImdsClient, status: int, body: object, expected: str) -> None:
    """Every error answer becomes a TokenError with status, text and the time to wait; none is followed or repeated."""
    imds.default = answer(status, body, {"Retry-After": "5", "Location": "http://127.0.0.1:1/"})
    with pytest.raises(TokenError, match=expected) as caught:
        await client.token("r")
    assert caught.value.status == status
    assert caught.value.retry_after == 5
    assert len(imds.asked) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'{"access_token":""}', b'{"access_token":"x"}', b"nul"])
async def test_success_without_token(imds: Fake, client: ImdsClient, body: bytes) -> None:
    """A success that holds no usable token is a refusal."""
    imds.default = answer(200, body)
    with pytest.raises(TokenError, match="no token"):
        await client.token("r")


def test_expiry_is_always_there() -> None:
    """Numbers become text, and whichever of the two expiries is missing is worked out."""
    only_in = parse_token(b'{"access_token":"x","expires_in":3599}', resource="r", now=1000.5)
    assert (only_in.expires_on, only_in.expires_in, only_in.resource) == ("4599", "3599", "r")
    only_on = parse_token(b'{"access_token":"x","expires_on":1500}', resource="r", now=1000)
    assert (only_on.expires_on, only_on.expires_in) == ("1500", "500")
    dated = parse_token(
        b'{"access_token":"x","expires_on":"11/05/2021 15:18:31 +00:00","expires_in":"60"}', resource="r", now=1000
    )
    assert dated.expires_on == "1060"


@given(body=st.binary(max_size=300))
def test_any_body(body: bytes) -> None:
    """No body whatever makes anything but a token or a TokenError."""
    refusal(500, body, None)
    try:
        parse_token(body, resource="r", now=0)
    except TokenError as error:
        assert error.status == 200  # noqa: PT017 - either outcome is fine


async def test_unreachable_and_slow(imds: Fake, client: ImdsClient) -> None:
    """No answer in time, an answer beyond the bound and no server at all are AzureUnavailable."""
    imds.add(answer(200, TOKEN, delay=30), answer(200, b" " * (5 * 1024 * 1024)))
    with pytest.raises(AzureUnavailable, match=r"within 0\.5 s"):
        await client.token("r")
    with pytest.raises(AzureUnavailable, match="larger than"):
        await client.token("r")
    nowhere = ImdsClient("http://127.0.0.1:1", environ={})
    with pytest.raises(AzureUnavailable, match="cannot be reached"):
        await nowhere.token("r")
    await nowhere.close()


async def test_forward(imds: Fake, client: ImdsClient) -> None:
    """A forwarded request keeps target, method, body and headers byte for byte, but not those of the connection."""

    async def echo(_: Request) -> web.Response:
        return web.Response(status=203, body=b"\x1f\x8b-not-gzip", headers={"X-One": "1", "Content-Encoding": "gzip"})

    imds.default = echo
    target = "/METADATA/instance/a%2Fb/../c?x=%41&y=a+b&y=2&q=caf%C3%A9"
    headers = [("Metadata", "true"), ("Host", "evil"), ("Connection", "close"), ("X-A", "1"), ("X-A", "2")]
    got = await client.forward("POST", target, headers, b"body")
    assert (got.status, got.body) == (203, b"\x1f\x8b-not-gzip")
    assert ("X-One", "1") in got.headers
    assert not {name.lower() for name, _ in got.headers} & {"connection", "transfer-encoding", "content-length"}
    (asked,) = imds.asked
    assert (asked.method, asked.target, asked.body) == ("POST", target, b"body")
    assert asked.headers["host"] == imds.url.removeprefix("http://")
    assert "user-agent" not in asked.headers
    assert "accept-encoding" not in asked.headers


async def test_forwarded_redirect(imds: Fake, client: ImdsClient) -> None:
    """A redirect is handed back, not followed."""
    imds.default = answer(302, b"", {"Location": "http://127.0.0.1:1/"})
    assert (await client.forward("GET", "/metadata/instance", [], b"")).status == 302
