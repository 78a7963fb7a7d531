"""Whose a service-account token is, asked of the API server by TokenReview; answers are kept for a short while."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

import msgspec

from podidentity.aio.clock import Clock
from podidentity.kube.client import KubeClient
from podidentity.nmi.rights import MissingRight
from podidentity.telemetry.logging import Logger

REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_KEPT_SECONDS: Final = 60.0
_MOST_KEPT: Final = 256
_PREFIX: Final = "system:serviceaccount:"


class _User(msgspec.Struct, frozen=True):
    username: str = ""


class _Status(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: _User = _User()
    audiences: tuple[str, ...] = ()


class _Review(msgspec.Struct, frozen=True):
    status: _Status = _Status()


_REVIEW: Final = msgspec.json.Decoder(_Review)


class Reviews:
    """Reviews tokens that must be meant for ``audience``. A token itself is never kept, only its hash."""

    def __init__(self, client: KubeClient, audience: str, clock: Clock, log: Logger) -> None:
        self._missing = MissingRight(log, "callers' tokens cannot be reviewed")
        self._client = client
        self._audience = audience
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    async def service_account(self, token: str) -> str:
        """Return ``namespace/name`` of the account; empty for a token that is not good or is another's. KubeError."""
        digest = hashlib.sha256(token.encode()).digest()
        now = self._clock.monotonic()
        kept = self._kept.get(digest)
        if kept is not None and kept[1] > now:
            return kept[0]
        account = _account(await self._ask(token), self._audience)
        self._kept[digest] = (account, now + _KEPT_SECONDS)
        self._kept.move_to_end(digest)
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return account

    async def _ask(self, token: str) -> _Status:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self._audience]},
        }
        with self._missing.told():
            answer = await self._client.raw("POST", REVIEWS, body=body)
        try:
            return _REVIEW.decode(answer).status
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return _Status()


def _account(status: _Status, audience: str) -> str:
    """Return the account of a review; an API server that knows no audiences does not prove what the token is for."""
    name = status.user.username
    if not (status.authenticated and audience in status.audiences and name.startswith(_PREFIX)):
        return ""
    return name.removeprefix(_PREFIX).replace(":", "/", 1)
