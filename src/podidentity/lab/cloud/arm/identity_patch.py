"""What a PATCH of a host's `identity` means (pure): `{}` adds, `null` removes, what is not listed stays."""

import json
from dataclasses import dataclass

from podidentity.lab.cloud import ids
from podidentity.lab.cloud.arm.errors import arm_error, bad_body, invalid_parameter

LIMIT = 150
_TARGET = "resourceIdentity.identityIds"
_TYPES = {"none": (False, False), "systemassigned": (True, False), "userassigned": (False, True)}
_BOTH = frozenset({"systemassigned", "userassigned"})


@dataclass(frozen=True, slots=True)
class IdentityChange:
    """A read request: which kinds the host shall have, ids to add (as spelled) and folded ids to remove."""

    system: bool
    user: bool
    add: tuple[str, ...]
    remove: frozenset[str]


class _Pairs(list[tuple[str, object]]):
    """A JSON object as its pairs, so that a key sent twice is seen."""


def read_identity(body: bytes) -> IdentityChange | None:
    """The change that a PATCH body asks for, None when it has no `identity`. Raises the service's refusal."""
    try:
        document = json.loads(body, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise bad_body(str(error)) from error
    if not isinstance(document, _Pairs):
        raise bad_body("an object was expected")
    identity = _field(document, "identity")
    if identity is None:
        return None
    if not isinstance(identity, _Pairs):
        raise bad_body("identity: an object was expected")
    system, user = _kinds(_field(identity, "type"))
    users = _field(identity, "userAssignedIdentities")
    if users is not None and not isinstance(users, _Pairs):
        raise bad_body("identity.userAssignedIdentities: an object was expected")
    add, remove = _listed(users or _Pairs())
    if add and not user:
        raise invalid_parameter(
            "The identity type must include 'UserAssigned' when user assigned identities are specified.", _TARGET
        )
    return IdentityChange(system, user, add, remove)


def _field(pairs: _Pairs, name: str) -> object:
    return next((value for key, value in pairs if key.casefold() == name.casefold()), None)


def _kinds(text: object) -> tuple[bool, bool]:
    if not isinstance(text, str):
        raise invalid_parameter("Required parameter 'identity.type' is missing (null).", "identity.type")
    words = [word.strip().casefold() for word in text.split(",")]
    if len(words) == 1 and words[0] in _TYPES:
        return _TYPES[words[0]]
    if len(words) == len(_BOTH) and set(words) == _BOTH:
        return True, True
    raise invalid_parameter(f"The value '{text}' of parameter 'identity.type' is not allowed.", "identity.type")


def _listed(users: _Pairs) -> tuple[tuple[str, ...], frozenset[str]]:
    if len(users) > LIMIT:
        message = f"User Assigned Identities Number '{len(users)}' Assign exceed limit '{LIMIT}' in one request."
        raise arm_error(400, "BadRequest", message)
    seen: set[str] = set()
    for key, value in users:
        if ids.identity_parts(key) is None:
            raise arm_error(
                400,
                "LinkedInvalidPropertyId",
                f"Property id '{key}' at path 'identity.userAssignedIdentities' is invalid. Expect fully qualified "
                "resource Id that start with '/subscriptions/{subscriptionId}' or "
                "'/providers/{resourceProviderNamespace}/'.",
            )
        if ids.fold(key) in seen:
            raise invalid_parameter(f"The identity id '{key}' is specified more than once.", _TARGET)
        seen.add(ids.fold(key))
        if value is not None and not isinstance(value, _Pairs):
            raise bad_body(f"identity.userAssignedIdentities['{key}']: an object or null was expected")
    add = tuple(key for key, value in users if value is not None)
    return add, frozenset(ids.fold(key) for key, value in users if value is None)
