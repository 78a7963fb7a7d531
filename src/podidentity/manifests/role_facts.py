"""What each source says of a cluster, as far as roles go: terraform's outputs, ``az``, azure.json, options. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from podidentity.config.errors import ConfigError
from podidentity.manifests.az_identities import read_identities
from podidentity.manifests.terraform import grouped, identities_in
from podidentity.manifests.terraform_text import decoded, read_values
from podidentity.rules.resource_id import ResourceId, parse_identity_id
from podidentity.rules.role_needs import Facts, Principal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from podidentity.azure.config import AzureConfig

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_GROUP: Final = re.compile(r"[-\w.()]{0,89}[-\w()]")
_CLUSTER: Final = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)/resourcegroups/[^/]+/providers/microsoft\.containerservice/"
    r"managedclusters/[^/]+",
    re.IGNORECASE,
)
_MANAGED: Final = "msi"


@dataclass(frozen=True, slots=True)
class SignIn:
    """Who mic signs in as: by object id, else by client id; with neither it is each machine's own identity."""

    who: str
    object_id: str = ""
    client_id: str = ""
    service_principal: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """What one source says; a field is empty where it says nothing. ``control_plane_id`` is an object id.

    ``kubelet_id`` is the ARM id of the kubelet's identity: it is on the nodes already, pods do not use it.
    """

    subscription: str = ""
    node_group: str = ""
    sign_in: SignIn | None = None
    kubelet_id: str = ""
    control_plane_id: str = ""
    identities: tuple[str, ...] = ()


def from_terraform(text: bytes) -> Said:
    """Read ``terraform output``, with ``-json`` or without. Found by shape: names are their author's."""
    outputs = read_values(text)
    said = Said(identities=tuple(one.resource_id for one in identities_in(outputs)))
    for found in (*_scalars(outputs), *(_object(one) for one in _objects(outputs))):
        said = joined(said, found)
    return said


def from_aks(text: bytes) -> Said:
    """Read ``az aks show -o json``. Raises ConfigError."""
    try:
        cluster = msgspec.json.decode(decoded(text).encode(), type=_Aks)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"not the JSON of `az aks show -o json`: {error}") from error
    match = _CLUSTER.fullmatch(cluster.id)
    if match is None:
        raise ConfigError('not the JSON of `az aks show -o json`: "id" is no managed cluster')
    said = Said(
        subscription=match["subscription"],
        node_group=cluster.node_resource_group or "",
        control_plane_id=(cluster.identity and cluster.identity.principal_id) or "",
    )
    kubelet = (cluster.identity_profile or {}).get("kubeletidentity")
    if kubelet is not None:
        return joined(said, _kubelet(kubelet.object_id, kubelet.client_id, kubelet.resource_id))
    application = cluster.service_principal_profile.client_id if cluster.service_principal_profile else ""
    if application and application != _MANAGED:
        return joined(said, Said(sign_in=_application(application)))
    return said


def from_azure_json(config: AzureConfig) -> Said:
    """Read who mic signs in as from azure.json; it has client ids only."""
    if not config.use_managed_identity:
        sign_in = _application(config.client_id)
    elif config.user_assigned_identity_id:
        sign_in = SignIn("the nodes' identity", client_id=config.user_assigned_identity_id)
    else:
        sign_in = SignIn("each machine's own identity")
    return Said(config.subscription_id, config.resource_group, sign_in)


def from_identities(text: bytes) -> Said:
    """Read ``az identity list -o json``. Raises ConfigError."""
    return Said(identities=tuple(one.resource_id for one in read_identities(text)))


def joined(first: Said, second: Said) -> Said:
    """Both: what the first says counts, and the second where it says nothing; the identities of both."""
    identities = {one.lower(): one for one in (*reversed(second.identities), *reversed(first.identities))}
    return Said(
        first.subscription or second.subscription,
        first.node_group or second.node_group,
        _signing_in(first.sign_in, second.sign_in),
        first.kubelet_id or second.kubelet_id,
        first.control_plane_id or second.control_plane_id,
        tuple(reversed(identities.values())),
    )


def _signing_in(first: SignIn | None, second: SignIn | None) -> SignIn | None:
    """The first, unless the second is the same one and knows its object id."""
    if first is None or second is None:
        return first or second
    same = first.client_id.lower() == second.client_id.lower() != ""
    return second if same and not first.object_id else first


def _application(client_id: str) -> SignIn:
    return SignIn("service principal", client_id=client_id, service_principal=True)


