"""Service-account tokens of pods: asked from the API, kept until four fifths of their life are over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from podidentity.aio.clock import Clock
from podidentity.api.meta import Struct
from podidentity.kube.client import KubeClient
from podidentity.lab.node.logs import seconds
from podidentity.lab.node.objects import FullPod, TokenFile

_REFRESH_AT = 0.8


class _TokenStatus(Struct, frozen=True):
    token: str = ""
    expiration_timestamp: str = ""


class _TokenRequest(Struct, frozen=True):
    status: _TokenStatus = _TokenStatus()


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token, when it expires (RFC 3339) and when to ask for the next (wall clock, seconds)."""

    token: str
    expires: str
    refresh_at: float


class TokenKeeper:
    """Tokens by pod, audience and life time."""

    def __init__(self, client: KubeClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._tokens: dict[tuple[str, str, int], IssuedToken] = {}

    async def token(self, pod: FullPod, wanted: TokenFile) -> str:
        """The token for a file of a projected volume. Raises KubeError."""
        return (await self.issued(pod, wanted.audience, wanted.expiration_seconds)).token

    async def issued(self, pod: FullPod, audience: str, life: int) -> IssuedToken:
        """A token bound to ``pod`` that lives ``life`` seconds; empty ``audience``: the API server's own."""
        key = (pod.uid, audience, life)
        found = self._tokens.get(key)
        if found is None or self._clock.wall() >= found.refresh_at:
            found = self._tokens[key] = await self._request(pod, [audience] if audience else [], life)
        return found

    async def _request(self, pod: FullPod, audiences: Sequence[str], life: int) -> IssuedToken:
        account = pod.spec.service_account_name or "default"
        path = f"/api/v1/namespaces/{pod.namespace}/serviceaccounts/{account}/token"
        spec: dict[str, object] = {
            "expirationSeconds": life,
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": pod.name, "uid": pod.uid},
            "audiences": list(audiences),
        }
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        body = await self._client.raw("POST", path, body=request)
        status = msgspec.json.decode(body, type=_TokenRequest).status
        now = self._clock.wall()
        left = (seconds(status.expiration_timestamp) or now + life) - now
        return IssuedToken(status.token, status.expiration_timestamp, now + left * _REFRESH_AT)

    def forget(self, pod: FullPod) -> None:
        """Drop the tokens of a pod that is gone."""
        self._tokens = {key: token for key, token in self._tokens.items() if key[0] != pod.uid}
