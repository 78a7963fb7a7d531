"""Reads a cluster for ``podidentity doctor``, and all its rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeVar

from podidentity.api.constants import GROUP
from podidentity.api.meta import KubeObject
from podidentity.api.resources import (
    AZURE_ASSIGNED_IDENTITIES,
    AZURE_IDENTITIES,
    AZURE_IDENTITY_BINDINGS,
    AZURE_POD_IDENTITY_EXCEPTIONS,
    NODES,
    Resource,
)
from podidentity.config.errors import ConfigError
from podidentity.insight import component_rules, object_rules, reach_rules, rights_rules
from podidentity.insight.cluster import Cluster, Crd, EndpointSlice, LockSeen, SeenPod, Service, Told, component
from podidentity.insight.look import Hidden, Look
from podidentity.insight.rbac import GROUP as RBAC
from podidentity.insight.rbac import Role, RoleBinding
from podidentity.kube.records import ENDPOINTS_FORM, LEASE_FORM, Form

T = TypeVar("T", bound=KubeObject)

RULES: Final = (*component_rules.RULES, *object_rules.RULES, *reach_rules.RULES, *rights_rules.RULES)
PORTS: Final = {"mic": 8080, "nmi": 8085}
"""Ports of ``/status`` where the command line names none."""
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


async def read(look: Look, now: float) -> Cluster:
    """Read with the caller's rights; ``now`` is seconds since the epoch. ConfigError: the cluster does not answer."""
    reader = _Reader(look)
    pods = await reader.all_of("pods", _PODS)
    unseen = reader.hidden.get("pods")
    if unseen is not None and not unseen.right:
        raise ConfigError(f"the cluster cannot be read: {unseen.why}")
    known = Cluster(pods=pods)
    mics, nmis = component(known, "mic"), component(known, "nmi")
    cluster = Cluster(
        now=now,
        pods=pods,
        nodes=await reader.all_of("nodes", NODES),
        identities=await reader.all_of("identities", AZURE_IDENTITIES),
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
        hidden=reader.hidden,
    )
    if unseen is not None:
        for name in ("locks", "mic_told", "nmi_told"):
            reader.hidden.setdefault(name, unseen)
    return cluster