def facts(said: Said, principals: tuple[Principal, ...]) -> Facts:
    """What the roles are worked out from. Raises ConfigError for what is missing, with the option that gives it."""
    for what, value, shape, option in (
        ("subscription", said.subscription, _UUID, "--subscription"),
        ("nodes' resource group", said.node_group, _GROUP, "--node-group"),
    ):
        if not value:
            raise ConfigError(f"the {what} is not known; give it with {option}, or a file that says it")
        if not shape.fullmatch(value):
            raise ConfigError(f'{what} "{_line(value)}": is not one; see {option}')
    for principal in principals:
        _uuid("object id", principal.object_id)
    control = Principal(said.control_plane_id, "control plane identity") if said.control_plane_id else None
    if control is not None:
        _uuid("object id", control.object_id)
    mine = said.kubelet_id.lower()
    identities = tuple(_identity(one) for one in said.identities if one.lower() != mine)
    return Facts(principals, said.subscription, said.node_group, identities, control)


def _identity(text: str) -> ResourceId:
    found = parse_identity_id(text)
    if found is None:
        raise ConfigError(
            f'identity "{_line(text)}": must be /subscriptions/<id>/resourceGroups/<group>/providers/'
            "Microsoft.ManagedIdentity/userAssignedIdentities/<name>"
        )
    return found


def _uuid(what: str, value: str) -> None:
    if not _UUID.fullmatch(value):
        raise ConfigError(f'{what} "{_line(value)}": must be a UUID such as 00000000-0000-0000-0000-000000000000')


def _line(text: str) -> str:
    return " ".join(text.split())[:120]


def _kubelet(object_id: str, client_id: str, arm_id: str) -> Said:
    """The kubelet's identity; in its group are the nodes too, unless AKS was given one that is made elsewhere."""
    parsed = parse_identity_id(arm_id)
    if parsed is None:
        return Said()
    group = parsed.resource_group if parsed.name.endswith("-agentpool") else ""
    return Said(
        subscription=parsed.subscription,
        node_group=group,
        sign_in=SignIn(f"kubelet identity {parsed.name}", object_id, client_id),
        kubelet_id=arm_id,
    )


def _scalars(outputs: Mapping[str, object]) -> Iterator[Said]:
    """What outputs of plain text say: ``..._ObjectId`` with ``..._Id``, ``NodeRG``, the cluster's id."""
    for name, value in outputs.items():
        if isinstance(value, str) and name.rpartition("_")[2] == "NodeRG":
            yield Said(node_group=value)
        if isinstance(value, str) and (match := _CLUSTER.fullmatch(value)):
            yield Said(subscription=match["subscription"])
    for group in grouped(outputs).values():
        if "ObjectId" in group:
            yield _kubelet(group["ObjectId"], group.get("ClientId", ""), group.get("Id", ""))
        elif "PrincipalId" in group and "ClientId" not in group and "TenantId" in group:
            yield Said(control_plane_id=group["PrincipalId"])


def _objects(value: object, depth: int = 0) -> Iterator[Mapping[str, object]]:
    """Every object among the values, however deep (within reason)."""
    if depth > 50:  # noqa: PLR2004 - no state is nested like that
        return
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(item, depth + 1)


def _object(found: Mapping[str, object]) -> Said:
    """What a block of an AKS cluster says: itself, ``kubelet_identity``, ``identity``."""

    def text(name: str) -> str:
        value = found.get(name)
        return value if isinstance(value, str) else ""

    if text("object_id") and text("user_assigned_identity_id"):
        return _kubelet(text("object_id"), text("client_id"), text("user_assigned_identity_id"))
    if text("principal_id") and text("type") in {"SystemAssigned", "UserAssigned"}:
        return Said(control_plane_id=text("principal_id"))
    if text("node_resource_group"):
        return Said(node_group=text("node_resource_group"))
    return Said()


class _AksIdentity(msgspec.Struct, frozen=True, rename="camel"):
    client_id: str = ""
    object_id: str = ""
    resource_id: str = ""


class _AksControl(msgspec.Struct, frozen=True, rename="camel"):
    principal_id: str | None = None


class _AksPrincipal(msgspec.Struct, frozen=True, rename="camel"):
    client_id: str = ""


class _Aks(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    node_resource_group: str | None = None
    identity: _AksControl | None = None
    identity_profile: dict[str, _AksIdentity] | None = None
    service_principal_profile: _AksPrincipal | None = None
