"""Tokens for ourselves: azure-identity against stand-ins, and the cache around it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.azure.servers import answer, fake_server

from podidentity.aio.clock import Clock
from podidentity.azure.cloud import CHINA, PUBLIC
from podidentity.azure.config import AzureConfig
from podidentity.azure.credentials import AccessToken, AzureIdentityCredential, CachedCredential, credential_for
from podidentity.azure.errors import AzureError, AzureUnavailable, TokenError
from podidentity.azure.sdk import managed_identity
from podidentity.config.redact import SecretText

ARM = "https://management.azure.com/"


def config(*, managed: bool, identity: str = "", tenant: str = "t-1") -> AzureConfig:
    """A configuration."""
    return AzureConfig(PUBLIC, tenant, "app-1", SecretText("hush"), "s", "g", managed, identity)


def token(expires_in: int = 3600, text: str = "s3cr3t") -> dict[str, object]:
    """What IMDS answers."""
    return {
        "access_token": text,
        "expires_on": str(int(time.time()) + expires_in),
        "expires_in": str(expires_in),
        "resource": ARM,
        "token_type": "Bearer",
    }


@pytest.mark.parametrize("identity", ["ae95", ""])
async def test_managed_identity(identity: str) -> None:
    """The node's identity is asked of the given metadata address: by client id, or the system-assigned without one."""
    async with fake_server() as imds:
        imds.default = answer(200, token())
        credential = credential_for(config(managed=True, identity=identity), imds_url=imds.url, environ={})
        got = [await credential.token(ARM) for _ in range(3)]
        await credential.close()
    assert got[0].token.reveal() == "s3cr3t"
    assert "s3cr3t" not in repr(got[0])
    (asked,) = imds.asked
    query = parse_qs(urlsplit(asked.target).query)
    assert query == {"api-version": ["2018-02-01"], "resource": [ARM]} | ({"client_id": [identity]} if identity else {})
    assert asked.headers["metadata"] == "true"


async def test_client_secret() -> None:
    """A client secret is posted to the tenant's endpoint, and nothing else is asked of anybody."""
    async with fake_server() as authority:
        authority.default = answer(200, {"access_token": "tok", "expires_in": 3600, "token_type": "Bearer"})
        credential = credential_for(config(managed=False), authority_url=authority.url, environ={})
        got = await credential.token(ARM)
        await credential.close()
    assert got.resource == ARM
    (asked,) = authority.asked
    assert (asked.method, asked.target) == ("POST", "/t-1/oauth2/v2.0/token")
    assert parse_qs(asked.body.decode())["client_secret"] == ["hush"]
    assert parse_qs(asked.body.decode())["scope"] == [f"{ARM}/.default"]


