"""Objects inside a custom resource (``x-kubernetes-embedded-resource``): their type and metadata are checked (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from podidentity.lab.kube.decoding import WrongTypeError, decode_metadata
from podidentity.lab.kube.errors import Cause
from podidentity.lab.kube.metadata import label_faults
from podidentity.lab.kube.objects import Obj, go_value

_KIND: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_KIND_RULE: Final = (
    "may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case alphanumeric "
    "characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  "
    "or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)


def decode_embedded(obj: Obj, path: str) -> list[str]:
    """Conform the metadata in place; the paths of its unknown fields, or WrongTypeError."""
    for name in ("apiVersion", "kind"):
        if not isinstance(obj.get(name, ""), str):
            raise WrongTypeError(f"{path}.{name}: Invalid value: {go_value(obj[name])}: must be a string")
    whole = go_value(obj.get("metadata"))
    try:
        return [f"{path}.metadata.{name}" for name in decode_metadata(obj)]
    except WrongTypeError as error:
        raise WrongTypeError(f"{path}.metadata: Invalid value: {whole}: {error}") from error


def embedded_faults(obj: Obj, path: str) -> Iterator[Cause]:
    """What is wrong with the type and the labels of an embedded object."""
    for name in ("apiVersion", "kind"):
        where = f"{path}.{name}"
        if name not in obj:
            yield Cause("FieldValueRequired", "Required value", where)
        elif text := _type_fault(name, obj[name]):
            yield Cause("FieldValueInvalid", f"Invalid value: {go_value(obj[name])}: {text}", where)
    yield from label_faults(obj, f"{path}.metadata")


def _type_fault(name: str, value: str) -> str:
    if not value:
        return "must not be empty"
    if name == "kind":
        return "" if _KIND.fullmatch(value.lower()) else _KIND_RULE
    return f"unexpected GroupVersion string: {value}" if value.count("/") > 1 else ""
