"""Entra ID's token endpoint and discovery documents."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from tests.lab.cloud.conftest import ARM, CONTROLLER, TENANT, VAULT, Azure

from podidentity.lab.cloud.tokens import b64

BASE = {"grant_type": "client_credentials", "client_id": CONTROLLER}
V2, V1 = "oauth2/v2.0/token", "oauth2/token"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


async def post(azure: Azure, tail: str, tenant: str = TENANT, **form: str) -> tuple[int, dict[str, Any]]:
    """A call of the token endpoint."""
    async with azure.session.post(f"{azure.running.entra_url}/{tenant}/{tail}", data=BASE | form) as reply:
        return reply.status, await reply.json()


async def get(azure: Azure, path: str) -> tuple[int, dict[str, Any]]:
    """A discovery document."""
    async with azure.session.get(f"{azure.running.entra_url}{path}") as reply:
        return reply.status, await reply.json()


async def test_a_secret_is_exchanged_for_a_token(azure: Azure) -> None:
    """Protects both versions of the endpoint: numbers in the one, strings in the other."""
    status, answer = await post(azure, V2, client_secret="s3cret", scope=f"{VAULT}/.default")
    assert (status, answer["token_type"], answer["expires_in"]) == (200, "Bearer", 86_400)
    claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
    assert (claims["aud"], claims["appid"], claims["appidacr"]) == (VAULT, CONTROLLER, "1")
    assert "xms_mirid" not in claims
    status, answer = await post(azure, V1, client_secret="s3cret", resource=ARM)
    assert (status, answer["expires_on"], answer["resource"]) == (200, "1800086400", ARM)


async def test_the_token_opens_arm(azure: Azure) -> None:
    """Protects the service principal's way into ARM, with the doubled slash that scopes of ARM have."""
    _, answer = await post(azure, V2, client_secret="s3cret", scope="https://management.azure.com//.default")
    headers = {"Authorization": f"Bearer {answer['access_token']}"}
    async with azure.session.get(
        f"{azure.running.arm_url}/subscriptions?api-version=2022-12-01", headers=headers
    ) as reply:
        assert reply.status == 200


@pytest.mark.parametrize(
    ("tenant", "form", "status", "error", "code"),
    [
        (TENANT, {"client_secret": "wrong"}, 401, "invalid_client", 7000215),
        (TENANT, {"client_secret": ""}, 401, "invalid_client", 7000215),
        (TENANT, {}, 401, "invalid_client", 7000218),
        (TENANT, {"client_id": TENANT, "client_secret": "s3cret"}, 400, "unauthorized_client", 700016),
        (CONTROLLER, {"client_secret": "s3cret"}, 400, "invalid_request", 90002),
        ("common", {"client_secret": "s3cret"}, 400, "invalid_request", 90002),
        (TENANT, {"client_secret": "s3cret", "scope": "https://x.example/.default"}, 400, "invalid_resource", 500011),
        (TENANT, {"client_secret": "s3cret", "scope": VAULT}, 400, "invalid_scope", 70011),
        (TENANT, {"scope": ""}, 400, "invalid_request", 900144),
        (TENANT, {"client_id": ""}, 400, "invalid_request", 900144),
        (TENANT, {"grant_type": "password"}, 400, "unsupported_grant_type", 70003),
        (TENANT, {"client_assertion": "a.b.c", "client_assertion_type": ASSERTION}, 401, "invalid_client", 50027),
        (TENANT, {"client_assertion": "a.b.c"}, 400, "invalid_request", 900144),
    ],
)
async def test_errors_carry_their_codes(
    azure: Azure, *, tenant: str, form: dict[str, str], status: int, error: str, code: int
) -> None:
    """Protects the codes by which people and programs find what is wrong."""
    got, answer = await post(azure, V2, tenant, **{"scope": f"{VAULT}/.default"} | form)
    assert (got, answer["error"], answer["error_codes"]) == (status, error, [code])
    assert answer["error_description"].startswith(f"AADSTS{code}: ")
    assert (
        f"\r\nTrace ID: {answer['trace_id']}\r\nCorrelation ID: {answer['correlation_id']}\r\n"
        in (answer["error_description"])
    )


async def test_a_rotated_secret(azure: Azure) -> None:
    """Protects rotation: the old secret stops, the new one works."""
    azure.running.admin.set_credentials(CONTROLLER, ["new"])
    assert (await post(azure, V2, client_secret="s3cret", scope=f"{VAULT}/.default"))[0] == 401
    assert (await post(azure, V2, client_secret="new", scope=f"{VAULT}/.default"))[0] == 200


