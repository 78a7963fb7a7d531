"""The user-assigned identities of ``az identity list -o json``, or of ``az identity show``. No I/O."""

from __future__ import annotations

import msgspec

from podidentity.config.errors import ConfigError
from podidentity.manifests.rendering import IdentityValues
from podidentity.manifests.terraform_text import decoded


class _Identity(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    id: str
    client_id: str


def read_identities(text: bytes) -> tuple[IdentityValues, ...]:
    """Name, ARM id and client id of each. Raises ConfigError when it is something else, or empty."""
    try:
        found = msgspec.json.decode(decoded(text).encode(), type=list[_Identity] | _Identity)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ConfigError(f"not the JSON of `az identity list -o json`: {error}") from error
    identities = found if isinstance(found, list) else [found]
    if not identities:
        raise ConfigError("there is no identity in it; `az identity list` may have been asked for another group")
    return tuple(IdentityValues(one.name, one.id, one.client_id) for one in identities)
