"""Service principals (types 1 and 2) over real sockets: whose Secret is read, where it goes, what is told."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from tests.azure.certificates import ec_key, pair, rsa_key
from tests.nmi.conftest import TENANT, Bench, Make, Start

from podidentity.aio.clock import Clock
from podidentity.api.constants import TYPE_SERVICE_PRINCIPAL_CERTIFICATE
from podidentity.nmi.tokens.authority import Authorities, is_tenant
from podidentity.nmi.tokens.principal import watch_secrets
from podidentity.nmi.tokens.source import TokenRefused, TokenRequest

LOGIN = "https://login.microsoftonline.com"
OTHER_TENANT = "11111111-2222-3333-4444-555555555555"
RIGHT = {"clientSecret": b"right\n"}


def entitle(bench: Bench, make: type[Make], data: dict[str, bytes] | None = None, **spec: object) -> None:
    """Give the pod a service principal with this Secret."""
    pod = make.pod()
    bench.put_pod(pod)
    if data is not None:
        bench.api.secrets["team/sp"] = data
    identity = make.identity(**{"type_": 1, "secret": "sp", **spec})  # type: ignore[arg-type]
    bench.put_assigned(make.assigned(pod, identity))


async def test_service_principal_gets_its_token_from_entra(start: Start, make: type[Make]) -> None:
    """Type 1 reads the Secret of the identity's namespace and asks Entra ID; IMDS is left alone."""
    bench = await start()
    entitle(bench, make, RIGHT)
    reply = await bench.token()
    assert (reply.status, reply.json["client_id"], reply.json["expires_in"][:2]) == (200, "client-of-app", "35")
    assert bench.entra.calls == [f"{LOGIN}/{TENANT}/client-of-app"]
    assert bench.imds.calls == []


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        ({"clientSecret": b"wrong"}, 401, "AADSTS7000215"),
        ({}, 403, "must have one key"),
        ({"a": b"right", "b": b"right"}, 403, "must have one key"),
        ({"clientSecret": b"right", "password": b"right"}, 403, "exactly one of clientSecret"),
        ({"clientSecret": b" \n"}, 403, "is empty"),
        ({"clientSecret": b"\xff"}, 403, "is not text"),
        (None, 403, "does not exist"),
    ],
)
async def test_d27_ambiguous_and_bad_secrets_are_refused(
    start: Start, make: type[Make], data: dict[str, bytes] | None, status: int, words: str
) -> None:
    """No key is picked at random: what cannot be told apart is refused, logged, counted, and stands in the status."""
    bench = await start()
    entitle(bench, make, data)
    reply = await bench.token()
    assert (reply.status, words in reply.json["error_description"]) == (status, True)
    if status == 403:
        assert [one.about for one in bench.app.tokens.conditions.standing()] == ["Secret team/sp"]
        assert "failed to get the proof of a service principal" in bench.log.getvalue()
        assert b"nmi_secret_problems_count" in bench.metrics.render()
    assert b"right" not in reply.body
    assert "right" not in bench.log.getvalue()


async def test_d27_secret_is_read_once_a_minute_at_most(start: Start, make: type[Make]) -> None:
    """Requests for many resources read the Secret once, not each time."""
    bench = await start()
    entitle(bench, make, RIGHT)
    for number in range(5):
        assert (await bench.token(resource=f"https://r{number}")).status == 200
    assert bench.api.asked == ["secret team/sp"]


async def test_secret_that_entra_refuses_is_read_again(start: Start, make: type[Make]) -> None:
    """A rotation is taken up with the first refusal; a secret that has not changed is not tried twice."""
    bench = await start()
    entitle(bench, make, RIGHT)
    assert (await bench.token()).status == 200
    bench.entra.right = ["new"]
    assert (await bench.token(resource="https://other")).status == 401
    assert len(bench.entra.calls) == 2
    bench.api.secrets["team/sp"] = {"clientSecret": b"new"}
    assert (await bench.token(resource="https://third")).status == 200
    assert len(bench.entra.calls) == 4


async def test_d27_rotation_evicts_tokens_of_the_old_secret(start: Start, make: type[Make]) -> None:
    """A Secret that changed, or is gone, is noticed while its tokens are in use: they are not served on."""
    bench = await start()
    entitle(bench, make, RIGHT)
    first = await bench.token()
    tokens = bench.app.tokens
    assert not await tokens.proofs.changed("team/sp")
    bench.entra.right.append("new")
    bench.api.secrets["team/sp"] = {"clientSecret": b"new"}
    assert await tokens.proofs.changed("team/sp")
    assert (await bench.token()).json["access_token"] == first.json["access_token"]
    del bench.api.secrets["team/sp"]
    assert await tokens.proofs.changed("team/sp")
    assert not await tokens.proofs.changed("team/unknown")


