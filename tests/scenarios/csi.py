"""Scenarios about what the Secrets Store driver mounts: bytes equal to the vault's, and following it."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.csi.test_content import KEY_PEM, LEAF, MIDDLE, ROOT, pfx
from tests.scenarios.scene import Scene
from tests.scenarios.steps import Condition, Identity, Now, Ready, Scenario, Step

CHAIN = (LEAF.pem + MIDDLE.pem + ROOT.pem).decode()
CURVES: Mapping[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}


async def vault(scene: Scene, method: str, path: str, body: object = None) -> Mapping[str, Any]:
    """One call of the vault's data plane as its owner."""
    azure = scene.site.stage.lab.azure
    return await azure.vault_call(scene.site.stage.lab.spec.vault, method, path, body)


@dataclass(frozen=True)
class Stored(Step):
    """The vault has a new version of a secret, key or certificate."""

    kind: str
    name: str
    body: Mapping[str, Any]

    async def play(self, scene: Scene) -> None:
        """Store it; the version is remembered."""
        name = f"{scene.id}-{self.name}"
        path, method = {
            "secret": (f"/secrets/{name}", "PUT"),
            "key": (f"/keys/{name}/create", "POST"),
            "cert": (f"/certificates/{name}/import", "POST"),
        }[self.kind]
        made = await vault(scene, method, path, self.body)
        scene.memory.setdefault(self.name, []).append(str(made.get("id", "")).rpartition("/")[2])


