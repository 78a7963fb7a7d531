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
_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
_MOST_GENERATED: Final = 58
_LABELS: Final = frozenset(["namespaces"])
_DNS_LABEL: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_PATHS: Final = (".rbac.authorization.k8s.io",)

SUBDOMAIN_RULE: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL_RULE: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_DNS_LABEL_RULE: Final = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)


def generated(prefix: str, rng: random.Random) -> str:
    """``prefix`` and five random letters."""
    return prefix[:_MOST_GENERATED] + "".join(rng.choices(_LETTERS, k=5))


def faults(resource: str, obj: Obj) -> Iterator[Cause]:
    """What is wrong with the name of an object, and with what it was generated from."""
    name, prefix = (str(meta(obj).get(key) or "") for key in ("name", "generateName"))
    if prefix and (text := _name_fault(resource, f"{prefix}a" if prefix.endswith("-") else prefix)):
        yield _wrong("metadata.generateName", prefix, text)
    if not name:
        text = "Required value: name or generateName is required"
        yield Cause("FieldValueRequired", text, "metadata.name")
    elif text := _name_fault(resource, name):
        yield _wrong("metadata.name", name, text)


def _wrong(field: str, value: object, text: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {go_value(value)}: {text}", field)


def is_label(text: str) -> bool:
    """Whether a text is a lowercase RFC 1123 label."""
    return bool(_LABEL.fullmatch(text)) and len(text) <= 63  # noqa: PLR2004 - RFC 1123


def is_subdomain(text: str) -> bool:
    """Whether a text is a lowercase RFC 1123 subdomain."""
    return bool(_SUBDOMAIN.fullmatch(text))


def _name_fault(resource: str, name: str) -> str:
    if resource.endswith(_PATHS):
        return "may not contain '/' or '%'" if "/" in name or "%" in name or name in {".", ".."} else ""
    if resource in _LABELS:
        return "" if is_label(name) else LABEL_RULE
    if resource == "services":
        return "" if _DNS_LABEL.fullmatch(name) and is_label(name) else _DNS_LABEL_RULE
    if len(name) > 253:  # noqa: PLR2004 - RFC 1123
        return "must be no more than 253 characters"
    return "" if _SUBDOMAIN.fullmatch(name) else SUBDOMAIN_RULE
