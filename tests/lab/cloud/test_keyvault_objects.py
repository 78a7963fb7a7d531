"""Key Vault's keys and certificates, read by the product's own client."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.csi.test_content import KEY_PEM, LEAF, MIDDLE, ROOT, pfx
from tests.lab.cloud.conftest import APP1, VAULT, Azure

from podidentity.azure.errors import KeyVaultError
from podidentity.azure.keyvault import KeyVaultClient
from podidentity.csi.certificates import pem_of_pkcs12, public_key_pem


async def owner(azure: Azure, path: str, body: dict[str, Any], method: str = "POST") -> tuple[int, Any]:
    """A request of the subscription's owner to vault kv1."""
    token = azure.running.admin.mint_token(VAULT)
    status, answer, _ = await azure.vault("kv1", path, token=token, method=method, body=body)
    return status, answer


@pytest.fixture
async def vault() -> AsyncIterator[KeyVaultClient]:
    """The product's client."""
    client = KeyVaultClient(environ={})
    yield client
    await client.close()


def where(azure: Azure) -> tuple[str, str]:
    """The address of vault kv1, and an owner's token."""
    return azure.running.vault_url("kv1"), azure.running.admin.mint_token(VAULT)


@pytest.mark.parametrize(
    "body",
    [
        {"kty": "RSA", "key_size": 2048},
        {"kty": "RSA-HSM"},
        {"kty": "EC", "crv": "P-256"},
        {"kty": "EC-HSM", "crv": "P-384"},
        {"kty": "EC", "crv": "P-521"},
    ],
)
async def test_keys(azure: Azure, vault: KeyVaultClient, body: dict[str, Any]) -> None:
    """A key is made, read by name and by version, and is a valid public key."""
    status, made = await owner(azure, "/keys/k1/create", body)
    assert status == 200
    url, token = where(azure)
    bundle = await vault.key(url, "k1", "", token)
    assert bundle.jwk["kty"] == body["kty"]
    assert made["key"]["kid"].endswith(f"/keys/k1/{bundle.version}")
    assert public_key_pem(bundle.jwk).startswith(b"-----BEGIN PUBLIC KEY-----")
    assert await vault.key(url, "K1", bundle.version, token) == bundle


async def test_an_imported_certificate(azure: Azure, vault: KeyVaultClient) -> None:
    """One import makes a certificate, its key and the secret with both, all of one version."""
    status, _ = await owner(azure, "/certificates/c1/import", {"value": pfx(MIDDLE, ROOT)})
    assert status == 200
    url, token = where(azure)
    certificate = await vault.certificate(url, "c1", "", token)
    assert base64.b64decode(certificate.der) == LEAF.certificate.public_bytes(Encoding.DER)
    secret = await vault.secret(url, "c1", certificate.version, token)
    assert secret.content_type == "application/x-pkcs12"
    assert pem_of_pkcs12(secret.value, order=True).certificates == LEAF.pem + MIDDLE.pem + ROOT.pem
    assert secret.kid.endswith(f"/keys/c1/{certificate.version}")
    assert (await vault.key(url, "c1", "", token)).version == certificate.version
    text = (KEY_PEM + LEAF.pem).decode()
    pem = {"value": text, "policy": {"secret_props": {"contentType": "application/x-pem-file"}}}
    await owner(azure, "/certificates/c1/import", pem)
    assert (await vault.secret(url, "c1", "", token)).value == text
    assert len(await vault.versions(url, "cert", "c1", token)) == 2


async def test_lists_in_pages(azure: Azure, vault: KeyVaultClient) -> None:
    """Versions come 25 a page with the address of the rest, and our client reads all of them."""
    for _ in range(60):
        await owner(azure, "/secrets/many", {"value": "x"}, "PUT")
    url, token = where(azure)
    listed = await vault.versions(url, "secret", "many", token)
    assert len({one.version for one in listed}) == 60
    _, page, _ = await azure.vault("kv1", "/secrets/many/versions", token=token)
    assert (len(page["value"]), "$skiptoken=25" in page["nextLink"]) == (25, True)


async def test_what_is_not_there_and_not_allowed(azure: Azure, vault: KeyVaultClient) -> None:
    """Each kind has its own 404, and rights on secrets are none on keys and certificates."""
    url, token = where(azure)
    with pytest.raises(KeyVaultError, match="404 KeyNotFound: A key with"):
        await vault.key(url, "none", "", token)
    with pytest.raises(KeyVaultError, match="404 CertificateNotFound"):
        await vault.versions(url, "cert", "none", token)
    await owner(azure, "/keys/k1/create", {"kty": "RSA"})
    reader = azure.running.admin.mint_token(VAULT, client_id=azure.client_id(APP1))
    with pytest.raises(KeyVaultError, match="does not have keys get permission"):
        await vault.key(url, "k1", "", reader)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/keys/k1/create", {"kty": "oct"}),
        ("/keys/k1/create", {"kty": "EC", "crv": "P-256K"}),
        ("/keys/k1/create", {}),
        ("/certificates/c1/import", {"value": "AAAA"}),
        (
            "/certificates/c1/import",
            {"value": "x", "policy": {"secret_props": {"contentType": "application/x-pem-file"}}},
        ),
        ("/certificates/c1/import", {}),
    ],
)
async def test_bad_parameters(azure: Azure, vault: KeyVaultClient, path: str, body: dict[str, Any]) -> None:
    """What is no key and no certificate is refused and makes nothing."""
    status, answer = await owner(azure, path, body)
    assert (status, answer["error"]["code"]) == (400, "BadParameter")
    url, token = where(azure)
    with pytest.raises(KeyVaultError, match="404"):
        await vault.key(url, path.split("/")[2], "", token)
