"""Entra ID and Key Vault against stand-ins on real sockets."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.azure.servers import answer, fake_server

from podidentity.azure.answers import excerpt, retry_after
from podidentity.azure.entra import EntraClient
from podidentity.azure.errors import (
    AuthenticationFailed,
    AzureError,
    AzureUnavailable,
    KeyVaultError,
    Throttled,
    TokenError,
)
from podidentity.azure.keyvault import KeyVaultClient, SecretBundle, parse_vault_error
from podidentity.config.redact import SecretText


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_client_secret_grant(version: str) -> None:
    """A client secret buys a token at either endpoint, in the shape of IMDS's tokens."""
    async with fake_server() as authority:
        authority.default = answer(200, {"access_token": "tok", "expires_in": 3599, "token_type": "Bearer"})
        client = EntraClient(environ={}, plain_http=True, wall=lambda: 1000.0)
        got = await client.token(f"{authority.url}/", "t-1", "app", SecretText("a&b=c"), "https://r", version=version)  # type: ignore[arg-type]  # parametrized
        await client.close()
    assert (got.access_token, got.expires_on, got.resource) == ("tok", "4599", "https://r")
    (asked,) = authority.asked
    wanted = {"resource": ["https://r"]} if version == "v1" else {"scope": ["https://r/.default"]}
    assert parse_qs(asked.body.decode()) == {
        "client_id": ["app"],
        "client_secret": ["a&b=c"],
        "grant_type": ["client_credentials"],
        **wanted,
    }
    path = "/t-1/oauth2/token?api-version=1.0" if version == "v1" else "/t-1/oauth2/v2.0/token"
    assert asked.target == path


@pytest.mark.parametrize(
    ("authority", "tenant"),
    [
        ("http://login.example", "t"),
        ("ftp://x", "t"),
        ("", "t"),
        ("https://x", "../y"),
        ("https://x", ""),
        ("https://x", "a/b"),
    ],
)
async def test_secrets_go_to_https_tenants_only(authority: str, tenant: str) -> None:
    """An authority without TLS, or a tenant that would change the path, is refused before the secret is sent."""
    client = EntraClient(environ={})
    with pytest.raises(TokenError) as caught:
        await client.token(authority, tenant, "app", SecretText("hush"), "r")
    assert caught.value.status == 0
    assert "hush" not in str(caught.value)


async def test_refused_grant() -> None:
    """Entra ID's refusal keeps its code and status; a redirect is a refusal too and is not followed."""
    async with fake_server() as authority, fake_server() as foreign:
        client = EntraClient(environ={}, plain_http=True)
        authority.add(
            answer(401, {"error": "invalid_client", "error_description": "AADSTS7000215: x\r\nTrace ID: y"}),
            answer(307, None, {"Location": foreign.url}),
        )
        with pytest.raises(TokenError, match="AADSTS7000215"):
            await client.token(authority.url, "t", "app", SecretText("s"), "r")
        with pytest.raises(TokenError, match="http_307"):
            await client.token(authority.url, "t", "app", SecretText("s"), "r")
        await client.close()
        assert foreign.asked == []


async def test_secret() -> None:
    """A secret comes with value, version and content type; without a version the path ends in a slash."""
    async with fake_server() as vault:
        vault.default = answer(
            200, {"value": "e+9qBwdjC<q6<P_n", "id": "https://kv.vault.azure.net/secrets/s1/v1", "contentType": "t"}
        )
        client = KeyVaultClient(environ={}, user_agent="agent")
        assert await client.secret(vault.url, "s1", "v1", "tok") == SecretBundle(
            "e+9qBwdjC<q6<P_n", "https://kv.vault.azure.net/secrets/s1/v1", "v1", "t"
        )
        await client.secret(f"{vault.url}/", "s1", "", "tok")
        await client.secret(vault.url, "../a?b", "", "tok")
        await client.close()
    assert [asked.target for asked in vault.asked] == [
        "/secrets/s1/v1?api-version=7.4",
        "/secrets/s1/?api-version=7.4",
        "/secrets/..%2Fa%3Fb/?api-version=7.4",
    ]
    assert vault.asked[0].headers["authorization"] == "Bearer tok"
    assert vault.asked[0].headers["user-agent"] == "agent"


def error(code: str, message: str, inner: str = "") -> dict[str, object]:
    """Key Vault's error body."""
    return {"error": {"code": code, "message": message, **({"innererror": {"code": inner}} if inner else {})}}


@pytest.mark.parametrize(
    ("status", "body", "kind", "expected"),
    [
        (
            403,
            error("Forbidden", "no\r\nway", "ForbiddenByRbac"),
            KeyVaultError,
            "403 ForbiddenByRbac: no way",
        ),
        (
            404,
            error("SecretNotFound", "A secret with (name/id) s1 was not found"),
            KeyVaultError,
            "SecretNotFound",
        ),
        (
            401,
            error("Unauthorized", "AKV10022: Invalid audience."),
            AuthenticationFailed,
            "AKV10022",
        ),
        (429, b"", Throttled, "HTTP 429"),
        (302, b"", KeyVaultError, "redirect, which is not followed"),
        (500, b"<html>", KeyVaultError, "HTTP 500: <html>"),
        (500, b"[" * 50_000, KeyVaultError, "HTTP 500"),
        (200, b"{", AzureUnavailable, "not a secret"),
        (200, {"id": "x"}, AzureUnavailable, "secret value is nil"),
        (200, {"value": "x"}, AzureUnavailable, "secret id is nil"),
    ],
)
async def test_vault_refusals(status: int, body: object, kind: type[AzureError], expected: str) -> None:
    """Whatever the vault answers becomes one line with its code; nothing is followed or repeated."""
    async with fake_server() as vault:
        vault.default = answer(status, body, {"Location": "http://127.0.0.1:1/", "Retry-After": "3"})
        client = KeyVaultClient(environ={})
        with pytest.raises(kind, match=expected) as caught:
            await client.secret(vault.url, "s1", "", "tok")
        await client.close()
    assert "\n" not in str(caught.value)
    assert len(vault.asked) == 1


@given(body=st.binary(max_size=300))
def test_any_vault_error(body: bytes) -> None:
    """No error body whatever makes anything but an error of one line."""
    assert "\n" not in str(parse_vault_error(403, {}, body, None))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("Thu, 01 Jan 1970 00:20:00 GMT", 200.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("99999999", 3600.0),
        ("-1", None),
        ("nan", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    """Retry-After is read as seconds or date, never negative, never longer than an hour; nonsense counts as absent."""
    assert retry_after({"retry-AFTER": value}, 1000.0) == seconds
    assert retry_after({}, 1000.0) is None


@given(value=st.text(max_size=40))
def test_any_retry_after(value: str) -> None:
    """No header whatever breaks the reader."""
    wait = retry_after({"Retry-After": value}, 1000.0)
    assert wait is None or 0 <= wait <= 3600


@given(body=st.binary(max_size=2000))
def test_excerpt(body: bytes) -> None:
    """An excerpt is one short printable line of any body."""
    text = excerpt(body)
    assert text.isprintable()
    assert len(text) <= 203
