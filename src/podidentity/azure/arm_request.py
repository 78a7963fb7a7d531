"""ARM compute, the pure half: addresses, bodies, answers and the course of a long-running operation. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote, urlsplit

import msgspec

from podidentity.azure.arm_errors import operation_error
from podidentity.azure.errors import AzureUnavailable
from podidentity.rules.resource_id import HostId, fold

if TYPE_CHECKING:
    from collections.abc import Mapping

API_VERSION: Final = "2019-12-01"
"""What the original asks for, and with it all that its identities need."""
FIRST_POLL: Final = 0.1
"""Seconds before the first poll when ARM names no time; doubled each time up to LONGEST_POLL."""
LONGEST_POLL: Final = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class UserAssigned:
    """A user-assigned identity as ARM lists it on a host; ``resource_id`` in ARM's spelling."""

    resource_id: str
    client_id: str
    principal_id: str

    @property
    def complete(self) -> bool:
        """Whether ARM knows whose it is: not yet right after it was attached, never again when it was created anew."""
        return bool(self.client_id and self.principal_id)


@dataclass(frozen=True)
class HostIdentities:
    """What a host has. ``user_assigned`` is keyed by folded resource id; ``type`` is empty when there is none."""

    type: str = ""
    user_assigned: Mapping[str, UserAssigned] = field(default_factory=dict)
    provisioning_state: str = ""
    location: str = ""
    system_principal_id: str = ""

    @property
    def updating(self) -> bool:
        """Whether somebody's change of the host is under way."""
        return fold(self.provisioning_state) == "updating"


@dataclass(frozen=True)
class IdentityPatch:
    """One change: the resulting ``type``, ids to add and ids to remove."""

    type: str
    add: frozenset[str] = frozenset()
    remove: frozenset[str] = frozenset()


class _UserAssigned(msgspec.Struct, frozen=True, rename="camel"):
    client_id: str | None = None
    principal_id: str | None = None


class _Identity(msgspec.Struct, frozen=True, rename="camel"):
    type: str | None = None
    principal_id: str | None = None
    user_assigned_identities: dict[str, _UserAssigned | None] | None = None


class _Properties(msgspec.Struct, frozen=True, rename="camel"):
    provisioning_state: str | None = None


class _Host(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    location: str | None = None
    identity: _Identity | None = None
    properties: _Properties | None = None


class _Operation(msgspec.Struct, frozen=True, rename="camel"):
    status: str | None = None
    properties: _Properties | None = None


def operation_type(host: HostId, verb: Literal["get", "update"]) -> str:
    """The metric's word: ``vm_get``, ``vm_update``, ``vmss_get`` or ``vmss_update``."""
    return f"{'vm' if host.kind == 'virtualMachines' else 'vmss'}_{verb}"


def host_url(base_url: str, host: HostId, api_version: str = API_VERSION) -> str:
    """The address of a VM or scale set. ``base_url`` has no trailing slash."""
    path = quote("/" + host.path.lstrip("/"), safe="/()._-~")
    return f"{base_url}{path}?api-version={api_version}"


def patch_body(patch: IdentityPatch) -> bytes:
    """The JSON of a PATCH: ``{}`` adds, ``null`` removes; no map unless the type includes user-assigned ones."""
    identity: dict[str, object] = {"type": patch.type}
    if "userassigned" in patch.type.lower():
        identity["userAssignedIdentities"] = {
            **{key: {} for key in sorted(patch.add)},
            **dict.fromkeys(sorted(patch.remove - patch.add)),
        }
    return msgspec.json.encode({"identity": identity})


def parse_host(body: bytes) -> HostIdentities:
    """Read the answer to a GET. Raises AzureUnavailable when it is not what ARM sends."""
    try:
        host = msgspec.json.decode(body, type=_Host)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AzureUnavailable(f"ARM's answer is not a machine or scale set ({error})") from error
    identity = host.identity or _Identity()
    found = {
        fold(key): UserAssigned(
            resource_id=key,
            client_id=(value and value.client_id) or "",
            principal_id=(value and value.principal_id) or "",
        )
        for key, value in (identity.user_assigned_identities or {}).items()
    }
    return HostIdentities(
        type=identity.type or "",
        user_assigned=found,
        provisioning_state=(host.properties and host.properties.provisioning_state) or "",
        location=host.location or "",
        system_principal_id=identity.principal_id or "",
    )


@dataclass(frozen=True)
class Progress:
    """Where a long-running operation stands: poll ``url`` after ``delay`` seconds, or ``done``."""

    done: bool
    url: str = ""
    delay: float = 0.0
    next_delay: float = FIRST_POLL


DONE: Final = Progress(done=True)


def started(
    status: int, headers: Mapping[str, str], body: bytes, *, resource_url: str, retry_after: float | None
) -> Progress:
    """How to follow the answer to a PATCH.

    200: done unless the state says otherwise. 204: done. Else the operation that ARM names is polled: it has a budget
    of its own (15 a minute a resource), a GET of the host counts against the 12 a minute that mic needs. Without one,
    after 200 and 201 the resource itself, after 202 the location. Raises OperationFailed, AzureUnavailable.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    operation, location = lower.get("azure-asyncoperation", ""), lower.get("location", "")
    if status == HTTPStatus.NO_CONTENT or (status == HTTPStatus.OK and _ended(_state(body), body)):
        return DONE
    url = operation or (location if status == HTTPStatus.ACCEPTED else resource_url)
    if not url:
        raise AzureUnavailable("ARM accepted the change (202) but named no operation to follow")
    return Progress(done=False, url=url, delay=FIRST_POLL if retry_after is None else retry_after)


def advanced(progress: Progress, status: int, body: bytes, retry_after: float | None) -> Progress:
    """What a poll's answer (2xx) means. Raises OperationFailed when the operation failed, AzureUnavailable if unread.

    202 means still running whatever the body says; 204 done; otherwise the body's status or provisioning state.
    """
    if status == HTTPStatus.NO_CONTENT:
        return DONE
    if status != HTTPStatus.ACCEPTED and _ended(_state(body), body):
        return DONE
    delay = progress.next_delay if retry_after is None else retry_after
    return replace(progress, delay=delay, next_delay=min(progress.next_delay * 2, LONGEST_POLL))


def same_origin(url: str, allowed: str) -> bool:
    """Whether ``url`` is at the scheme, host and port of ``allowed``: tokens go nowhere else."""
    one, other = urlsplit(url), urlsplit(allowed)
    return (one.scheme, one.netloc.lower()) == (other.scheme, other.netloc.lower()) and bool(one.netloc)


def _state(body: bytes) -> str:
    if not body.strip():
        return ""
    try:
        answer = msgspec.json.decode(body, type=_Operation)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AzureUnavailable(f"ARM's answer about the operation cannot be read ({error})") from error
    return (answer.status or (answer.properties and answer.properties.provisioning_state) or "").lower()


def _ended(state: str, body: bytes) -> bool:
    """Whether a state is final; an absent one is. Raises OperationFailed for Failed and Canceled."""
    if state in {"failed", "canceled", "cancelled"}:
        raise operation_error(state.capitalize(), body)
    return state in {"", "succeeded"}
