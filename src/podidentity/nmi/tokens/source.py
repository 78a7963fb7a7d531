"""A token, what is asked for, and the one protocol every way of getting it speaks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from podidentity.nmi.answer import Answer


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """Everything a token depends on, hence the key of the cache; how it is asked for is not part of it.

    Ids are case-folded. For type 0 the token is asked of IMDS by the first of ``resource_id``, ``client_id``,
    ``object_id`` that is set, and with none it is the node's default identity. ``secret`` is the Secret's
    ``namespace/name``. ``caller`` waits in line; ``bypass``: a token kept by us or by IMDS will not do; ``urgent``:
    somebody has no token at all meanwhile.
    """

    resource: str
    type: int = 0
    client_id: str = ""
    resource_id: str = ""
    object_id: str = ""
    tenant_id: str = ""
    ad_endpoint: str = ""
    secret: str = ""
    caller: str = field(default="", compare=False)
    bypass: bool = field(default=False, compare=False)
    urgent: bool = field(default=True, compare=False)


class Token:
    """A token as it is handed out; times are seconds since the epoch. Its text form never shows the token.

    ``life`` is how many seconds it had left when it came, as its issuer counts; 0 when the issuer did not say.
    """

    __slots__ = (
        "_answer",
        "_second",
        "access_token",
        "client_id",
        "expires_on",
        "ext_expires_in",
        "life",
        "not_before",
        "resource",
        "token_type",
    )

    def __init__(
        self,
        access_token: str,
        expires_on: int,
        resource: str,
        *,
        client_id: str = "",
        not_before: int = 0,
        ext_expires_in: int = 0,
        token_type: str = "Bearer",  # noqa: S107 - the scheme's name
        life: int = 0,
    ) -> None:
        self.access_token = access_token
        self.expires_on = expires_on
        self.resource = resource
        self.client_id = client_id
        self.not_before = not_before
        self.ext_expires_in = ext_expires_in
        self.token_type = token_type
        self.life = life
        self._second = -1
        self._answer: Answer | None = None

    def __repr__(self) -> str:
        """Tell what it is for, not what it is."""
        return f"Token(resource={self.resource!r}, expires_on={self.expires_on})"

    def answer(self, now: float) -> Answer:
        """Return the 200 of IMDS with ``expires_in`` counted from ``now``; built once a second."""
        second = int(now)
        if self._answer is None or second != self._second:
            self._second = second
            self._answer = Answer(200, msgspec.json.encode(self.body(second)))
        return self._answer

    def body(self, now: int) -> TokenBody:
        """Return the JSON object: all values are strings, as IMDS sends them."""
        return TokenBody(
            access_token=self.access_token,
            client_id=self.client_id,
            expires_in=str(max(0, self.expires_on - now)),
            expires_on=str(self.expires_on),
            ext_expires_in=str(max(0, self.ext_expires_in or self.expires_on - now)),
            not_before=str(self.not_before),
            resource=self.resource,
            token_type=self.token_type,
        )


class TokenBody(msgspec.Struct, frozen=True):
    """The token object on the wire; ``refresh_token`` is empty, as older clients expect it."""

    access_token: str
    client_id: str
    expires_in: str
    expires_on: str
    ext_expires_in: str
    not_before: str
    resource: str
    token_type: str
    refresh_token: str = ""


class HostTokenBody(msgspec.Struct, frozen=True):
    """What ``/host/token`` answers."""

    token: TokenBody
    clientid: str


class TokenSource(Protocol):
    """Gives tokens. Raises :class:`TokenRefused` and nothing else for whatever stands in the way."""

    async def token(self, request: TokenRequest) -> Token:
        """Return a token for ``request`` that has not expired."""
        ...


class TokenRefused(Exception):  # noqa: N818 - said of a token, as the caller reads it
    """No token: ``status`` and ``code`` as the caller gets them, ``retry_after`` in seconds if waiting may help."""

    def __init__(self, status: int, description: str, *, code: str = "", retry_after: float | None = None) -> None:
        super().__init__(description)
        self.status = status
        self.description = description
        self.code = code
        self.retry_after = retry_after

    def again(self, left: float) -> TokenRefused:
        """Return the same refusal to be raised once more; ``left`` seconds of its Retry-After, if any, remain."""
        after = None if self.retry_after is None else left
        return TokenRefused(self.status, self.description, code=self.code, retry_after=after)


class TurnRefused(TokenRefused):
    """Refused because others are before ``caller``: says nothing of what was asked for."""

    def __init__(self, status: int, description: str, *, retry_after: float, caller: str) -> None:
        super().__init__(status, description, retry_after=retry_after)
        self.caller = caller


MAX_RETRY_AFTER_SECONDS: Final = 3600
