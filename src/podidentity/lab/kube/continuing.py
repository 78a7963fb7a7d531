"""Continue tokens: at which revision a list goes on, and behind which object, as kube-apiserver writes them (pure)."""

from __future__ import annotations

import base64
import binascii
from typing import Final, TypeAlias

from podidentity.lab.kube.errors import StatusError, bad_request
from podidentity.lab.kube.objects import decode, encode

_VERSION: Final = "meta.k8s.io/v1"
_END: Final = "\0"
Key: TypeAlias = tuple[str, str]


def token(revision: int, last: Key, namespace: str) -> str:
    """The token behind the object ``last`` of a list of ``namespace`` (of all of them when empty).

    With revision 0 the list goes on as the store is then.
    """
    start = "/".join(part for part in last[bool(namespace) :] if part)
    body = {"v": _VERSION, "rv": revision or -1, "start": f"{start}{_END}"}
    return base64.urlsafe_b64encode(encode(body)).rstrip(b"=").decode()


def read(text: str, namespace: str) -> tuple[int, Key]:
    """Revision and last object of a token; StatusError 400 when it is none."""
    try:
        found = decode(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True))
        revision, start = int(found["rv"]), str(found["start"]).removesuffix(_END)
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise bad_request("invalid continue token: continue key is not valid") from error
    *before, name = start.split("/")
    return max(revision, 0), (namespace or "".join(before), name)


def expired(last: Key, namespace: str) -> StatusError:
    """410: the objects of then are forgotten; the token in the answer goes on with those of now."""
    message = (
        "The provided continue parameter is too old to display a consistent list result. You can start a new list "
        "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
        "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
        "modified, or deleted between the time the first chunk was returned and now may show up in the list."
    )
    return StatusError(410, message, metadata={"continue": token(0, last, namespace)})