@pytest.mark.looptime
async def test_secrets_in_use_are_looked_at_each_minute() -> None:
    """Only Secrets whose tokens are kept are looked at; a changed one loses its tokens and is read anew."""

    class Watched:
        def __init__(self) -> None:
            self.asked: list[str] = []
            self.forgotten: list[str] = []

        async def changed(self, secret: str) -> bool:
            self.asked.append(secret)
            return secret == "team/b"

        def forget(self, secret: str) -> None:
            self.forgotten.append(secret)

    proofs = Watched()
    evicted: list[str] = []
    watching = asyncio.ensure_future(
        watch_secrets(proofs, lambda: {"team/a", "team/b"}, evicted.append)  # type: ignore[arg-type]
    )
    await asyncio.sleep(125)
    assert proofs.asked == ["team/a", "team/b"] * 2
    assert evicted == proofs.forgotten == ["team/b"] * 2
    watching.cancel()


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://evil.example",
        "https://[evil.example",
        "http://login.microsoftonline.com",
        "https://login.microsoftonline.com:8443",
        "https://login.microsoftonline.com?x=",
        "https://login.microsoftonline.com#x",
        "https://user@login.microsoftonline.com",
        "https://login.microsoftonline.com/other",
        "https://evil.example\\@login.microsoftonline.com",
        "https://login.microsoftonline.com.evil.example",
        "https://login.microsoftonline.us",
        "https://login.microsoftonline.com:x",
        "https://l\u00f6gin.microsoftonline.com",
    ],
)
async def test_a1_secret_is_not_read_for_a_foreign_endpoint(start: Start, make: type[Make], endpoint: str) -> None:
    """Who may create an AzureIdentity cannot have a Secret posted to a server of theirs: it is not even read."""
    bench = await start()
    entitle(bench, make, RIGHT, endpoint=endpoint)
    reply = await bench.token()
    assert (reply.status, "adEndpoint" in reply.json["error_description"]) == (403, True)
    assert (bench.api.asked, bench.entra.calls) == ([], [])


@pytest.mark.parametrize("tenant", ["", "tenant", "common", "a/b", "../x", "a.b/c", "a..b", "-a.b", "a.b?c", "a.b\n"])
async def test_a1_secret_is_not_read_for_a_tenant_that_is_none(start: Start, make: type[Make], tenant: str) -> None:
    """A tenantID that is neither a GUID nor a domain name never becomes part of a URL."""
    bench = await start()
    entitle(bench, make, RIGHT, tenant=tenant)
    reply = await bench.token()
    assert (reply.status, "tenantID" in reply.json["error_description"]) == (403, True)
    assert bench.api.asked == []
    assert is_tenant("contoso.onmicrosoft.com")


async def test_a1_secret_of_another_namespace_is_refused_unless_allowed(start: Start, make: type[Make]) -> None:
    """An AzureIdentity names Secrets of its own namespace only, before and after one is cached; a flag lifts it."""
    bench = await start()
    entitle(bench, make, RIGHT, secret_namespace="kube-system")
    bench.api.secrets["kube-system/sp"] = {"clientSecret": b"right"}
    reply = await bench.token()
    assert (reply.status, "another namespace" in reply.json["error_description"]) == (403, True)
    assert bench.api.asked == []
    lax = await start("--allow-cross-namespace-secrets")
    entitle(lax, make, secret_namespace="kube-system")
    lax.api.secrets["kube-system/sp"] = {"clientSecret": b"right"}
    assert (await lax.token()).status == 200
    assert lax.api.asked == ["secret kube-system/sp"]


def test_d28_default_endpoint_is_the_clouds_own() -> None:
    """Without adEndpoint the configured cloud is asked, sovereign or custom; other spellings of it are it."""
    china = Authorities("https://login.chinacloudapi.cn/", ("https://login.partner.microsoftonline.cn",))
    stack = Authorities("https://adfs.local.azurestack.external/adfs", ("https://login.example:8443",))

    def of(authorities: Authorities, endpoint: str) -> str:
        return authorities.of(TokenRequest("r", type=1, tenant_id=TENANT.upper(), ad_endpoint=endpoint))

    assert of(china, "") == of(china, "HTTPS://Login.ChinaCloudAPI.cn:443/") == "https://login.chinacloudapi.cn"
    assert of(china, "https://login.partner.microsoftonline.cn/") == "https://login.partner.microsoftonline.cn"
    assert of(stack, "") == of(stack, "https://adfs.local.azurestack.external/adfs/")
    assert of(stack, "https://login.example:8443") == "https://login.example:8443"
    for authorities, endpoint in ((china, LOGIN), (stack, "https://login.example"), (stack, "https://adfs.local")):
        with pytest.raises(TokenRefused):
            of(authorities, endpoint)


