"""Stand-ins for what nmi talks to: IMDS, Entra ID and the API server."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from podidentity.aio.clock import Clock
from podidentity.api.core import Pod
from podidentity.azure.certificate import ClientCertificate
from podidentity.azure.errors import TokenError
from podidentity.azure.imds import ImdsResponse, ImdsToken
from podidentity.config.redact import SecretText
from podidentity.kube.errors import KubeUnavailable, NotFound


def jwt(**claims: str) -> str:
    """Return an unsigned JWT with these claims."""
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.c2ln"


def claims(token: str) -> dict[str, str]:
    """Return the claims of a JWT."""
    body = token.split(".")[1]
    found = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert isinstance(found, dict)
    return found


@dataclass
class FakeImds:
    """Answers as IMDS would, and remembers what it was asked; ``gate`` holds answers back while it is cleared.

    ``errors`` are raised one by one, ``refusals`` for their resource, always.
    """

    calls: list[dict[str, str]] = field(default_factory=list)
    forwarded: list[str] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    refusals: dict[str, Exception] = field(default_factory=dict)
    life: float = 86400.0
    clock: Clock = field(default_factory=Clock)
    answer_client_id: str | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Answer at once, until a test closes the gate."""
        self.gate.set()

    async def token(
        self,
        resource: str,
        *,
        client_id: str = "",
        object_id: str = "",
        resource_id: str = "",
        bypass_cache: bool = False,
    ) -> ImdsToken:
        """Return a token that says whose it is."""
        call = {"resource": resource, "client_id": client_id, "object_id": object_id, "resource_id": resource_id}
        self.calls.append({**call, **({"bypass_cache": "true"} if bypass_cache else {})})
        await self.gate.wait()
        if resource in self.refusals:
            raise self.refusals[resource]
        if self.errors:
            raise self.errors.pop(0)
        named = client_id or (f"client-of-{resource_id.rpartition('/')[2]}" if resource_id else "")
        whose = named or object_id or "node"
        return ImdsToken(
            access_token=jwt(oid=f"oid-of-{whose}", n=str(len(self.calls))),
            client_id=named or "client-of-node" if self.answer_client_id is None else self.answer_client_id,
            expires_in=str(int(self.life)),
            expires_on=str(int(self.clock.wall() + self.life)),
            ext_expires_in="86399",
            not_before="1",
            resource=resource,
        )

    async def forward(
        self, method: str, raw_target: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> ImdsResponse:
        """Return a document that names its target."""
        self.forwarded.append(raw_target)
        return ImdsResponse(200, (("Content-Type", "application/json"), ("X-More", "1")), b'{"compute":{}}')


class FakeEntra:
    """Entra ID's token endpoint; takes the secrets and certificates in ``right``."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.right: list[object] = ["right"]

    async def token(self, authority: str, tenant: str, client_id: str, secret: SecretText, resource: str) -> ImdsToken:
        """Return a token, or refuse the secret."""
        return self._answer(authority, tenant, client_id, secret.reveal(), resource)

    async def token_by_certificate(
        self, authority: str, tenant: str, client_id: str, certificate: ClientCertificate, resource: str
    ) -> ImdsToken:
        """Return a token, or refuse the certificate."""
        return self._answer(authority, tenant, client_id, certificate.chain[0], resource)

    def _answer(self, authority: str, tenant: str, client_id: str, proof: object, resource: str) -> ImdsToken:
        self.calls.append(f"{authority}/{tenant}/{client_id}")
        if proof not in self.right:
            raise TokenError(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.")
        token = jwt(oid="sp", n=str(len(self.calls)), tenant=tenant)
        return ImdsToken(
            access_token=token, expires_in="3599", expires_on=str(int(time.time()) + 3599), resource=resource
        )


class FakeApi:
    """The API server's answers to direct questions, and the Secrets it has."""

    def __init__(self) -> None:
        self.pods: list[Pod] = []
        self.secrets: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []
        self.down = False

    async def by_address(self, address: str) -> Sequence[Pod]:
        """Return pods by ``status.podIP``."""
        self.asked.append(address)
        if self.down:
            raise KubeUnavailable("down")
        return [pod for pod in self.pods if pod.status.pod_ip == address]

    async def by_name(self, namespace: str, name: str) -> Pod:
        """Return one pod."""
        self.asked.append(f"{namespace}/{name}")
        if self.down:
            raise KubeUnavailable("down")
        for pod in self.pods:
            if (pod.namespace, pod.name) == (namespace, name):
                return pod
        raise NotFound(404, "NotFound", f"pods {name} not found")

    async def read(self, namespace: str, name: str) -> Mapping[str, bytes]:
        """Return a Secret's data."""
        self.asked.append(f"secret {namespace}/{name}")
        if f"{namespace}/{name}" not in self.secrets:
            raise NotFound(404, "NotFound", "no secret")
        return self.secrets[f"{namespace}/{name}"]
