"""The causes an object is refused for, in Go's words, shared by the rules of all kinds (pure)."""

from __future__ import annotations

import re
from typing import Final

from podidentity.lab.kube.errors import Cause
from podidentity.lab.kube.names import LABEL_RULE, is_label
from podidentity.lab.kube.objects import go_value

MAX_PORT: Final = 65535
_QUANTITY: Final = re.compile(r"([+-]?[0-9.]+)([eEinumkKMGTP]*)([-+]?[0-9]*)")
_POWERS: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18, "e": 0}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


def missing(path: str, why: str = "") -> Cause:
    """A field that must be there is not."""
    return Cause("FieldValueRequired", f"Required value: {why}" if why else "Required value", path)


def invalid_value(path: str, value: object, why: str) -> Cause:
    """A field has a value it may not have."""
    return Cause("FieldValueInvalid", f"Invalid value: {go_value(value)}: {why}", path)


def unsupported_value(path: str, value: object, *supported: str) -> Cause:
    """A field has none of the values it may have."""
    listed = ", ".join(go_value(one) for one in supported)
    text = f"Unsupported value: {go_value(value)}: supported values: {listed}"
    return Cause("FieldValueNotSupported", text, path)


def duplicate(path: str, value: object) -> Cause:
    """A value that may be there once is there again."""
    return Cause("FieldValueDuplicate", f"Duplicate value: {go_value(value)}", path)


def forbidden_value(path: str, why: str) -> Cause:
    """A field may not be there at all."""
    return Cause("FieldValueForbidden", f"Forbidden: {why}", path)


def name_fault(path: str, name: object) -> Cause | None:
    """What is wrong with the name of a container or a volume."""
    if not name:
        return missing(path)
    return None if is_label(str(name)) else invalid_value(path, name, LABEL_RULE)


def port_fault(path: str, number: object) -> Cause | None:
    """What is wrong with a port's number."""
    if isinstance(number, int) and 0 < number <= MAX_PORT:
        return None
    return invalid_value(path, number, f"must be between 1 and {MAX_PORT}, inclusive")


def quantity(text: object) -> float:
    """The value of a quantity such as ``100m`` or ``2Gi``; the API has seen that it is one."""
    found = _QUANTITY.fullmatch(str(text))
    assert found is not None, text
    number, suffix, exponent = found.groups()
    if suffix in _BINARY:
        return float(number) * float(2 ** _BINARY[suffix])
    power = int(exponent) if exponent else _POWERS[suffix]
    return float(number) * float(10.0**power)