@dataclass(frozen=True)
class Mounted(Step):
    """A pod with a volume of these objects, named as they were stored.

    An object with the field ``pinned`` is the first version that was stored.
    """

    ref: str
    identity: str
    objects: tuple[Mapping[str, str], ...]

    async def play(self, scene: Scene) -> None:
        """Create class and pod, and wait until the pod is ready."""
        spec, entries = scene.site.stage.lab.spec, ""
        for one in self.objects:
            fields = {**one, "objectName": f"{scene.id}-{one['objectName']}"}
            if fields.pop("pinned", ""):
                fields["objectVersion"] = scene.memory[one["objectName"]][0]
            entries += "  - |\n" + "".join(f"    {name}: {value}\n" for name, value in fields.items())
        parameters = {"usePodIdentity": "true", "keyvaultName": spec.vault, "tenantID": spec.tenant_id}
        body = {"apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass"}
        class_spec = {"provider": "azure", "parameters": {**parameters, "objects": f"array:\n{entries}"}}
        await scene.make("class", self.ref, {**body, "spec": class_spec})
        csi = {"driver": "secrets-store.csi.k8s.io", "readOnly": True}
        volume = {"name": "v", "csi": {**csi, "volumeAttributes": {"secretProviderClass": self.ref}}}
        container = {"name": "c", "image": "busybox", "command": ["sleep", "100000"]}
        container["volumeMounts"] = [{"name": "v", "mountPath": "/mnt"}]  # type: ignore[assignment]  # JSON
        pod: dict[str, Any] = {"containers": [container], "volumes": [volume], "terminationGracePeriodSeconds": 0}
        pod |= {"affinity": scene.site.usual_nodes, "automountServiceAccountToken": False}
        labels = {"aadpodidbinding": scene.selector(self.identity)}
        await scene.make(
            "pod", self.ref, {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": labels}, "spec": pod}
        )
        await Ready(self.ref).play(scene)


@dataclass(frozen=True)
class Reader(Step):
    """An identity may read everything in the vault."""

    identity: str

    async def play(self, scene: Scene) -> None:
        """Give it the rights."""
        await scene.site.may_read(scene.identities[self.identity])


@dataclass(frozen=True)
class FileIs(Condition):
    """A mounted file has this text."""

    pod: str
    path: str
    text: str

    async def lacks(self, scene: Scene) -> str:
        """What it has."""
        _, found = await scene.run(self.pod, "cat", f"/mnt/{self.path}")
        return "" if found == self.text else f"it has {found[:100]!r}"


@dataclass(frozen=True)
class SameAsVault(Condition):
    """A mounted file is the vault's secret of that name, or its key in PEM."""

    pod: str
    path: str
    kind: str
    name: str

    async def lacks(self, scene: Scene) -> str:
        """What it has."""
        stored = await vault(scene, "GET", f"/{self.kind}s/{scene.id}-{self.name}")
        wanted = str(stored["value"]) if self.kind == "secret" else _pem(stored["key"])
        return await FileIs(self.pod, self.path, wanted).lacks(scene)


def _pem(key: Mapping[str, str]) -> str:
    """A JSON web key as SubjectPublicKeyInfo."""
    parts = {name: int.from_bytes(urlsafe_b64decode(key[name] + "==")) for name in ("n", "e", "x", "y") if name in key}
    public = (
        rsa.RSAPublicNumbers(parts["e"], parts["n"]).public_key()
        if "n" in parts
        else ec.EllipticCurvePublicNumbers(parts["x"], parts["y"], CURVES[key["crv"]]).public_key()
    )
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@dataclass(frozen=True)
class Mode(Condition):
    """A mounted file has these permissions."""

    pod: str
    path: str
    octal: str

    async def lacks(self, scene: Scene) -> str:
        """What it has."""
        _, found = await scene.run(self.pod, "stat", "-Lc", "%a", f"/mnt/{self.path}")
        return "" if found.strip() == self.octal else f"it has {found!r}"


def mounted(stored: tuple[Step, ...], *objects: Mapping[str, str]) -> tuple[Step, ...]:
    """An identity that may read the vault, what is stored there, and a pod with these objects."""
    return (Identity("app"), Reader("app"), *stored, Mounted("app", "app", objects))


def secret(name: str, **fields: str) -> Mapping[str, str]:
    """An entry for a secret."""
    return {"objectName": name, "objectType": "secret", **fields}


TURNING = tuple(Stored("secret", "turning", {"value": f"value {number}"}) for number in range(3))

PLAIN = (Stored("secret", "plain", {"value": " kept as it is\n"}),)
KEYS = (Stored("key", "rsa", {"kty": "RSA"}), Stored("key", "ec", {"kty": "EC", "crv": "P-384"}))
TLS = (Stored("cert", "tls", {"value": pfx(ROOT, MIDDLE)}),)

SCENARIOS = (
    Scenario(
        "csi-secret",
        "Secrets are mounted byte for byte, under their name or an alias in a folder, with the permission asked for.",
        (
            *mounted(
                PLAIN,
                secret("plain", objectAlias="app/settings", filePermission='"0600"'),
                secret("plain", objectAlias="b"),
            ),
            Now(FileIs("app", "app/settings", " kept as it is\n")),
            Now(SameAsVault("app", "b", "secret", "plain")),
            Now(Mode("app", "app/settings", "600")),
            Now(Mode("app", "b", "644")),
        ),
    ),
    Scenario(
        "csi-key",
        "RSA and EC keys are mounted as public keys in PEM.",
        (
            *mounted(KEYS, *({"objectName": one, "objectType": "key", "objectAlias": one} for one in ("rsa", "ec"))),
            Now(SameAsVault("app", "rsa", "key", "rsa")),
            Now(SameAsVault("app", "ec", "key", "ec")),
        ),
    ),
    Scenario(
        "csi-cert",
        "A certificate is mounted as leaf in PEM, as key with its chain in PEM, and as PKCS#12 as the vault has it.",
        (
            *mounted(
                TLS,
                {"objectName": "tls", "objectType": "cert", "objectAlias": "leaf.pem"},
                secret("tls", objectAlias="tls.pem"),
                secret("tls", objectAlias="tls.pfx", objectFormat="pfx"),
            ),
            Now(FileIs("app", "leaf.pem", LEAF.pem.decode())),
            Now(FileIs("app", "tls.pem", KEY_PEM.decode() + CHAIN)),
            Now(SameAsVault("app", "tls.pfx", "secret", "tls")),
        ),
    ),
    Scenario(
        "csi-rotation",
        "A secret changes in the vault: its file follows at the next poll, that of a pinned version stays.",
        (
            *mounted(
                TURNING, secret("turning", objectAlias="latest"), secret("turning", objectAlias="pinned", pinned="yes")
            ),
            Now(FileIs("app", "latest", "value 2")),
            Now(FileIs("app", "pinned", "value 0")),
            Stored("secret", "turning", {"value": "value 3"}),
            FileIs("app", "latest", "value 3"),
            Now(FileIs("app", "pinned", "value 0")),
        ),
    ),
    Scenario(
        "csi-history",
        "A history of two versions holds two files, and moves on when there is a new version.",
        (
            *mounted(TURNING, secret("turning", objectAlias="all", objectVersionHistory="2")),
            Now(Mode("app", "all/1", "644")),
            Stored("secret", "turning", {"value": "value 3"}),
            FileIs("app", "all/0", "value 3"),
        ),
    ),
)
