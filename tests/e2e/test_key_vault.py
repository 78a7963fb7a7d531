"""What the Secrets Store driver mounts on a lab: each kind of object, byte for byte the vault's (csi scenarios)."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.csi.test_content import KEY_PEM, LEAF, MIDDLE, ROOT, pfx
from tests.e2e.conftest import new_lab
from tests.e2e.stage import DEFAULT, Stage, until

from podidentity.csi.certificates import public_key_pem

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]
CLASSES = "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/default"
CHAIN = (LEAF.pem + MIDDLE.pem + ROOT.pem).decode()
READER = dict.fromkeys(("secrets", "keys", "certificates"), ("get", "list"))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage() -> AsyncIterator[Stage]:
    """A lab with a vault that one identity may read."""
    async with new_lab(nodes=1) as lab:
        stage = Stage(lab)
        await stage.assign_roles()
        await stage.install()
        reader = await stage.identity("vault-reader")
        spec = lab.spec
        await lab.azure.create_vault(spec.vault, spec.resource_group, reader.properties.principal_id, rights=READER)
        yield stage


def entry(**fields: str) -> str:
    """One entry of ``objects``."""
    return "  - |\n" + "".join(f"    {name}: {value}\n" for name, value in fields.items())


async def declare(stage: Stage, name: str, *entries: str, **changes: str) -> None:
    """A SecretProviderClass with these objects; an empty value among ``changes`` leaves a parameter out."""
    spec = stage.lab.spec
    parameters = {"usePodIdentity": "true", "keyvaultName": spec.vault, "tenantID": spec.tenant_id, **changes}
    parameters = {key: value for key, value in parameters.items() if value}
    body = {
        "apiVersion": "secrets-store.csi.x-k8s.io/v1",
        "kind": "SecretProviderClass",
        "metadata": {"name": name},
        "spec": {"provider": "azure", "parameters": {**parameters, "objects": "array:\n" + "".join(entries)}},
    }
    await stage.call("POST", f"{CLASSES}/secretproviderclasses", body)


async def mounted(stage: Stage, name: str, *entries: str) -> None:
    """A pod with a volume of these objects; returns when it is ready."""
    await declare(stage, name, *entries)
    await stage.pod(name, label="vault-reader-binding", mount=name)
    await stage.ready(name)


async def test_secret_key_and_certificate(stage: Stage) -> None:
    """Each kind, an alias in a folder, a permission and both forms of a certificate: bytes equal to the vault's."""
    azure, vault = stage.lab.azure, stage.lab.spec.vault
    await azure.set_secret(vault, "plain", " kept as it is\n")
    made = await azure.vault_call(vault, "POST", "/keys/signing/create", {"kty": "EC", "crv": "P-384"})
    await azure.vault_call(vault, "POST", "/certificates/tls/import", {"value": pfx(ROOT, MIDDLE)})
    await mounted(
        stage,
        "kinds",
        entry(objectName="plain", objectType="secret", objectAlias="app/settings", filePermission="0600"),
        entry(objectName="signing", objectType="key"),
        entry(objectName="tls", objectType="cert", objectAlias="leaf.pem"),
        entry(objectName="tls", objectType="secret", objectAlias="tls.pem"),
        entry(objectName="tls", objectType="secret", objectAlias="tls.pfx", objectFormat="pfx"),
    )
    assert await stage.file("kinds", "app/settings") == " kept as it is\n"
    key = made["key"]
    assert isinstance(key, dict)
    assert await stage.file("kinds", "signing") == public_key_pem(key).decode()
    assert await stage.file("kinds", "leaf.pem") == LEAF.pem.decode()
    assert await stage.file("kinds", "tls.pem") == KEY_PEM.decode() + CHAIN
    assert len(await stage.file("kinds", "tls.pfx")) > 1000
    answer = await stage.lab.cluster.run("kinds", "stat", "-Lc", "%a", "/mnt/secrets-store/app/settings")
    assert answer.text == "600\n"


async def test_history_and_rotation(stage: Stage) -> None:
    """A history holds the newest versions and moves on when there is a new one; a pinned version stays."""
    azure, vault = stage.lab.azure, stage.lab.spec.vault
    versions = [await azure.set_secret(vault, "turning", f"value {number}") for number in range(3)]
    await mounted(
        stage,
        "turning",
        entry(objectName="turning", objectType="secret", objectAlias="all", objectVersionHistory="2"),
        entry(objectName="turning", objectType="secret", objectAlias="latest"),
        entry(objectName="turning", objectType="secret", objectAlias="pinned", objectVersion=versions[0]),
    )
    shown = [await stage.file("turning", path) for path in ("latest", "pinned")]
    assert shown == ["value 2", "value 0"]
    held = {await stage.file("turning", f"all/{index}") for index in (0, 1)}
    assert held <= {"value 0", "value 1", "value 2"}
    assert len(held) == 2
    await azure.set_secret(vault, "turning", "value 3")

    async def turned() -> bool:
        return await stage.file("turning", "latest") == "value 3"

    await until(turned, "the file of the latest version follows the vault", 30)
    assert await stage.file("turning", "pinned") == "value 0"


async def test_what_cannot_be_mounted_says_why(stage: Stage) -> None:
    """A class with missing objects mounts nothing, the pod's Event names each, and it starts once they exist."""
    azure, vault = stage.lab.azure, stage.lab.spec.vault
    later, key = entry(objectName="later", objectType="secret"), entry(objectName="k9", objectType="key")
    await declare(stage, "missing", later, key)
    await stage.pod("missing", label="vault-reader-binding", mount="missing")
    await stage.hears(
        "Pod", "missing", "FailedMount", "objectName:later", "SecretNotFound", "objectName:k9", "KeyNotFound"
    )
    await azure.set_secret(vault, "later", "now")
    await azure.vault_call(vault, "POST", "/keys/k9/create", {"kty": "RSA"})
    await stage.ready("missing")
    assert await stage.file("missing", "later") == "now"


async def test_a_service_principal_from_a_secret(stage: Stage) -> None:
    """With nodePublishSecretRef the class signs in at Entra ID as an application; the pod needs no identity."""
    azure, spec = stage.lab.azure, stage.lab.spec
    application, principal, password = (str(uuid.uuid4()) for _ in range(3))
    seed = {"servicePrincipals": [{"clientId": application, "objectId": principal, "secret": password}]}
    await azure.call("POST", "/seed", seed)
    readers = (await stage.identity("other-reader")).properties.principal_id, principal
    await azure.create_vault(spec.vault, spec.resource_group, *readers, rights=READER)
    await azure.set_secret(spec.vault, "for-sp", "by service principal")
    data = {"clientid": application, "clientsecret": password}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "creds"}, "stringData": data}
    await stage.call("POST", f"{DEFAULT}/secrets", secret)
    await declare(stage, "sp", entry(objectName="for-sp", objectType="secret"), usePodIdentity="")
    csi = {"driver": "secrets-store.csi.k8s.io", "readOnly": True, "nodePublishSecretRef": {"name": "creds"}}
    volume = {"name": "v", "csi": {**csi, "volumeAttributes": {"secretProviderClass": "sp"}}}
    container = {"name": "c", "image": "nginx", "volumeMounts": [{"name": "v", "mountPath": "/mnt/secrets-store"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "sp"}}
    await stage.call("POST", f"{DEFAULT}/pods", {**pod, "spec": {"containers": [container], "volumes": [volume]}})
    await stage.ready("sp")
    assert await stage.file("sp", "for-sp") == "by service principal"
