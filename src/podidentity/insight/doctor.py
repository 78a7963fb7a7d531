"""Reads a cluster for ``podidentity doctor``, and all its rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from podidentity.api.constants import GROUP, TYPE_SERVICE_PRINCIPAL_CERTIFICATE, TYPE_USER_ASSIGNED
from podidentity.api.meta import KubeObject
from podidentity.api.resources import (
    AZURE_ASSIGNED_IDENTITIES,
    AZURE_IDENTITIES,
    AZURE_IDENTITY_BINDINGS,
    AZURE_POD_IDENTITY_EXCEPTIONS,
    NODES,
    SECRETS,
    Resource,
)
from podidentity.azure.certificate import CertificateError, load_certificate
from podidentity.config.errors import ConfigError
from podidentity.insight import component_rules, object_rules, reach_rules, rights_rules, secret_rules
from podidentity.insight.cluster import (
    Cluster,
    Crd,
    EndpointSlice,
    LockSeen,
    SecretSeen,
    SeenPod,
    Service,
    Told,
    component,
)
from podidentity.insight.look import Hidden, Look
from podidentity.insight.rbac import GROUP as RBAC
from podidentity.insight.rbac import Role, RoleBinding
from podidentity.kube.records import ENDPOINTS_FORM, LEASE_FORM, Form

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from podidentity.api.core import Secret
    from podidentity.api.identity import AzureIdentity

T = TypeVar("T", bound=KubeObject)

RULES: Final = (
    *component_rules.RULES,
    *object_rules.RULES,
    *secret_rules.RULES,
    *reach_rules.RULES,
    *rights_rules.RULES,
)
PORTS: Final = {"mic": 8080, "nmi": 8085}
"""Ports of ``/status`` where the command line names none."""
PASSWORD_KEYS: Final = ("clientSecret", "client-secret", "client_secret", "password")
FILE_KEYS: Final = ("certificate", "tls.crt")
"""Keys of a Secret that nmi looks for, in this order."""
LOCK: Final = "aad-pod-identity-mic"
_PODS: Final = Resource("", "v1", "pods", "Pod", SeenPod)
_CRDS: Final = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", Crd, namespaced=False
)

_ROLES: Final = Resource(RBAC, "v1", "roles", "Role", Role)
_CLUSTER_ROLES: Final = Resource(RBAC, "v1", "clusterroles", "ClusterRole", Role, namespaced=False)
_BINDINGS: Final = Resource(RBAC, "v1", "rolebindings", "RoleBinding", RoleBinding)
_CLUSTER_BINDINGS: Final = Resource(
    RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", RoleBinding, namespaced=False
)
_SERVICES: Final = Resource("", "v1", "services", "Service", Service)
_SLICES: Final = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", EndpointSlice)


@dataclass(slots=True)
class _Reader:
    """Reads, and keeps what could not be read by the field's name."""

    look: Look
    hidden: dict[str, Hidden] = field(default_factory=dict)

    async def all_of(self, name: str, resource: Resource[T]) -> tuple[T, ...]:
        found = await self.look.listed(resource)
        if isinstance(found, Hidden):
            self.hidden[name] = found
            return ()
        return found

    async def crds(self) -> tuple[Crd, ...]:
        there = []
        for kind in component_rules.KINDS:
            found = await self.look.got(_CRDS, f"{kind}.{GROUP}")
            if isinstance(found, Hidden):
                self.hidden["crds"] = found
                return ()
            there += [found] if found else []
        return tuple(there)

    async def secrets(self, identities: Iterable[AzureIdentity]) -> tuple[SecretSeen, ...]:
        if "identities" in self.hidden:
            self.hidden["secrets"] = self.hidden["identities"]
        found = await secrets_seen(self.look, identities)
        if isinstance(found, Hidden):
            self.hidden["secrets"] = found
            return ()
        return found

    async def lock(self, form: Form[T], mics: tuple[SeenPod, ...]) -> tuple[LockSeen, ...]:
        mic = mics[0] if mics else SeenPod()
        space, name = mic.flag("leader-election-namespace", "default"), mic.flag("leader-election-name", LOCK)
        found = await self.look.got(form.resource, name, space)
        if isinstance(found, Hidden):
            self.hidden["locks"] = found
            return ()
        return (LockSeen(form.resource.plural, f"{space}/{name}", form.read(found) if found else None),)

    async def told(self, name: str, pods: tuple[SeenPod, ...]) -> tuple[Told, ...]:
        """What the pods tell; hidden only when none of them tells anything."""
        found, silent = [], None
        for pod in pods:
            port = pod.flag("http-probe-port")
            said = await self.look.status_of(
                pod.name, pod.namespace, int(port) if port.isdecimal() else PORTS[pod.component]
            )
            if isinstance(said, Hidden):
                silent = said
                if said.right:
                    break
            else:
                found.append(Told(pod, said))
        if silent is not None and not found:
            self.hidden[name] = silent
        return tuple(found)


