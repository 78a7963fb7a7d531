"""Is the body what the URL says? Compared and completed in place (pure)."""

from __future__ import annotations

from typing import Final

from podidentity.lab.kube.errors import Cause, StatusError, bad_request, conflict, invalid
from podidentity.lab.kube.kinds import Kind
from podidentity.lab.kube.objects import Obj, encode, go_value, json_name, meta
from podidentity.lab.kube.requests import Where

SERVER_META: Final = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
"""Metadata that only the server writes."""

_NEVER_KEPT: Final = frozenset(["managedFields", "selfLink"])


def identify(where: Where, obj: Obj, *, patched: bool = False) -> None:
    """Fill in apiVersion, kind, namespace and name; 400 or 422 when the body, or a patch of it, names others."""
    kind = where.kind
    if kind.custom:
        _custom_type(kind, obj, patched=patched)
    else:
        _built_in_type(kind, obj, patched=patched)
    obj["apiVersion"], obj["kind"] = kind.api_version, kind.kind
    if obj.get("metadata") is None:
        obj["metadata"] = {}
    metadata = obj["metadata"]
    if not isinstance(metadata, dict):
        into = "Go value" if kind.custom else f"Go struct field {kind.kind}.metadata"
        why = f"json: cannot unmarshal {json_name(metadata)} into {into} of type v1.ObjectMeta"
        raise bad_request(f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {why}')
    _place(where, metadata)
    for key in [key for key, value in metadata.items() if value is None or key in _NEVER_KEPT]:
        del metadata[key]


def _custom_type(kind: Kind, obj: Obj, *, patched: bool) -> None:
    """A custom resource says what it is."""
    version, name = obj.get("apiVersion"), obj.get("kind")
    if not name:
        why = f"Object 'Kind' is missing in '{encode(obj).decode()}'"
        raise bad_request(f"the object provided is unrecognized (must be of type {kind.kind}): {why}")
    if version != kind.api_version:
        if patched:
            raise _other_type(str(name), "", obj, "apiVersion", kind.api_version)
        message = f"the API version in the data ({version or ''}) does not match the expected API version"
        raise bad_request(f"{message} ({kind.api_version})")
    if name != kind.kind:
        raise _other_type(str(name), kind.group, obj, "kind", kind.kind)


def _other_type(name: str, group: str, obj: Obj, field: str, wanted: str) -> StatusError:
    cause = Cause("FieldValueInvalid", f"Invalid value: {go_value(obj[field])}: must be {wanted}", field)
    return invalid(name, group, str(meta(obj).get("name") or ""), [cause])


def _built_in_type(kind: Kind, obj: Obj, *, patched: bool) -> None:
    """A built-in kind is what the path says, unless the body says it is another."""
    version, name = obj.get("apiVersion") or kind.api_version, obj.get("kind") or kind.kind
    if (version, name) == (kind.api_version, kind.kind):
        return
    why = f'no kind "{name}" is registered for version "{version}"'
    if patched:
        raise invalid(
            "", "", "", [Cause("FieldValueInvalid", f"Invalid value: {go_value(go_value(obj))}: {why}", "patch")]
        )
    raise bad_request(
        f'{name} in version "{str(version).rpartition("/")[2]}" cannot be handled as a {kind.kind}: {why}'
    )


def _place(where: Where, metadata: Obj) -> None:
    if where.kind.namespaced:
        if metadata.get("namespace") not in {where.namespace, "", None}:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        metadata["namespace"] = where.namespace
    else:
        metadata.pop("namespace", None)
    if where.name and not metadata.get("name"):
        message = f"the name of the object ({where.name} based on URL) was undeterminable: name must be provided"
        raise bad_request(message)
    if where.name and metadata["name"] != where.name:
        message = f"the name of the object ({metadata['name']}) does not match the name on the URL ({where.name})"
        raise bad_request(message)


def check_current(where: Where, metadata: Obj, before: Obj, *, patched: bool) -> None:
    """409 when the body of an update is of another object, or any body of another version, than the stored one."""
    version, uid = metadata.get("resourceVersion"), metadata.get("uid")
    if uid and uid != before["uid"] and not patched:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {before['uid']}"
        raise conflict(where.kind.plural, where.kind.group, where.name, why)
    if version and version != before["resourceVersion"]:
        raise conflict(where.kind.plural, where.kind.group, before["name"])


def missing_uid(where: Where, asked: object) -> StatusError:
    """409: the object that an update is of is gone, and no other has its name yet."""
    why = f"Precondition failed: UID in precondition: {asked}, UID in object meta: "
    return conflict(where.kind.plural, where.kind.group, where.name, why)


def other_uid(where: Where, asked: object, found: object) -> StatusError:
    """409: the name belongs to another object by now."""
    why = f"the UID in the precondition ({asked}) does not match the UID in record ({found})"
    return conflict(
        where.kind.kind, where.kind.group, where.name, f"{why}. The object might have been deleted and then recreated"
    )


def other_version(where: Where, asked: object, found: object) -> StatusError:
    """409: the object has been written since."""
    why = f"the ResourceVersion in the precondition ({asked}) does not match the ResourceVersion in record ({found})"
    return conflict(where.kind.kind, where.kind.group, where.name, f"{why}. The object might have been modified")
