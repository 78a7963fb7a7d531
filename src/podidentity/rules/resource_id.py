"""ARM ids of identities and of the machines that carry them: parsed anchored, compared case-folded.

``parse_identity_id`` and ``parse_provider_id`` answer ``None`` for anything that is not exactly an id, leading or
trailing junk included: such a text must never reach a URL or an ARM body.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

HostKind = Literal["virtualMachines", "virtualMachineScaleSets"]

_SUBSCRIPTION: Final = r"/subscriptions/(?P<subscription>[0-9A-Za-z-]+)"
# Resource groups may hold letters of any script, dots and parentheses, but never end in a dot.
_GROUP: Final = r"/resourcegroups/(?P<group>[-\w.()]*[-\w()])"
_NAME: Final = r"[0-9A-Za-z_](?:[0-9A-Za-z_.-]*[0-9A-Za-z_-])?"

_IDENTITY: Final = re.compile(
    rf"{_SUBSCRIPTION}{_GROUP}/providers/microsoft\.managedidentity/userassignedidentities/(?P<name>{_NAME})",
    re.IGNORECASE,
)
_PROVIDER: Final = re.compile(
    rf"azure://{_SUBSCRIPTION}{_GROUP}/providers/microsoft\.compute/"
    rf"(?:virtualmachines/(?P<vm>{_NAME})"
    rf"|virtualmachinescalesets/(?P<set>{_NAME})/virtualmachines/(?P<instance>{_NAME}))",
    re.IGNORECASE,
)
_HOST: Final = re.compile(
    rf"{_SUBSCRIPTION}{_GROUP}/providers/microsoft\.compute/"
    rf"(?P<kind>virtualmachines|virtualmachinescalesets)/(?P<name>{_NAME})",
    re.IGNORECASE,
)


def fold(text: str) -> str:
    """The form in which ARM ids and client ids are compared everywhere: lower case."""
    return text.lower()


@dataclass(frozen=True, slots=True)
class ResourceId:
    """A user-assigned identity in ARM, its parts as spelled. Compare by ``key``, not by equality."""

    subscription: str
    resource_group: str
    name: str
    provider: str = "Microsoft.ManagedIdentity"
    type: str = "userAssignedIdentities"

    @property
    def key(self) -> str:
        """The full ARM id, case-folded."""
        return fold(self.path)

    @property
    def path(self) -> str:
        """The full ARM id as spelled, with a leading slash."""
        scope = f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
        return f"{scope}/providers/{self.provider}/{self.type}/{self.name}"


@dataclass(frozen=True, slots=True)
class HostId:
    """A machine or a scale set in ARM, its parts as spelled. Compare by ``key``, not by equality."""

    subscription: str
    resource_group: str
    kind: HostKind
    name: str

    @property
    def key(self) -> str:
        """The full ARM id, case-folded, with a leading slash."""
        return fold(self.path)

    @property
    def path(self) -> str:
        """The full ARM id as spelled, with a leading slash."""
        scope = f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
        return f"{scope}/providers/Microsoft.Compute/{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class ProviderId:
    """What a Node's ``spec.providerID`` says; ``instance`` is empty for a machine outside a scale set."""

    host: HostId
    instance: str = ""


def parse_identity_id(text: str) -> ResourceId | None:
    """The user-assigned identity that ``text`` names, or ``None`` when it is not exactly such an ARM id."""
    match = _IDENTITY.fullmatch(text)
    if match is None:
        return None
    return ResourceId(match["subscription"], match["group"], match["name"])


def parse_host_id(text: str) -> HostId | None:
    """The machine or scale set that ``text`` names, or ``None`` when it is not exactly such an ARM id."""
    match = _HOST.fullmatch(text)
    if match is None:
        return None
    return HostId(match["subscription"], match["group"], _kind(match["kind"]), match["name"])


def parse_provider_id(text: str) -> ProviderId | None:
    """The machine behind a Node, or ``None`` when ``text`` is not ``azure://`` followed by exactly an ARM id."""
    match = _PROVIDER.fullmatch(text)
    if match is None:
        return None
    scope = (match["subscription"], match["group"])
    if match["vm"] is not None:
        return ProviderId(HostId(*scope, "virtualMachines", match["vm"]))
    return ProviderId(HostId(*scope, "virtualMachineScaleSets", match["set"]), match["instance"])


def _kind(text: str) -> HostKind:
    return "virtualMachines" if fold(text) == "virtualmachines" else "virtualMachineScaleSets"
