"""Key Vault's data plane."""

from typing import Any

import pytest
from tests.lab.cloud.conftest import APP1, APP2, ARM, CONTROLLER, TENANT, VAULT, Azure

SECRET = "/secrets/kvs-test01"


def token(azure: Azure, identity: str = "", resource: str = VAULT, lifetime: int = 60) -> str:
    """A token of an identity, the owner's by default."""
    client = azure.client_id(identity) if identity else ""
    return azure.running.admin.mint_token(resource, client_id=client, lifetime=lifetime)


async def test_without_a_token_comes_the_challenge(azure: Azure) -> None:
    """Protects the challenge from which SDKs learn tenant and resource."""
    status, answer, headers = await azure.vault("kv1", SECRET)
    assert (status, answer["error"]["code"]) == (401, "Unauthorized")
    assert answer["error"]["message"] == "AKV10000: Request is missing a Bearer or PoP token."
    assert headers["WWW-Authenticate"] == (
        f'Bearer authorization="https://login.windows.net/{TENANT}", resource="https://vault.azure.net"'
    )


async def test_a_secret_by_name_and_by_version(azure: Azure) -> None:
    """Protects both spellings of the latest version, and the exact value."""
    for path in (SECRET, SECRET + "/"):
        status, answer, _ = await azure.vault("kv1", path, token=token(azure, APP1))
        assert (status, answer["value"]) == (200, "e+9qBwdjC<q6<P_n")
    version = answer["id"].rpartition("/")[2]
    assert answer["id"] == f"https://kv1.vault.azure.net/secrets/kvs-test01/{version}"
    status, answer, _ = await azure.vault("KV1", f"/secrets/KVS-test01/{version}", token=token(azure, APP1))
    assert (status, answer["value"]) == (200, "e+9qBwdjC<q6<P_n")


async def test_tokens_that_are_refused(azure: Azure) -> None:
    """Protects the vault from tokens for others, of others, and of yesterday."""
    old = token(azure, APP1)
    azure.time.now += 60
    cases = {
        token(azure, APP1, ARM): f"AKV10022: Invalid audience. Expected https://vault.azure.net, found: {ARM}.",
        old: "[TokenExpired] Error validating token: 'S2S12005: The token has expired.'",
        "a.b.c": "[BearerReadAccessTokenFailed] Error validating token: 'S2S12005'.",
        token(azure, APP1)[:-4] + "AAAA": "AKV10046: Unable to resolve the key used for signature validation.",
    }
    for given, message in cases.items():
        status, answer, headers = await azure.vault("kv1", SECRET, token=given)
        assert (status, answer["error"]["message"]) == (401, message)
        assert "WWW-Authenticate" in headers


async def test_no_policy_for_the_caller(azure: Azure) -> None:
    """Protects access policies: 403 AccessDenied names the caller and the vault."""
    status, answer, _ = await azure.vault("kv1", SECRET, token=token(azure, APP2))
    assert (status, answer["error"]["code"]) == (403, "Forbidden")
    assert answer["error"]["innererror"] == {"code": "AccessDenied"}
    assert "does not have secrets get permission on key vault 'kv1;location=westeurope'" in answer["error"]["message"]
    status, _, _ = await azure.vault("kv1", SECRET, token=token(azure, APP1), method="PUT", body={"value": "x"})
    assert status == 403


async def test_roles_in_a_vault_that_goes_by_roles(azure: Azure) -> None:
    """Protects the other permission model: 403 ForbiddenByRbac without the role, the role's holder reads."""
    status, answer, _ = await azure.vault("kv2", "/secrets/s", token=token(azure, APP1))
    assert (status, answer["error"]["innererror"]) == (403, {"code": "ForbiddenByRbac"})
    assert "Action: 'Microsoft.KeyVault/vaults/secrets/getSecret/action'" in answer["error"]["message"]
    status, answer, _ = await azure.vault("kv2", "/secrets/s", token=token(azure, APP2))
    assert (status, answer["value"]) == (200, "v")
    headers = {"Authorization": f"Bearer {azure.running.admin.mint_token(VAULT, client_id=CONTROLLER)}"}
    async with azure.session.get(
        f"{azure.running.vault_url('kv2')}/secrets/s?api-version=7.4", headers=headers
    ) as reply:
        assert reply.status == 403


