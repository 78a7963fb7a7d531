"""Request bodies as types, what does not fit is ARM's 400; and times as bodies carry them."""

from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from podidentity.lab.cloud.arm.errors import bad_body
from podidentity.lab.cloud.wire import Call

T = TypeVar("T")


def iso(seconds: float) -> str:
    """A time as ARM writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """What every resource's PUT may carry."""

    location: str = ""
    tags: dict[str, str] = {}


def read(call: Call, kind: type[T]) -> T:
    """The body as `kind`; 400 InvalidRequestContent otherwise."""
    try:
        return msgspec.json.decode(call.body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_body(str(error)) from error