async def test_certificate_gets_its_token(start: Start, make: type[Make]) -> None:
    """Type 2 takes PKCS#12 with a password, PEM, and what cert-manager writes, RSA and EC."""
    rsa, ec = pair(rsa_key()), pair(ec_key())
    secrets = [
        (rsa, {"certificate": rsa.pkcs12(b"pw"), "password": b"pw\n"}),
        (ec, {"certificate": ec.pem()}),
        (rsa, {"tls.crt": rsa.public.encode(), "tls.key": rsa.private(), "ca.crt": b"x"}),
        (ec, {"anything.pfx": ec.pkcs12()}),
    ]
    bench = await start()
    bench.entra.right = [rsa.leaf, ec.leaf]
    for number, (_, data) in enumerate(secrets):
        entitle(bench, make, data, type_=TYPE_SERVICE_PRINCIPAL_CERTIFICATE)
        bench.app.tokens.proofs.forget("team/sp")
        reply = await bench.token(resource=f"https://r{number}")
        assert (reply.status, reply.json.get("client_id")) == (200, "client-of-app"), reply.body
    assert bench.app.tokens.conditions.standing() == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"certificate": b"junk"}, "neither a PKCS#12 nor a PEM"),
        ({"certificate": b"x", "tls.crt": b"y"}, "exactly one of certificate, tls.crt"),
        ({"a": b"x", "b": b"y"}, "must have one key"),
        ({"tls.crt": b"-----BEGIN CERTIFICATE-----"}, "holds no private key"),
    ],
)
async def test_d27_certificates_that_cannot_be_used_say_why(
    start: Start, make: type[Make], data: dict[str, bytes], words: str
) -> None:
    """A bad certificate is a refusal with its reason, not an internal error, and nothing is sent."""
    bench = await start()
    entitle(bench, make, data, type_=TYPE_SERVICE_PRINCIPAL_CERTIFICATE)
    reply = await bench.token()
    assert (reply.status, words in reply.json["error_description"]) == (403, True), reply.body
    assert bench.entra.calls == []


async def test_d27_certificate_expiry_is_reported_ahead(start: Start, make: type[Make]) -> None:
    """Thirty days before its end a certificate stands in the status and the log; after it nothing is sent."""
    now = datetime.now(UTC)
    ahead = 0.0
    bench = await start(clock=Clock(wall=lambda: now.timestamp() + ahead * 86400))
    made = pair(rsa_key(), days=40)
    bench.entra.right = [made.leaf]
    entitle(bench, make, {"certificate": made.pem()}, type_=TYPE_SERVICE_PRINCIPAL_CERTIFICATE)
    assert (await bench.token(resource="https://a")).status == 200
    assert bench.app.tokens.conditions.standing() == []
    ahead = 15
    bench.app.tokens.proofs.forget("team/sp")
    assert (await bench.token(resource="https://b")).status == 200
    (condition,) = bench.app.tokens.conditions.standing()
    assert f"expires on {now + timedelta(days=40):%Y-%m-%d}" in condition.text
    assert "certificate of a service principal expires soon" in bench.log.getvalue()
    assert b'nmi_certificate_expiry_timestamp_seconds{secret="team/sp"}' in bench.metrics.render()
    ahead = 41
    bench.app.tokens.proofs.forget("team/sp")
    reply = await bench.token(resource="https://c")
    assert (reply.status, "expired on" in reply.json["error_description"]) == (403, True)
    assert len(bench.entra.calls) == 2


async def test_d29_auxiliary_tenants_are_one_object_unless_asked(start: Start, make: type[Make]) -> None:
    """SDKs get the primary tenant's object; the array of the original comes with its flag, primary first."""
    bench = await start()
    entitle(bench, make, RIGHT, more_tenants=(OTHER_TENANT,))
    assert (await bench.token()).json["client_id"] == "client-of-app"
    assert len(bench.entra.calls) == 1
    old = await start("--multi-tenant-array")
    entitle(old, make, RIGHT, more_tenants=(OTHER_TENANT, "contoso.com"))
    for _ in range(2):
        found = json.loads((await old.token()).body)
        assert [len(one["access_token"]) > 0 for one in found] == [True, True, True]
    assert old.entra.calls == [f"{LOGIN}/{tenant}/client-of-app" for tenant in (TENANT, OTHER_TENANT, "contoso.com")]
    host = await old.get("/host/token?resource=https://vault.azure.net", podname="web", podns="team")
    assert json.loads(host.body)["token"]["access_token"] == found[0]["access_token"]


async def test_more_than_three_auxiliary_tenants_are_refused(start: Start, make: type[Make]) -> None:
    """Entra ID takes three; a fourth is an error, as it was, before anything is sent."""
    bench = await start()
    entitle(bench, make, RIGHT, more_tenants=tuple(f"t{n}.example.com" for n in range(4)))
    reply = await bench.token()
    assert (reply.status, "at most 3" in reply.json["error_description"]) == (403, True)
    assert bench.entra.calls == []


@pytest.mark.parametrize("type_", [-1, 3, 7])
async def test_unsupported_type_is_refused(start: Start, make: type[Make], type_: int) -> None:
    """A type nobody knows is told with a status that no SDK tries again."""
    bench = await start()
    entitle(bench, make, RIGHT, type_=type_)
    reply = await bench.token()
    assert (reply.status, reply.json["error_description"]) == (403, f"unsupported identity type {type_}")