class Shelf(Protocol):
    """Reads one object, as ``Look`` does."""

    async def got(self, resource: Resource[T], name: str, namespace: str = "") -> T | Hidden | None:
        """One object; None when it is not there."""


async def secrets_seen(shelf: Shelf, identities: Iterable[AzureIdentity]) -> tuple[SecretSeen, ...] | Hidden:
    """Look at the Secrets that service principals name; Hidden when one may not be read."""
    found = []
    for one in identities:
        named = one.spec.client_password
        if one.spec.type == TYPE_USER_ASSIGNED or not named.name:
            continue
        space = named.namespace or one.namespace
        secret = await shelf.got(SECRETS, named.name, space)
        if isinstance(secret, Hidden):
            return secret
        file = one.spec.type == TYPE_SERVICE_PRINCIPAL_CERTIFICATE
        trouble, end = await _opened(secret, file=file)
        found.append(SecretSeen(f"{space}/{named.name}", one.key, trouble, end))
    return tuple(found)


async def _opened(secret: Secret | None, *, file: bool) -> tuple[str, float | None]:
    """Why it gives no token, and its certificate's end."""
    if secret is None:
        return "is not there", None
    keys = FILE_KEYS if file else PASSWORD_KEYS
    content = _first(secret.data, keys)
    if not content:
        return f"has none of the keys {', '.join(keys)}", None
    if not file:
        return "", None
    try:
        opened = await load_certificate(content, secret.data.get("password", b"").strip(b"\r\n"))
    except CertificateError as error:
        return f"cannot be opened: {error}", None
    return "", opened.chain[0].not_valid_after_utc.timestamp()


def _first(data: Mapping[str, bytes], keys: Iterable[str]) -> bytes:
    """The value of the first key that is there; of a Secret with one key, that one's, as nmi takes it."""
    names = tuple(data) if len(data) == 1 else keys
    return next((data[key] for key in names if data.get(key)), b"")


async def read(look: Look, now: float) -> Cluster:
    """Read with the caller's rights; ``now`` is seconds since the epoch. ConfigError: the cluster does not answer."""
    reader = _Reader(look)
    pods = await reader.all_of("pods", _PODS)
    unseen = reader.hidden.get("pods")
    if unseen is not None and not unseen.right:
        raise ConfigError(f"the cluster cannot be read: {unseen.why}")
    known = Cluster(pods=pods)
    identities = await reader.all_of("identities", AZURE_IDENTITIES)
    mics, nmis = component(known, "mic"), component(known, "nmi")
    cluster = Cluster(
        now=now,
        pods=pods,
        nodes=await reader.all_of("nodes", NODES),
        identities=identities,
        bindings=await reader.all_of("bindings", AZURE_IDENTITY_BINDINGS),
        assigned=await reader.all_of("assigned", AZURE_ASSIGNED_IDENTITIES),
        exceptions=await reader.all_of("exceptions", AZURE_POD_IDENTITY_EXCEPTIONS),
        crds=await reader.crds(),
        locks=(*await reader.lock(LEASE_FORM, mics), *await reader.lock(ENDPOINTS_FORM, mics)),
        mic_told=await reader.told("mic_told", mics),
        nmi_told=await reader.told("nmi_told", nmis),
        roles=(*await reader.all_of("roles", _ROLES), *await reader.all_of("roles", _CLUSTER_ROLES)),
        role_bindings=(
            *await reader.all_of("role_bindings", _BINDINGS),
            *await reader.all_of("role_bindings", _CLUSTER_BINDINGS),
        ),
        services=await reader.all_of("services", _SERVICES),
        slices=await reader.all_of("slices", _SLICES),
        secrets=await reader.secrets(identities),
        hidden=reader.hidden,
    )
    if unseen is not None:
        for name in ("locks", "mic_told", "nmi_told"):
            reader.hidden.setdefault(name, unseen)
    return cluster
