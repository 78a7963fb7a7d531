"""What a request says, judged before anything is looked up (pure): query, headers, source."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from podidentity.api.core import Pod
from podidentity.api.identity import AzureIdentity
from podidentity.rules.identity_choice import ANY, Named

MAX_VALUE_CHARACTERS: Final = 1024
MAX_PARAMETERS: Final = 32

_IDENTITY_NAMES: Final = {
    "client_id": "client_id",
    "object_id": "object_id",
    "msi_res_id": "resource_id",
    "mi_res_id": "resource_id",
}


@dataclass(frozen=True, slots=True)
class TokenQuery:
    """What a token request asks for. With ``refusal`` set, the other fields mean nothing.

    ``bypass``: the caller has seen the token that is kept, and it will not do.
    """

    resource: str = ""
    named: Named = ANY
    refusal: str = ""
    bypass: bool = False


class Headers:
    """The few request headers that matter, filled while parsing; all others are dropped.

    A name that comes twice is noted in ``repeated``. Values are as sent, without surrounding blanks.
    """

    __slots__ = ("authorization", "browser", "host", "metadata", "pod_name", "pod_namespace", "repeated", "via")

    def __init__(self) -> None:
        self.authorization: str | None = None
        self.browser = ""
        self.host: str | None = None
        self.metadata: str | None = None
        self.pod_name: str | None = None
        self.pod_namespace: str | None = None
        self.repeated = ""
        self.via = ""

    def add(self, name: bytes, value: bytes) -> None:
        """Take one header line of the parser."""
        slot = _SLOTS.get(name.lower())
        if slot is None:
            return
        text = value.decode("latin-1").strip(" \t")
        if slot == "via":
            self.via = name.decode("latin-1")
        elif slot == "browser":
            self.browser = self.browser or name.decode("latin-1")
        elif getattr(self, slot) is not None:
            self.repeated = name.decode("latin-1")
        else:
            setattr(self, slot, text)


_SLOTS: Final = {
    b"authorization": "authorization",
    b"host": "host",
    b"metadata": "metadata",
    b"origin": "browser",
    b"sec-fetch-site": "browser",
    b"podname": "pod_name",
    b"podns": "pod_namespace",
    b"x-forwarded-for": "via",
    b"forwarded": "via",
}

METADATA_MISSING: Final = "Required metadata header not specified"
RESOURCE_MISSING: Final = "Required query variable 'resource' is missing: parameter resource cannot be empty"


def parse_query(raw: str) -> TokenQuery:
    """Parse the raw query string of a token request; never raises.

    Names are case-insensitive, so that no spelling of ``client_id`` is silently ignored; a name that comes twice,
    more than one way to name the identity, and values that are too long, not UTF-8 or have control characters are
    refused. Empty values count as absent. ``api-version``, ``bypass_cache`` and unknown names are ignored.
    """
    seen: set[str] = set()
    values: dict[str, str] = {}
    parts = [part for part in raw.split("&") if part]
    if len(parts) > MAX_PARAMETERS:
        return TokenQuery(refusal="too many query variables")
    for part in parts:
        name, _, value = part.partition("=")
        key = _decode(name)
        text = _decode(value)
        if key is None or text is None:
            return TokenQuery(refusal="query variable is too long, not UTF-8 or has control characters")
        key = key.casefold()
        if key in seen:
            return TokenQuery(refusal=f"query variable '{key[:64]}' is specified more than once")
        seen.add(key)
        if text:
            values[key] = text
    return _query_of(values)


def _query_of(values: dict[str, str]) -> TokenQuery:
    names = [name for name in _IDENTITY_NAMES if name in values]
    if len(names) > 1:
        return TokenQuery(refusal=f"{', '.join(names)} are mutually exclusive: name the identity in one way")
    resource = values.get("resource", "")
    if not resource:
        return TokenQuery(refusal=RESOURCE_MISSING)
    named = Named(**{_IDENTITY_NAMES[name]: values[name] for name in names})
    return TokenQuery(resource, named, bypass=values.get("bypass_cache", "").casefold() == "true")


def _decode(text: str) -> str | None:
    """Percent-decode one name or value; None when it is not acceptable text."""
    if len(text) > 3 * MAX_VALUE_CHARACTERS:
        return None
    try:
        decoded = unquote_to_bytes(text.replace("+", " ")).decode("utf-8")
    except UnicodeDecodeError:
        return None
    if len(decoded) > MAX_VALUE_CHARACTERS or not decoded.isprintable():
        return None
    return decoded


def refusal_of_headers(  # noqa: PLR0911 - a list of checks
    headers: Headers, *, hosts: Collection[str], metadata_required: bool, http10: bool = False
) -> str:
    """Return why the headers are refused (the error description), or ``""`` when they are in order.

    ``Origin`` and ``Sec-Fetch-Site`` are a browser's, which asks for a page it was given. ``hosts`` holds the
    lower-case names a request may be sent to, without port: any other name may be a rebound one, an address is not. A
    missing ``Host`` is accepted from HTTP/1.0 only.
    """
    if headers.repeated:
        return f"header {headers.repeated} is specified more than once"
    if metadata_required and headers.metadata != "true":
        return METADATA_MISSING
    if headers.via:
        return f"header {headers.via} is not allowed"
    if headers.browser:
        return f"header {headers.browser} is not allowed"
    host = headers.host
    if host is None:
        return "" if http10 else "header Host is missing"
    if host in hosts or _is_ours(host, hosts):
        return ""
    return "header Host names another host"


def _is_ours(host: str, hosts: Collection[str]) -> bool:
    """Whether ``name[:port]`` or ``[v6][:port]`` is an address, or one of ``hosts``."""
    name, sep, port = host.rpartition(":")
    if host.endswith("]") or not sep:
        name = host
    elif not (port.isascii() and port.isdigit() and len(port) <= 5):  # noqa: PLR2004 - digits of 65535
        return False
    try:
        if name.startswith("[") and name.endswith("]"):
            return ipaddress.IPv6Address(name[1:-1]).scope_id is None
        return name.lower() in hosts or bool(ipaddress.IPv4Address(name))
    except ValueError:
        return False


UNIX: Final = "unix"
"""Stands for the address of a client of the Unix socket."""


def is_loopback(address: str) -> bool:
    """Whether ``address`` (as ``normal_address`` returns it) is the node's own loopback, or its Unix socket."""
    return address in ("::1", UNIX) or address.startswith("127.")


