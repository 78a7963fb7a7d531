"""Labels, annotations, finalizers and owners of an object: what is wrong with them, as itself or as a change (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from podidentity.lab.kube.errors import Cause
from podidentity.lab.kube.names import SUBDOMAIN_RULE, is_subdomain
from podidentity.lab.kube.objects import Obj, go_value, meta

_NAME: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_NAME_RULE: Final = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_RULE: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_LONGEST: Final = 63
_TOO_LONG: Final = f"must be no more than {_LONGEST} characters"
_PARTS: Final = 2
_ANNOTATIONS_BYTES: Final = 262_144
_STANDARD: Final = frozenset(["orphan", "foregroundDeletion", "kubernetes"])
_OWNER: Final = ("apiVersion", "kind", "name", "uid")
_FIXED: Final = ("uid", "deletionTimestamp")


def faults(obj: Obj, old: Obj | None, *, core: bool) -> Iterator[Cause]:
    """What is wrong with the metadata of ``obj``, which is to replace ``old``; its name is not looked at.

    ``core``: of a kind whose finalizers are standard ones or have a prefix.
    """
    yield from _owner_faults(obj)
    yield from _finalizer_faults(obj, core=core)
    yield from label_faults(obj, "metadata")
    if old is not None:
        yield from _new_finalizers(obj, old)


def changes(obj: Obj, old: Obj) -> Iterator[Cause]:
    """What the body of a write says and may not: another uid, the time of a deletion."""
    for key in _FIXED:
        value = meta(obj).get(key)
        if value is not None and value != meta(old).get(key):
            yield _wrong(f"metadata.{key}", value, "field is immutable")


def label_faults(obj: Obj, path: str) -> Iterator[Cause]:
    """What is wrong with the labels and the annotations of an object whose metadata is at ``path``."""
    annotations = meta(obj).get("annotations") or {}
    for key in annotations:
        yield from (_wrong(f"{path}.annotations", key, text) for text in _unqualified(key.lower()))
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > _ANNOTATIONS_BYTES:
        text = f"Too long: may not be more than {_ANNOTATIONS_BYTES} bytes"
        yield Cause("FieldValueTooLong", text, f"{path}.annotations")
    for key, value in (meta(obj).get("labels") or {}).items():
        yield from (_wrong(f"{path}.labels", key, text) for text in _unqualified(key))
        if len(value) > _LONGEST:
            yield _wrong(f"{path}.labels", value, _TOO_LONG)
        if value and not _NAME.fullmatch(value):
            yield _wrong(f"{path}.labels", value, _VALUE_RULE)


def _wrong(field: str, value: object, text: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {go_value(value)}: {text}", field)


def key_fault(key: str) -> str:
    """Why a text is no key of a label; empty when it is one."""
    return next(_unqualified(key), "")


def value_fault(value: str) -> str:
    """Why a text is no value of a label; empty when it is one."""
    if len(value) > _LONGEST:
        return _TOO_LONG
    return _VALUE_RULE if value and not _NAME.fullmatch(value) else ""


def _unqualified(key: str) -> Iterator[str]:
    """Why a key is no ``prefix/name``."""
    *prefix, name = key.split("/")
    if len(prefix) >= _PARTS:
        yield f"a qualified name {_NAME_RULE} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        return
    if prefix and not prefix[0]:
        yield "prefix part must be non-empty"
    elif prefix and not is_subdomain(prefix[0]):
        yield f"prefix part {SUBDOMAIN_RULE}"
    if not name:
        yield "name part must be non-empty"
    elif len(name) > _LONGEST:
        yield f"name part {_TOO_LONG}"
    if not _NAME.fullmatch(name):
        yield f"name part {_NAME_RULE}"


def _finalizer_faults(obj: Obj, *, core: bool) -> Iterator[Cause]:
    for number, name in enumerate(meta(obj).get("finalizers") or ()):
        yield from (_wrong("metadata.finalizers", name, text) for text in _unqualified(name))
        if core and "/" not in name and name not in _STANDARD:
            text = "name is neither a standard finalizer name nor is it fully qualified"
            yield _wrong(f"metadata.finalizers[{number}]", name, text)


def _new_finalizers(obj: Obj, old: Obj) -> Iterator[Cause]:
    """An object that is being deleted gets no further ones."""
    if not meta(old).get("deletionTimestamp"):
        return
    before = meta(old).get("finalizers") or ()
    if new := sorted(name for name in meta(obj).get("finalizers") or () if name not in before):
        found = ", ".join(map(go_value, new))
        text = (
            "Forbidden: no new finalizers can be added if the object is being deleted, "
            f"found new finalizers []string{{{found}}}"
        )
        yield Cause("FieldValueForbidden", text, "metadata.finalizers")


def _owner_faults(obj: Obj) -> Iterator[Cause]:
    owners = meta(obj).get("ownerReferences") or []
    for owner in owners:
        for key in _OWNER:
            if not owner.get(key):
                text = "version must not be empty" if key == "apiVersion" else "must not be empty"
                yield _wrong(f"metadata.ownerReferences.{key}", "", text)
        if (owner.get("apiVersion"), owner.get("kind")) == ("v1", "Event"):
            yield _wrong("metadata.ownerReferences", owner, "/v1, Kind=Event is disallowed from being an owner")
    leading = [f"{owner.get('kind')}/{owner.get('name')}" for owner in owners if owner.get("controller")]
    if len(leading) > 1:
        found = " and ".join(leading[:_PARTS])
        text = f'Only one reference can have Controller set to true. Found "true" in references for {found}'
        yield _wrong("metadata.ownerReferences", owners, text)
