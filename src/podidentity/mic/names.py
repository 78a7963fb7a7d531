"""Names of AzureAssignedIdentity objects: the original's wherever it is free and short enough."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from podidentity.mic.wanted import AssignmentKey

MAX_NAME: Final = 253
_DIGEST: Final = 8


def plain_name(key: AssignmentKey) -> str:
    """``<pod>-<namespace>-<identity>``: the original's name; not always unique, not always short enough."""
    return f"{key.pod}-{key.namespace}-{key.identity}"


def suffixed_name(key: AssignmentKey, salt: str) -> str:
    """The plain name, cut to fit, with a hash of the key and of ``salt``."""
    digest = hashlib.sha256("\0".join((*key, salt)).encode()).hexdigest()[:_DIGEST]
    return f"{plain_name(key)[: MAX_NAME - _DIGEST - 1].rstrip('.-')}-{digest}"


def plain_is_free(key: AssignmentKey, taken: Callable[[str], bool]) -> bool:
    """Whether a record may get the plain name: it is short enough and no other record has it."""
    name = plain_name(key)
    return len(name) <= MAX_NAME and not taken(name)


def free_name(key: AssignmentKey, place: str, taken: Callable[[str], bool]) -> str:
    """The name for a new record: plain when that is free.

    ``place`` (host and identity) makes the suffix of a pod that moved differ from the record it left behind.
    """
    if plain_is_free(key, taken):
        return plain_name(key)
    attempt = 0
    while taken(name := suffixed_name(key, f"{place}\0{attempt}" if attempt else place)):
        attempt += 1
    return name
