"""The query of a list or a watch: what it asks for that does not exist or does not go together is 400 or 422 (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from podidentity.lab.kube.errors import Cause, StatusError, bad_request, invalid, unsupported
from podidentity.lab.kube.objects import go_value

_KIND: Final = "ListOptions"
_MATCH: Final = "resourceVersionMatch"
_INITIAL: Final = "sendInitialEvents"


def number(query: Mapping[str, str], name: str) -> int:
    """A whole number, 0 when absent."""
    text = query.get(name, "") or "0"
    if not text.removeprefix("-").isdecimal():
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


def check_list(query: Mapping[str, str]) -> None:
    """Raise for a list that cannot be answered."""
    number(query, "timeoutSeconds")
    if query.get(_INITIAL):
        raise _forbidden(_INITIAL, "sendInitialEvents is forbidden for list")
    match, version = query.get(_MATCH, ""), query.get("resourceVersion", "")
    if not match:
        return
    if not version:
        raise _forbidden(_MATCH, "resourceVersionMatch is forbidden unless resourceVersion is provided")
    if query.get("continue"):
        raise _forbidden(_MATCH, "resourceVersionMatch is forbidden when continue is provided")
    if match not in {"Exact", "NotOlderThan"}:
        raise unsupported(_KIND, _MATCH, match, "Exact", "NotOlderThan", "")
    if match == "Exact" and version == "0":
        raise _forbidden(_MATCH, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"')


def check_watch(query: Mapping[str, str]) -> None:
    """Raise for a watch that cannot be answered."""
    number(query, "timeoutSeconds")
    match, initial = query.get(_MATCH, ""), query.get(_INITIAL, "")
    causes = []
    if match and not initial:
        causes.append(_cause("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"))
    if initial and match != "NotOlderThan":
        causes.append(_cause("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
    if match and match != "NotOlderThan":
        text = f'Unsupported value: {go_value(match)}: supported values: "NotOlderThan"'
        causes.append(Cause("FieldValueNotSupported", text, _MATCH))
    if query.get("continue"):
        causes.append(_cause("resourceVersionMatch is forbidden when continue is provided"))
    if causes:
        raise invalid(_KIND, "meta.k8s.io", "", causes)


def _cause(text: str, field: str = _MATCH) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {text}", field)


def _forbidden(field: str, text: str) -> StatusError:
    return invalid(_KIND, "meta.k8s.io", "", [_cause(text, field)])
