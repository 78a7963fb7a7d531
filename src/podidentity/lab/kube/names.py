"""Object names: which are valid, and the random ends of generated ones (pure but for the random source)."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Final

from podidentity.lab.kube.errors import Cause
from podidentity.lab.kube.objects import Obj, go_value, meta

_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_QUALIFIED: Final = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
_MOST_GENERATED: Final = 58
_LABELS: Final = frozenset(["namespaces", "services"])
_PATHS: Final = (".rbac.authorization.k8s.io",)

_SUBDOMAIN_RULE: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_RULE: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)

_KEY_RULE: Final = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_LENGTH: Final = 63
_LONG_VALUE: Final = f"must be no more than {_VALUE_LENGTH} bytes"
_ANNOTATIONS_BYTES: Final = 262_144
_VALUE_RULE: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def generated(prefix: str, rng: random.Random) -> str:
    """``prefix`` and five random letters."""
    return prefix[:_MOST_GENERATED] + "".join(rng.choices(_LETTERS, k=5))


def faults(resource: str, obj: Obj) -> Iterator[Cause]:
    """What is wrong with the name, the labels and the annotations of an object."""
    name = str(meta(obj).get("name") or "")
    if not name:
        text = "Required value: name or generateName is required"
        yield Cause("FieldValueRequired", text, "metadata.name")
    elif text := _name_fault(resource, name):
        yield Cause("FieldValueInvalid", f"Invalid value: {go_value(name)}: {text}", "metadata.name")
    yield from label_faults(obj, "metadata")


def label_faults(obj: Obj, path: str) -> Iterator[Cause]:
    """What is wrong with the labels and the annotations of an object whose metadata is at ``path``."""
    annotations = meta(obj).get("annotations") or {}
    for key in annotations:
        if not _QUALIFIED.fullmatch(key.lower()):
            yield _wrong(f"{path}.annotations", key, _KEY_RULE)
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > _ANNOTATIONS_BYTES:
        yield Cause(
            "FieldValueTooLong", f"Too long: may not be more than {_ANNOTATIONS_BYTES} bytes", f"{path}.annotations"
        )
    for key, value in (meta(obj).get("labels") or {}).items():
        if not _QUALIFIED.fullmatch(key):
            yield _wrong(f"{path}.labels", key, _KEY_RULE)
        if not _VALUE.fullmatch(value):
            yield _wrong(f"{path}.labels", value, _VALUE_RULE if len(value) <= _VALUE_LENGTH else _LONG_VALUE)


def _wrong(field: str, value: object, text: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {go_value(value)}: {text}", field)


def _name_fault(resource: str, name: str) -> str:
    if resource.endswith(_PATHS):
        return "may not contain '/' or '%'" if "/" in name or "%" in name or name in {".", ".."} else ""
    if resource in _LABELS:
        return "" if _LABEL.fullmatch(name) and len(name) <= 63 else _LABEL_RULE  # noqa: PLR2004 - RFC 1123
    if len(name) > 253:  # noqa: PLR2004 - RFC 1123
        return "must be no more than 253 characters"
    return "" if _SUBDOMAIN.fullmatch(name) else _SUBDOMAIN_RULE
