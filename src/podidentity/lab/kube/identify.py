"""Is the body what the URL says? Compared and completed in place (pure)."""

from __future__ import annotations

from typing import Final

from podidentity.lab.kube.errors import StatusError, bad_request, conflict
from podidentity.lab.kube.objects import Obj, encode
from podidentity.lab.kube.requests import Where

SERVER_META: Final = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
"""Metadata that only the server writes."""

_NEVER_KEPT: Final = frozenset(["managedFields", "selfLink"])


def identify(where: Where, obj: Obj) -> None:
    """Fill in apiVersion, kind, namespace and name; 400 when the body names others."""
    kind = where.kind
    said, as_kind = obj.get("apiVersion"), obj.get("kind")
    if kind.custom and not as_kind:
        raise bad_request(f"Object 'Kind' is missing in '{encode(obj).decode()}'")
    if said and said != kind.api_version:
        message = f"the API version in the data ({said}) does not match the expected API version"
        raise bad_request(f"{message} ({kind.api_version})")
    if as_kind and as_kind != kind.kind:
        raise bad_request(f'{as_kind} in version "{kind.version}" cannot be handled as a {kind.kind}')
    obj["apiVersion"], obj["kind"] = kind.api_version, kind.kind
    if obj.get("metadata") is None:
        obj["metadata"] = {}
    metadata = obj["metadata"]
    if not isinstance(metadata, dict):
        raise bad_request("metadata is not an object")
    _place(where, metadata)
    for key in [key for key, value in metadata.items() if value is None or key in _NEVER_KEPT]:
        del metadata[key]


def _place(where: Where, metadata: Obj) -> None:
    if where.kind.namespaced:
        if metadata.get("namespace") not in {where.namespace, "", None}:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        metadata["namespace"] = where.namespace
    else:
        metadata.pop("namespace", None)
    if where.name and metadata.setdefault("name", where.name) != where.name:
        message = f"the name of the object ({metadata['name']}) does not match the name on the URL ({where.name})"
        raise bad_request(message)


def check_current(where: Where, metadata: Obj, before: Obj) -> None:
    """409 when the body is of another version or another object than the stored one."""
    version, uid = metadata.get("resourceVersion"), metadata.get("uid")
    if uid and uid != before["uid"]:
        raise other_uid(where, uid, before["uid"])
    if version and version != before["resourceVersion"]:
        raise conflict(where.kind.plural, where.kind.group, before["name"])


def other_uid(where: Where, asked: object, found: object) -> StatusError:
    """409: the name belongs to another object by now."""
    why = f"Precondition failed: UID in precondition: {asked}, UID in object meta: {found}"
    return conflict(where.kind.plural, where.kind.group, where.name, why)


def other_version(where: Where, asked: object, found: object) -> StatusError:
    """409: the object has been written since."""
    why = f"Precondition failed: ResourceVersion in precondition: {asked}, ResourceVersion in object meta: {found}"
    return conflict(where.kind.plural, where.kind.group, where.name, why)
