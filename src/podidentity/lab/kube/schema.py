"""Structural schemas: prune what is unknown, fill in defaults, name what is wrong, in kube-apiserver's words (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Final

from podidentity.lab.kube.embedded import decode_embedded, embedded_faults
from podidentity.lab.kube.errors import Cause
from podidentity.lab.kube.objects import Obj, decode, encode, go_value

_INT64: Final = 2**63
_META: Final = ("apiVersion", "kind", "metadata")


@dataclass(slots=True)
class Findings:
    """What a pass over an object found: paths of unknown fields (pruned), and causes that make it invalid."""

    unknown: list[str] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)

    def wrong(self, path: str, value: object, text: str, reason: str = "FieldValueInvalid") -> None:
        """Record an ``Invalid value``."""
        self.causes.append(Cause(reason, f"Invalid value: {go_value(value)}: {path} in body {text}", path))


def conform(schema: Mapping[str, Any], obj: Obj) -> Findings:
    """Prune, default and validate a custom resource in place."""
    findings = Findings()
    _settle_numbers(obj)
    _object({**schema, "x-root": True}, obj, "", findings)
    return findings


def _settle_numbers(value: Any) -> Any:
    """Whole numbers of 64 bits are integers, however they are written; any other number is none. In place."""
    if isinstance(value, dict):
        for key, item in value.items():
            value[key] = _settle_numbers(item)
    elif isinstance(value, list):
        value[:] = map(_settle_numbers, value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        whole = -_INT64 <= value < _INT64 and value == int(value)
        return int(value) if whole else float(value)
    return value


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


_NAMES: Final[Mapping[type, str]] = {
    NoneType: "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
}


def _type_name(value: object) -> str:
    return _NAMES.get(type(value), "object")


def _fits(wanted: str, value: object) -> bool:
    actual = _type_name(value)
    if wanted == "number":
        return actual in {"number", "integer"}
    return wanted == actual


def _check(schema: Mapping[str, Any], value: Any, path: str, findings: Findings) -> None:
    if value is None and schema.get("nullable"):
        return
    if schema.get("x-kubernetes-int-or-string"):
        if _type_name(value) not in {"integer", "string"}:
            findings.wrong(path, _type_name(value), "must be of type integer or string", "FieldValueTypeInvalid")
        return
    wanted = schema.get("type")
    if wanted and not _fits(wanted, value):
        actual = _type_name(value)
        findings.wrong(path, actual, f'must be of type {wanted}: "{actual}"', "FieldValueTypeInvalid")
        return
    if isinstance(value, dict):
        _object(schema, value, path, findings)
    elif isinstance(value, list):
        _array(schema, value, path, findings)
    else:
        _scalar(schema, value, path, findings)
    _enumerated(schema, value, path, findings)
    _combined(schema, value, path, findings)


def _object(schema: Mapping[str, Any], value: Obj, path: str, findings: Findings) -> None:
    properties: Mapping[str, Any] = schema.get("properties") or {}
    embedded = bool(schema.get("x-kubernetes-embedded-resource"))
    typed_meta = embedded or "x-root" in schema
    if embedded:
        findings.unknown.extend(decode_embedded(value, path))
        findings.causes.extend(embedded_faults(value, path))
    for name, sub in properties.items():
        if name in value and value[name] is None and not sub.get("nullable"):
            del value[name]
        if name not in value and "default" in sub:
            value[name] = decode(encode(sub["default"]))
    for name in list(value):
        where = _join(path, name)
        if typed_meta and name in _META:
            continue
        if (sub := _schema_of(schema, name)) is not None:
            _check(sub, value[name], where, findings)
        elif not _keeps(schema):
            findings.unknown.append(where)
            del value[name]
    _required(schema, value, path, findings)
    _count(schema, value, "Properties", path, findings)


def _schema_of(schema: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    found = (schema.get("properties") or {}).get(name, schema.get("additionalProperties"))
    return found if isinstance(found, Mapping) else None


def _keeps(schema: Mapping[str, Any]) -> bool:
    return bool(schema.get("x-kubernetes-preserve-unknown-fields")) or schema.get("additionalProperties") is True


def _required(schema: Mapping[str, Any], value: Obj, path: str, findings: Findings) -> None:
    for name in schema.get("required") or ():
        if name not in value:
            findings.causes.append(Cause("FieldValueRequired", "Required value", _join(path, name)))


def _count(schema: Mapping[str, Any], value: Any, what: str, path: str, findings: Findings) -> None:
    least, most = schema.get(f"min{what}"), schema.get(f"max{what}")
    if least is not None and len(value) < least:
        findings.wrong(path, value, f"should have at least {least} {what.lower()}")
    if most is not None and len(value) > most:
        cause = f"Too many: {len(value)}: must have at most {most} items"
        findings.causes.append(Cause("FieldValueTooMany", cause, path))


def _array(schema: Mapping[str, Any], value: list[Any], path: str, findings: Findings) -> None:
    items = schema.get("items")
    _count(schema, value, "Items", path, findings)
    for number, item in enumerate(value):
        if isinstance(items, Mapping):
            _check(items, item, f"{path}[{number}]", findings)
    for number, item in _duplicates(schema, value):
        cause = f"Duplicate value: {go_value(item)}"
        findings.causes.append(Cause("FieldValueDuplicate", cause, f"{path}[{number}]"))


def _duplicates(schema: Mapping[str, Any], value: list[Any]) -> Iterator[tuple[int, object]]:
    kind = schema.get("x-kubernetes-list-type")
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    seen: set[bytes] = set()
    if kind not in {"set", "map"}:
        return
    for number, item in enumerate(value):
        identity = {key: item.get(key) for key in keys} if kind == "map" and isinstance(item, dict) else item
        if encode(identity) in seen:
            yield number, identity
        seen.add(encode(identity))


def _scalar(schema: Mapping[str, Any], value: Any, path: str, findings: Findings) -> None:
    if isinstance(value, str):
        _text(schema, value, path, findings)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _number(schema, value, path, findings)


def _text(schema: Mapping[str, Any], value: str, path: str, findings: Findings) -> None:
    least, most, pattern = schema.get("minLength"), schema.get("maxLength"), schema.get("pattern")
    if least is not None and len(value) < least:
        findings.wrong(path, value, f"should be at least {least} chars long")
    if most is not None and len(value) > most:
        findings.causes.append(Cause("FieldValueTooLong", f"Too long: may not be more than {most} bytes", path))
    if pattern is not None and not re.search(pattern, value):
        findings.wrong(path, value, f"should match '{pattern}'")


def _number(schema: Mapping[str, Any], value: float, path: str, findings: Findings) -> None:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and (value < least or (schema.get("exclusiveMinimum") and value == least)):
        word = "greater than" if schema.get("exclusiveMinimum") else "greater than or equal to"
        findings.wrong(path, value, f"should be {word} {least}")
    if most is not None and (value > most or (schema.get("exclusiveMaximum") and value == most)):
        word = "less than" if schema.get("exclusiveMaximum") else "less than or equal to"
        findings.wrong(path, value, f"should be {word} {most}")
    if (step := schema.get("multipleOf")) and value % step:
        findings.wrong(path, value, f"should be a multiple of {step}")


def _enumerated(schema: Mapping[str, Any], value: Any, path: str, findings: Findings) -> None:
    allowed = schema.get("enum")
    if allowed is not None and value not in allowed:
        supported = ", ".join(go_value(item) for item in allowed)
        cause = f"Unsupported value: {go_value(value)}: supported values: {supported}"
        findings.causes.append(Cause("FieldValueNotSupported", cause, path))


def _holds(schema: Mapping[str, Any], value: Any, path: str) -> bool:
    trial = Findings()
    _check({"x-kubernetes-preserve-unknown-fields": True, **schema}, decode(encode(value)), path, trial)
    return not trial.causes


def _combined(schema: Mapping[str, Any], value: Any, path: str, findings: Findings) -> None:
    if (options := schema.get("anyOf")) and not any(_holds(option, value, path) for option in options):
        findings.wrong(path, value, "must validate at least one schema (anyOf)")
    if (options := schema.get("oneOf")) and sum(_holds(option, value, path) for option in options) != 1:
        findings.wrong(path, value, "must validate one and only one schema (oneOf)")
    if (options := schema.get("allOf")) and not all(_holds(option, value, path) for option in options):
        findings.wrong(path, value, "must validate all the schemas (allOf)")
    if (option := schema.get("not")) and _holds(option, value, path):
        findings.wrong(path, value, "must not validate the schema (not)")
