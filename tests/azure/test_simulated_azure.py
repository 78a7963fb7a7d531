"""Every client against the simulated Azure, which shares no code with them, over TLS with a throwaway CA."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.azure.certificates import Key, ec_key, pair, rsa_key

from podidentity.azure.arm import ComputeClient, IdentityPatch
from podidentity.azure.certificate import load_certificate
from podidentity.azure.cloud import PUBLIC
from podidentity.azure.config import AzureConfig
from podidentity.azure.credentials import credential_for
from podidentity.azure.entra import EntraClient
from podidentity.azure.errors import (
    AuthorizationFailed,
    AzureUnavailable,
    FailedIdentityOperation,
    HostNotFound,
    KeyVaultError,
    LinkedAuthorizationFailed,
    TokenError,
)
from podidentity.azure.imds import ImdsClient
from podidentity.azure.keyvault import KeyVaultClient
from podidentity.config.redact import SecretText
from podidentity.lab.cloud import CloudConfig, Running, parse_seed, serve
from podidentity.rules.resource_id import HostId

SUB = "11111111-1111-1111-1111-111111111111"
TENANT = "22222222-2222-2222-2222-222222222222"
APP = "33333333-3333-3333-3333-333333333333"
GROUP = f"/subscriptions/{SUB}/resourceGroups/rg-Nodes"
IDS = f"/subscriptions/{SUB}/resourceGroups/rg-apps/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
VM = HostId(SUB, "RG-NODES", "virtualMachines", "VM0")
VMSS = HostId(SUB, "rg-Nodes", "virtualMachineScaleSets", "pool")
SEED = f"""{{
  "id": "clients", "tenantId": "{TENANT}", "subscriptionId": "{SUB}", "resourceGroups": ["rg-Nodes", "rg-apps"],
  "identities": [{{"name": "kubelet", "resourceGroup": "rg-Nodes"}}, {{"name": "app1", "resourceGroup": "rg-apps"}},
                 {{"name": "app2", "resourceGroup": "rg-apps"}}],
  "vms": [{{"name": "vm0", "resourceGroup": "rg-Nodes", "identities": ["kubelet"], "systemAssigned": true}}],
  "scaleSets": [{{"name": "pool", "resourceGroup": "rg-Nodes", "instances": 2}}],
  "servicePrincipals": [{{"clientId": "{APP}", "secret": "s3cret"}}],
  "roleAssignments": [{{"principal": "kubelet", "role": "Virtual Machine Contributor", "scope": "rg-Nodes"}},
                      {{"principal": "{APP}", "role": "Virtual Machine Contributor", "scope": "rg-Nodes"}},
                      {{"principal": "kubelet", "role": "Managed Identity Operator", "scope": "{IDS}/app1"}}],
  "vaults": [{{"name": "kv1", "resourceGroup": "rg-apps",
               "accessPolicies": [{{"principal": "app1", "secrets": ["get"]}}],
               "secrets": {{"kvs-test01": "e+9qBwdjC<q6<P_n"}}}}],
  "nics": [{{"cidr": "127.0.0.1/32", "resourceId": "{GROUP}/providers/Microsoft.Compute/virtualMachines/vm0"}}]
}}"""


@dataclass
class Azure:
    """The running services, and an environment that trusts them."""

    running: Running
    environ: dict[str, str]

    def compute(self, *, managed: bool = True) -> ComputeClient:
        """A compute client that signs in as the node's kubelet identity, or as the service principal."""
        config = AzureConfig(
            cloud=PUBLIC,
            tenant_id=TENANT,
            client_id=APP,
            client_secret=SecretText("s3cret"),
            subscription_id=SUB,
            resource_group="rg-Nodes",
            use_managed_identity=managed,
            user_assigned_identity_id=self.client_id(
                f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/kubelet"
            ),
        )
        credential = credential_for(
            config, imds_url=self.running.imds_url, authority_url=self.running.entra_url, environ=self.environ
        )
        return ComputeClient(PUBLIC, credential, user_agent="test", base_url=self.running.arm_url, environ=self.environ)

    def client_id(self, identity: str) -> str:
        """The client id of an identity."""
        return self.running.world.identities[identity.casefold()].client_id


