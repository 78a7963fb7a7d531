"""Steps about service principals: applications whose proof is in a Secret."""

from __future__ import annotations

import secrets
import uuid
from base64 import b64encode
from dataclasses import dataclass

from tests.azure.certificates import pair, rsa_key
from tests.scenarios.scene import Scene
from tests.scenarios.steps import Binding, Declared, Step

from podidentity.lab.azure import IdentityProperties, UserAssignedIdentity

TYPES = {False: 1, True: 2}


async def _proof(scene: Scene, client_id: str, *, certificate: bool) -> dict[str, str]:
    """A new proof, registered at Entra ID as the only one; the Secret's data, in base64."""
    if certificate:
        made, password = pair(rsa_key()), secrets.token_urlsafe(12)
        known: dict[str, list[str]] = {"secrets": [], "certificates": [made.public]}
        data = {"certificate": made.pkcs12(password.encode()), "password": password.encode()}
    else:
        password = secrets.token_urlsafe(12)
        known, data = {"secrets": [password], "certificates": []}, {"clientSecret": password.encode()}
    await scene.azure("PUT", f"/service-principals/{client_id}", known)
    return {name: b64encode(value).decode() for name, value in data.items()}


@dataclass(frozen=True)
class Principal(Step):
    """A service principal, the Secret with its proof, its AzureIdentity (type 1, or 2 for a certificate), a binding."""

    ref: str
    certificate: bool = False

    async def play(self, scene: Scene) -> None:
        """Make them."""
        client_id, object_id = str(uuid.uuid4()), str(uuid.uuid4())
        scene.identities[self.ref] = UserAssignedIdentity("", self.ref, IdentityProperties(client_id, object_id))
        await scene.azure("POST", "/seed", {"servicePrincipals": [{"clientId": client_id, "objectId": object_id}]})
        data = await _proof(scene, client_id, certificate=self.certificate)
        await scene.make("secret", self.ref, {"apiVersion": "v1", "kind": "Secret", "data": data})
        spec = {"type": TYPES[self.certificate], "clientID": client_id, "tenantID": scene.site.stage.lab.spec.tenant_id}
        password = {"name": self.ref, "namespace": await scene.namespace()}
        await Declared(self.ref, {**spec, "clientPassword": password}).play(scene)
        await Binding(self.ref, self.ref).play(scene)


@dataclass(frozen=True)
class Rotated(Step):
    """The proof is replaced, at Entra ID and in the Secret."""

    ref: str
    certificate: bool = False

    async def play(self, scene: Scene) -> None:
        """Replace it."""
        client_id = scene.identities[self.ref].properties.client_id
        await scene.change("secret", self.ref, {"data": await _proof(scene, client_id, certificate=self.certificate)})
