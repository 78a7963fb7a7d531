"""What is special about Leases, Endpoints and Events: completed and checked (pure)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any, Final

from podidentity.lab.kube.errors import Cause
from podidentity.lab.kube.objects import Obj, dig, go_value, meta

_PORTS: Final = 65535
_EVENT_TIMES: Final = ("eventTime", "firstTimestamp", "lastTimestamp")
_EVENT_REPORTERS: Final = ("reportingComponent", "reportingInstance")
_COORDINATED: Final = ("strategy", "preferredHolder")
"""Fields of a feature that is off."""


def _wrong(field: str, value: Any, text: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {go_value(value)}: {text}", field)


def complete_lease(obj: Obj, _old: Obj | None, _now: float) -> None:
    """A Lease has a spec."""
    spec = obj.setdefault("spec", {})
    for name in _COORDINATED:
        spec.pop(name, None)


def lease_faults(obj: Obj, _old: Obj | None) -> Iterator[Cause]:
    """Durations are positive, transitions are counted up."""
    seconds, transitions = dig(obj, "spec", "leaseDurationSeconds"), dig(obj, "spec", "leaseTransitions")
    if seconds is not None and seconds <= 0:
        yield _wrong("spec.leaseDurationSeconds", seconds, "must be greater than 0")
    if transitions is not None and transitions < 0:
        yield _wrong("spec.leaseTransitions", transitions, "must be greater than or equal to 0")


def complete_endpoints(obj: Obj, _old: Obj | None, _now: float) -> None:
    """A port is one of TCP."""
    for subset in obj.get("subsets") or ():
        for port in subset.get("ports") or ():
            port.setdefault("protocol", "TCP")


def endpoints_faults(obj: Obj, _old: Obj | None) -> Iterator[Cause]:
    """Addresses can be reached from other nodes, several ports have names."""
    for number, subset in enumerate(obj.get("subsets") or ()):
        path = f"subsets[{number}]"
        if not (subset.get("addresses") or subset.get("notReadyAddresses")):
            yield Cause("FieldValueRequired", "Required value: must specify `addresses` or `notReadyAddresses`", path)
        for group in ("addresses", "notReadyAddresses"):
            for index, address in enumerate(subset.get(group) or ()):
                yield from _address_faults(str(address.get("ip") or ""), f"{path}.{group}[{index}].ip")
        ports = subset.get("ports") or []
        for index, port in enumerate(ports):
            if len(ports) > 1 and not port.get("name"):
                yield Cause("FieldValueRequired", "Required value", f"{path}.ports[{index}].name")
            if not 0 < (port.get("port") or 0) <= _PORTS:
                text = f"must be between 1 and {_PORTS}, inclusive"
                yield _wrong(f"{path}.ports[{index}].port", port.get("port") or 0, text)


def _address_faults(text: str, path: str) -> Iterator[Cause]:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        yield _wrong(path, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
        return
    if found.is_unspecified:
        yield _wrong(path, text, "may not be unspecified (0.0.0.0 or ::)")
    if found.is_loopback:
        yield _wrong(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)")
    if found.is_link_local:
        yield _wrong(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")


def complete_event(obj: Obj, _old: Obj | None, _now: float) -> None:
    """What an Event does not say is null or empty."""
    for name in _EVENT_TIMES:
        obj.setdefault(name, None)
    obj.setdefault("source", {})
    for name in _EVENT_REPORTERS:
        obj.setdefault(name, "")


def event_faults(obj: Obj, _old: Obj | None) -> Iterator[Cause]:
    """An Event lives in the namespace of its object, or in ``default`` when that has none."""
    home, of = meta(obj).get("namespace"), dig(obj, "involvedObject", "namespace") or ""
    if home != (of or "default"):
        yield _wrong("involvedObject.namespace", of, "does not match event.namespace")