def certificates(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key; the certificate is the CA bundle too."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "throwaway")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert, secret = folder / "cloud.crt", folder / "cloud.key"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert, secret


@pytest.fixture(params=["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
async def azure(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Azure]:
    """The simulated Azure with TLS, trusted through one of the two variables."""
    tls = certificates(tmp_path)
    config = CloudConfig(state_dir=tmp_path / "state", seed=parse_seed(SEED), tls=tls)
    async with serve(config) as running:
        yield Azure(running, {str(request.param): str(tls[0])})


async def test_attach_and_detach(azure: Azure) -> None:
    """The node's identity attaches an identity to a machine and takes it off again; nothing else on it changes."""
    compute = azure.compute()
    before = await compute.get(VM)
    key = f"{IDS}/app1".lower()
    await compute.patch(VM, IdentityPatch(before.type, add=frozenset({key})), known=before)
    attached = await compute.get(VM)
    assert attached.user_assigned[key].client_id == azure.client_id(f"{IDS}/app1")
    assert attached.system_principal_id == before.system_principal_id != ""
    await compute.patch(VM, IdentityPatch(attached.type, remove=frozenset({key})))
    assert await compute.get(VM) == before
    await compute.close()


async def test_scale_set_as_service_principal(azure: Azure) -> None:
    """A service principal reads a scale set; what it may not assign is named."""
    compute = azure.compute(managed=False)
    assert (await compute.get(VMSS)).user_assigned == {}
    with pytest.raises(LinkedAuthorizationFailed) as caught:
        await compute.patch(VMSS, IdentityPatch("UserAssigned", add=frozenset({f"{IDS}/app1".lower()})))
    assert caught.value.scopes == {f"{IDS}/app1".lower()}
    await compute.close()


async def test_refusals(azure: Azure) -> None:
    """What Azure refuses arrives as its kind: not assignable, not there, not allowed."""
    compute = azure.compute()
    with pytest.raises(LinkedAuthorizationFailed) as linked:
        await compute.patch(VM, IdentityPatch("SystemAssigned, UserAssigned", add=frozenset({f"{IDS}/app2".lower()})))
    assert linked.value.scopes == {f"{IDS}/app2".lower()}
    with pytest.raises((FailedIdentityOperation, LinkedAuthorizationFailed)):
        await compute.patch(VM, IdentityPatch("SystemAssigned, UserAssigned", add=frozenset({f"{IDS}/none".lower()})))
    with pytest.raises(HostNotFound):
        await compute.get(HostId(SUB, "rg-Nodes", "virtualMachines", "none"))
    with pytest.raises(AuthorizationFailed):
        await compute.get(HostId(SUB, "rg-apps", "virtualMachines", "vm0"))
    await compute.close()


async def test_from_imds_to_the_secret(azure: Azure) -> None:
    """Once attached, the identity's token from IMDS opens the vault; the kubelet's does not."""
    compute = azure.compute()
    identity = f"{IDS}/app1"
    client_id = azure.client_id(identity)
    imds, vault = ImdsClient(azure.running.imds_url, environ={}), KeyVaultClient(environ=azure.environ)
    with pytest.raises(TokenError, match="Identity not found"):
        await imds.token(PUBLIC.key_vault_resource, client_id=client_id)
    await compute.patch(VM, IdentityPatch("SystemAssigned, UserAssigned", add=frozenset({identity.lower()})))
    by_client = await imds.token(PUBLIC.key_vault_resource, client_id=client_id)
    by_resource = await imds.token(PUBLIC.key_vault_resource, resource_id=identity)
    assert by_client.client_id == by_resource.client_id == client_id
    secret = await vault.secret(azure.running.vault_url("kv1"), "kvs-test01", "", by_client.access_token)
    assert secret.value == "e+9qBwdjC<q6<P_n"
    again = await vault.secret(azure.running.vault_url("kv1"), "kvs-test01", secret.version, by_client.access_token)
    assert again == secret
    system = await imds.token(PUBLIC.key_vault_resource)
    with pytest.raises(KeyVaultError, match="403"):
        await vault.secret(azure.running.vault_url("kv1"), "kvs-test01", "", system.access_token)
    for client in (compute, imds, vault):
        await client.close()


async def test_service_principal_token(azure: Azure) -> None:
    """A client secret buys a token at both endpoints; a wrong one is refused with Entra ID's number."""
    entra = EntraClient(environ=azure.environ)
    for version in ("v1", "v2"):
        token = await entra.token(
            azure.running.entra_url, TENANT, APP, SecretText("s3cret"), PUBLIC.key_vault_resource, version=version
        )
        assert token.expires_on.isdecimal()
    with pytest.raises(TokenError, match="AADSTS7000215"):
        await entra.token(azure.running.entra_url, TENANT, APP, SecretText("wrong"), PUBLIC.key_vault_resource)
    await entra.close()


async def test_untrusted_certificate(azure: Azure) -> None:
    """A server nobody vouches for gets no secret: the connection is refused in one line."""
    entra = EntraClient(environ={})
    with pytest.raises(AzureUnavailable, match="certificate"):
        await entra.token(azure.running.entra_url, TENANT, APP, SecretText("s3cret"), PUBLIC.key_vault_resource)
    await entra.close()


async def test_bundle_that_is_not_there() -> None:
    """A CA bundle that cannot be read is named with its variable."""
    vault = KeyVaultClient(environ={"REQUESTS_CA_BUNDLE": "/nowhere/ca.crt"})
    with pytest.raises(AzureUnavailable, match=r"REQUESTS_CA_BUNDLE=/nowhere/ca\.crt"):
        await vault.secret("https://127.0.0.1:1", "s", "", "t")


async def test_bad_bundle_does_not_stop_plain_http() -> None:
    """The metadata service needs no certificates: a bad bundle must not keep a node from its tokens."""
    imds = ImdsClient("http://127.0.0.1:1", environ={"REQUESTS_CA_BUNDLE": "/nowhere/ca.crt"})
    with pytest.raises(AzureUnavailable, match="cannot be reached"):
        await imds.token("r")
    await imds.close()


@pytest.mark.parametrize("key", [rsa_key(), ec_key()], ids=["rsa", "ec"])
async def test_certificate_token(azure: Azure, key: Key) -> None:
    """A registered certificate buys a token by what it signs; one that is not registered is refused."""
    entra = EntraClient(environ=azure.environ)
    made = pair(key)
    certificate = await load_certificate(made.pkcs12(b"pw"), b"pw")
    ask = (azure.running.entra_url, TENANT, APP, certificate, PUBLIC.key_vault_resource)
    with pytest.raises(TokenError, match="AADSTS700027"):
        await entra.token_by_certificate(*ask)
    azure.running.admin.set_credentials(APP, [], [made.public])
    token = await entra.token_by_certificate(*ask)
    assert jwt.decode(token.access_token, options={"verify_signature": False})["appidacr"] == "2"
    await entra.close()