async def test_refused_secret() -> None:
    """A refused secret is a TokenError with Entra ID's reason and without the secret."""
    async with fake_server() as authority:
        authority.default = answer(
            401, {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided."}
        )
        credential = credential_for(config(managed=False), authority_url=authority.url, environ={})
        with pytest.raises(TokenError, match="AADSTS7000215") as caught:
            await credential.token(ARM)
        await credential.close()
    assert caught.value.status == 401
    assert "hush" not in str(caught.value)


async def test_identity_not_found() -> None:
    """An identity that is not on the machine is a TokenError at once."""
    async with fake_server() as imds:
        imds.default = answer(400, {"error": "invalid_request", "error_description": "Identity not found"})
        credential = credential_for(config(managed=True, identity="x"), imds_url=imds.url, environ={})
        with pytest.raises(TokenError, match="Identity not found") as caught:
            await credential.token(ARM)
        await credential.close()
    assert caught.value.status == 400
    assert len(imds.asked) == 1


async def test_wrong_tenant() -> None:
    """A tenant that is none is refused before anything is sent."""
    with pytest.raises(TokenError):
        credential_for(config(managed=False, tenant="../evil"), environ={})


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{", b'{"access_token": 3}', b"<html>", b'{"access_token":"x"}']
)
async def test_garbage_tokens(body: bytes) -> None:
    """A metadata service that talks nonsense makes an AzureError, nothing else."""
    async with fake_server() as imds:
        imds.default = answer(200, body)
        credential = credential_for(config(managed=True), imds_url=imds.url, environ={})
        with pytest.raises(AzureError):
            await credential.token(ARM)
        await credential.close()


async def test_deadline() -> None:
    """A metadata service that never answers costs the deadline only."""
    async with fake_server() as imds:
        imds.default = answer(200, token(), delay=30)
        inner = managed_identity("", imds_url=imds.url, environ={})
        credential = AzureIdentityCredential(inner, where="the metadata service", deadline=0.2)
        with pytest.raises(AzureUnavailable, match="no token from the metadata service within"):
            await credential.token(ARM)
        await credential.close()


@dataclass
class Source:
    """A credential whose tokens are numbered; ``fail`` makes it refuse, ``gate`` makes it wait."""

    now: Callable[[], float]
    life: int = 3600
    calls: int = 0
    fail: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def token(self, resource: str) -> AccessToken:
        """See Credential."""
        self.calls += 1
        number = self.calls
        await self.gate.wait()
        if self.fail:
            raise AzureUnavailable("down")
        return AccessToken(SecretText(f"tok{number}"), int(self.now()) + self.life, resource)

    async def close(self) -> None:
        """See Credential."""


@dataclass
class Wall:
    """A clock that is set by hand."""

    time: float = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.time


async def test_single_flight() -> None:
    """Many callers at once cause one request, and a second resource another."""
    wall = Wall()
    source = Source(wall)
    cached = CachedCredential(source, clock=Clock(wall=wall))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(cached.token("a")) for _ in range(10)] + [group.create_task(cached.token("b"))]
        await asyncio.sleep(0)
        source.gate.set()
    assert source.calls == 2
    assert len({task.result().token for task in tasks}) == 2


async def test_refreshed_ahead_without_waiting() -> None:
    """Near its expiry a token is renewed by one caller while the others still get the old one."""
    wall = Wall()
    source = Source(wall)
    source.gate.set()
    cached = CachedCredential(source, clock=Clock(wall=wall))
    old = await cached.token("a")
    wall.time += 3600 - 200
    source.gate.clear()
    async with asyncio.TaskGroup() as group:
        renewal = group.create_task(cached.token("a"))
        await asyncio.sleep(0)
        assert await cached.token("a") == old
        source.gate.set()
    assert renewal.result() != old
    assert source.calls == 2


async def test_failed_renewal() -> None:
    """A failed renewal serves the old token until it expires, then the failure is told."""
    wall = Wall()
    source = Source(wall)
    source.gate.set()
    cached = CachedCredential(source, clock=Clock(wall=wall))
    old = await cached.token("a")
    source.fail = True
    wall.time += 3500
    assert await cached.token("a") == old
    wall.time += 200
    with pytest.raises(AzureUnavailable):
        await cached.token("a")


async def test_cancelled_caller_does_not_block_others() -> None:
    """A caller that gives up while it fetches leaves the next one free to fetch."""
    wall = Wall()
    source = Source(wall)
    cached = CachedCredential(source, clock=Clock(wall=wall))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await cached.token("a")
    source.gate.set()
    assert (await cached.token("a")).token.reveal() == "tok2"


async def test_m39_authority_of_the_cloud() -> None:
    """The secret of another cloud's principal goes to that cloud's authority."""
    async with fake_server() as authority:
        authority.default = answer(200, {"access_token": "tok", "expires_in": 3600, "token_type": "Bearer"})
        chinese = AzureConfig(CHINA, "t-1", "app-1", SecretText("hush"), "s", "g", False, "")  # noqa: FBT003 - in order
        credential = credential_for(chinese, authority_url=authority.url, environ={})
        await credential.token(CHINA.resource_manager_audience)
        await credential.close()
    assert parse_qs(authority.asked[0].body.decode())["scope"] == ["https://management.chinacloudapi.cn//.default"]