class Certificate:
    """A self-signed certificate and what it signs."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "app")])
        start = datetime(2026, 1, 1, tzinfo=UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(self.key.public_key())
        builder = builder.serial_number(1).not_valid_before(start).not_valid_after(start + timedelta(days=900))
        self.certificate = builder.sign(self.key, SHA256())
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def assertion(self, audience: str, *, now: float, algorithm: str = "RS256", **claims: object) -> str:
        """A client assertion with float times, as MSAL for Python writes them."""
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        x5t = b64(hashlib.sha1(der).digest()) if algorithm == "RS256" else ""
        x5t_s256 = "" if x5t else b64(hashlib.sha256(der).digest())
        body = {"aud": audience, "iss": CONTROLLER, "sub": CONTROLLER, "exp": now + 600.5, "nbf": now - 1.5, "jti": "1"}
        headers = {"x5t": x5t} if x5t else {"x5t#S256": x5t_s256}
        return jwt.encode(body | claims, self.key, algorithm=algorithm, headers=headers)


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    """One for the module: keys take a while."""
    return Certificate()


async def assert_with(azure: Azure, assertion: str) -> tuple[int, dict[str, Any]]:
    """A token request with an assertion."""
    form = {"client_assertion": assertion, "client_assertion_type": ASSERTION, "scope": f"{VAULT}/.default"}
    return await post(azure, V2, **form)


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
async def test_a_certificate_signs_instead_of_a_secret(azure: Azure, certificate: Certificate, algorithm: str) -> None:
    """Protects certificate credentials in the older and the newer form of thumbprint and signature."""
    azure.running.admin.set_credentials(CONTROLLER, [], [certificate.pem])
    endpoint = f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"
    text = certificate.assertion(endpoint, now=azure.time.now, algorithm=algorithm)
    status, answer = await assert_with(azure, text)
    assert status == 200, answer
    claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
    assert claims["appidacr"] == "2"


async def test_assertions_that_prove_nothing(azure: Azure, certificate: Certificate) -> None:
    """Protects the check of an assertion: key, audience, issuer, time, and tokens of other issuers."""
    endpoint, now = f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token", azure.time.now
    unknown = await assert_with(azure, certificate.assertion(endpoint, now=now))
    azure.running.admin.set_credentials(CONTROLLER, [], [certificate.pem])
    answers = [
        (unknown, 700027),
        (await assert_with(azure, Certificate().assertion(endpoint, now=now)), 700027),
        (await assert_with(azure, certificate.assertion(endpoint + "x", now=now)), 700023),
        (await assert_with(azure, certificate.assertion(endpoint, now=now, iss=TENANT)), 700021),
        (await assert_with(azure, certificate.assertion(endpoint, now=now - 601)), 700024),
        (await assert_with(azure, certificate.assertion("api://AzureADTokenExchange", now=now)), 70021),
    ]
    for (status, answer), code in answers:
        assert (status, answer["error"], answer["error_codes"]) == (401, "invalid_client", [code])
    assert "Assertion Subject" in answers[-1][0][1]["error_description"]


@pytest.mark.parametrize("version", ["", "/v2.0"])
async def test_discovery_leads_to_the_token_endpoint_and_the_keys(azure: Azure, version: str) -> None:
    """Protects clients that begin with the discovery document."""
    status, document = await get(azure, f"/{TENANT}{version}/.well-known/openid-configuration")
    assert status == 200
    assert document["token_endpoint"].startswith(azure.running.entra_url)
    async with azure.session.get(document["jwks_uri"]) as reply:
        assert len((await reply.json())["keys"]) == 1
    assert (await get(azure, f"/{CONTROLLER}{version}/.well-known/openid-configuration"))[0] == 400


async def test_instance_discovery(azure: Azure) -> None:
    """Protects the question that MSAL asks before it trusts an authority."""
    path = "/common/discovery/instance?api-version=1.1&authorization_endpoint="
    status, answer = await get(azure, f"{path}https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/authorize")
    assert status == 200
    assert "login.windows.net" in answer["metadata"][0]["aliases"]
    status, answer = await get(azure, f"{path}https://evil.example/x")
    assert (status, answer["error"]) == (400, "invalid_instance")