def normal_address(address: str) -> str:
    """Return a socket's peer address without scope id; an IPv4 address mapped into IPv6 becomes plain IPv4."""
    address = address.partition("%")[0]
    return address[7:] if address.startswith("::ffff:") and "." in address else address


@dataclass(frozen=True, slots=True)
class Link:
    """The two ends of a connection from this machine: addresses and ports, or a Unix socket."""

    peer: str = ""
    peer_port: int = 0
    local: str = ""
    local_port: int = 0
    unix: bool = False


class Pin:
    """Whose a connection is, for as long as it lasts: the pod that had its address when it was opened.

    Where that was not known yet, it is the pod its first request was matched with.

    ``link``: its ends, where they are on this machine; ``interface``: the one it came in by (``interfaces``).
    """

    __slots__ = ("interface", "link", "uid")

    def __init__(self) -> None:
        self.uid = ""
        self.interface = 0
        self.link: Link | None = None

    @property
    def unproven(self) -> int:
        """Return the interface that a pod has to be found behind, 0 once it is known whose the connection is."""
        return 0 if self.uid else self.interface

    def holds(self, uid: str) -> bool:
        """Whether a request of the pod ``uid`` may come this way."""
        if not self.uid:
            self.uid = uid
        return self.uid == uid


class Request:
    """One parsed request. ``peer`` is the normalised source address.

    Filled on the way: ``route``, ``resource``, ``pod`` (its key), and for the audit ``caller``, ``identity``, ``rule``
    (``verdict.RULES``) and ``proof`` (who asked for a pod, if not the pod itself).
    """

    __slots__ = (
        "caller",
        "headers",
        "http10",
        "identity",
        "keep_alive",
        "method",
        "peer",
        "pin",
        "pod",
        "proof",
        "resource",
        "route",
        "rule",
        "target",
    )

    def __init__(
        self,
        method: str,
        target: bytes,
        headers: Headers,
        peer: str,
        *,
        http10: bool = False,
        keep_alive: bool = True,
        pin: Pin | None = None,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.peer = peer
        self.http10 = http10
        self.keep_alive = keep_alive
        self.pin = pin or Pin()
        self.pod = ""
        self.resource = ""
        self.route = ""
        self.caller: Pod | None = None
        self.identity: AzureIdentity | None = None
        self.rule = ""
        self.proof = ""