@pytest.mark.parametrize("path", ["/secrets/none", f"{SECRET}/{'0' * 32}"])
async def test_what_is_not_there(azure: Azure, path: str) -> None:
    """Protects 404 SecretNotFound for a name and for a version."""
    status, answer, _ = await azure.vault("kv1", path, token=token(azure, APP1))
    assert (status, answer["error"]["code"]) == (404, "SecretNotFound")


async def test_versions_are_listed_without_values(azure: Azure) -> None:
    """Protects the version history that the CSI provider walks."""
    first = (await azure.vault("kv1", SECRET, token=token(azure)))[1]["id"]
    azure.time.now += 10
    put: dict[str, Any] = {"value": "two", "contentType": "text/plain", "attributes": {"enabled": False}}
    status, second, _ = await azure.vault("kv1", SECRET, token=token(azure), method="PUT", body=put)
    assert (status, second["value"], second["contentType"]) == (200, "two", "text/plain")
    _, listed, _ = await azure.vault("kv1", f"{SECRET}/versions", token=token(azure, APP1))
    assert [one["id"] for one in listed["value"]] == [first, second["id"]]
    assert not any("value" in one for one in listed["value"])
    assert [one["attributes"]["enabled"] for one in listed["value"]] == [True, False]
    status, answer, _ = await azure.vault("kv1", SECRET, token=token(azure))
    assert (status, answer["error"]["innererror"]) == (403, {"code": "SecretDisabled"})
    _, listed, _ = await azure.vault("kv1", "/secrets", token=token(azure, APP1))
    assert [one["id"] for one in listed["value"]] == ["https://kv1.vault.azure.net/secrets/kvs-test01"]


async def test_a_certificate_backed_secret_says_so(azure: Azure) -> None:
    """Protects `kid` and `contentType`, by which the CSI provider recognises a certificate."""
    kid = "https://kv1.vault.azure.net/keys/c/1"
    azure.running.admin.set_secret("kv1", "c", "pem", content_type="application/x-pem-file", kid=kid)
    _, answer, _ = await azure.vault("kv1", "/secrets/c", token=token(azure))
    assert (answer["kid"], answer["managed"], answer["contentType"]) == (kid, True, "application/x-pem-file")


async def test_a_deleted_secret_keeps_its_name(azure: Azure) -> None:
    """Protects soft-delete: gone for readers, its name not free."""
    status, answer, _ = await azure.vault("kv1", SECRET, token=token(azure), method="DELETE")
    assert (status, answer["recoveryId"]) == (200, "https://kv1.vault.azure.net/deletedsecrets/kvs-test01")
    assert (await azure.vault("kv1", SECRET, token=token(azure)))[0] == 404
    status, answer, _ = await azure.vault("kv1", SECRET, token=token(azure), method="PUT", body={"value": "x"})
    assert (status, answer["error"]["innererror"]) == (409, {"code": "ObjectIsDeletedButRecoverable"})


async def test_odd_requests(azure: Azure) -> None:
    """Protects against a missing version, an unknown vault, path and method, and a broken body."""
    headers = {"Authorization": f"Bearer {token(azure)}"}
    async with azure.session.get(f"{azure.running.vault_url('kv1')}{SECRET}", headers=headers) as reply:
        assert reply.status == 400
    assert (await azure.vault("nope", SECRET, token=token(azure)))[0] == 404
    assert (await azure.vault("kv1", "/nope", token=token(azure)))[0] == 404
    assert (await azure.vault("kv1", SECRET, token=token(azure), method="PATCH"))[0] == 405
    status, answer, _ = await azure.vault("kv1", SECRET, token=token(azure), method="PUT", body={"value": 1})
    assert (status, answer["error"]["code"]) == (400, "BadParameter")


async def test_vaults_are_told_apart_by_host_name(azure: Azure) -> None:
    """Protects the real host names: the services listen on one address."""
    for host, path, status in (
        ("kv1.vault.azure.net", f"{SECRET}?api-version=7.4", 401),
        ("management.azure.com", "/subscriptions?api-version=2022-12-01", 401),
        ("login.microsoftonline.com", "/common/discovery/keys", 200),
        ("login.windows.net:443", "/common/discovery/keys", 200),
    ):
        async with azure.session.get(azure.running.https_url + path, headers={"Host": host}) as reply:
            assert reply.status == status
