"""A whole cluster as ``podidentity doctor`` sees it: frozen, read once. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec

from podidentity.api.core import Node, Pod, PodSpec, PodStatus
from podidentity.api.identity import (
    AzureAssignedIdentity,
    AzureIdentity,
    AzureIdentityBinding,
    AzurePodIdentityException,
)
from podidentity.api.meta import KubeObject, Struct
from podidentity.insight.look import Document, Hidden
from podidentity.insight.rbac import Role, RoleBinding
from podidentity.kube.records import Record
from podidentity.rules.selection import TERMINAL_PHASES

LABELS: Final = ("component", "app.kubernetes.io/component")
"""Labels by which the shipped manifests and the chart, the original's too, tell ``mic`` and ``nmi``."""
_FALSE: Final = frozenset({"false", "f", "0", "off"})


class EnvVar(Struct, frozen=True):
    """One entry of ``env``."""

    name: str = ""
    value: str = ""


class Capabilities(Struct, frozen=True):
    """``securityContext.capabilities``."""

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class SecurityContext(Struct, frozen=True):
    """``securityContext`` of a container."""

    privileged: bool | None = None
    capabilities: Capabilities | None = None


class Container(Struct, frozen=True):
    """One container of a pod."""

    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    security_context: SecurityContext | None = None

    @property
    def net_raw(self) -> bool:
        """Whether it may send packets of its own making: container runtimes allow that unless told otherwise."""
        context = self.security_context or SecurityContext()
        capabilities = context.capabilities or Capabilities()
        added, dropped = set(capabilities.add), set(capabilities.drop)
        return bool(context.privileged) or bool(added & {"ALL", "NET_RAW"}) or not dropped & {"ALL", "NET_RAW"}


class HostPath(Struct, frozen=True):
    """``hostPath`` of a volume."""

    path: str = ""


class Volume(Struct, frozen=True):
    """One entry of ``spec.volumes``."""

    host_path: HostPath | None = None


class SeenPodSpec(PodSpec, frozen=True):
    """The part of ``spec`` that rules look at."""

    containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()


class Condition(Struct, frozen=True):
    """One entry of ``status.conditions``."""

    type: str = ""
    status: str = ""


class SeenPodStatus(PodStatus, frozen=True):
    """The part of ``status`` that rules look at."""

    conditions: tuple[Condition, ...] = ()


class SeenPod(Pod, frozen=True):
    """A pod with what rules look at."""

    spec: SeenPodSpec = SeenPodSpec()
    status: SeenPodStatus = SeenPodStatus()

    @property
    def component(self) -> str:
        """Its component by its labels: ``mic``, ``nmi``, or something else."""
        labels = self.metadata.labels
        return next((labels[one] for one in LABELS if labels.get(one) in {"mic", "nmi"}), "")

    @property
    def ready(self) -> bool:
        """Whether its Ready condition holds."""
        return any((one.type, one.status) == ("Ready", "True") for one in self.status.conditions)

    @property
    def owner(self) -> str:
        """What made it: namespace, and the name of its Deployment or DaemonSet as far as names tell."""
        made = next((one for one in self.metadata.owner_references if one.controller), None)
        if made is None:
            return self.key
        name = made.name.rpartition("-")[0] if made.kind == "ReplicaSet" else made.name
        return f"{self.namespace}/{name}"

    @property
    def image(self) -> str:
        """The image of its first container."""
        return self.spec.containers[0].image if self.spec.containers else ""

    def flag(self, name: str, default: str = "") -> str:
        """The value a flag has in its command lines, ``true`` for one without a value, else ``default``."""
        for container in self.spec.containers:
            words = [*container.command, *container.args]
            for number, word in enumerate(words):
                given, equals, value = word.lstrip("-").partition("=")
                if not word.startswith("-") or given != name:
                    continue
                following = "".join(words[number + 1 : number + 2])
                return value if equals else "true" if following.startswith("-") or not following else following
        return default

    def switch(self, name: str, *, default: bool = False) -> bool:
        """Whether a boolean flag is on."""
        given = self.flag(name)
        return default if not given else given.lower() not in _FALSE

    @property
    def namespaced(self) -> bool:
        """Of a component: whether every identity is for its own namespace only."""
        env = {(one.name, one.value) for container in self.spec.containers for one in container.env}
        return self.switch("forceNamespaced") or ("FORCENAMESPACED", "true") in env


class CrdVersion(Struct, frozen=True):
    """One entry of ``spec.versions`` of a CustomResourceDefinition."""

    name: str = ""
    served: bool = False


class CrdSpec(Struct, frozen=True):
    """``spec`` of a CustomResourceDefinition."""

    versions: tuple[CrdVersion, ...] = ()


class Crd(KubeObject, frozen=True):
    """apiextensions.k8s.io/v1 CustomResourceDefinition."""

    spec: CrdSpec = CrdSpec()


class Ingress(Struct, frozen=True):
    """One address of a load balancer."""

    ip: str = ""


class LoadBalancer(Struct, frozen=True):
    """``status.loadBalancer``."""

    ingress: tuple[Ingress, ...] | None = None


class ServiceStatus(Struct, frozen=True):
    """``status`` of a Service."""

    load_balancer: LoadBalancer = LoadBalancer()


class ServiceSpec(Struct, frozen=True):
    """``spec`` of a Service."""

    external_ips: tuple[str, ...] = msgspec.field(default=(), name="externalIPs")
    load_balancer_ip: str = msgspec.field(default="", name="loadBalancerIP")


class Service(KubeObject, frozen=True):
    """core/v1 Service."""

    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()

    @property
    def addresses(self) -> frozenset[str]:
        """The addresses from outside that it answers at."""
        balanced = (one.ip for one in self.status.load_balancer.ingress or ())
        return frozenset((*self.spec.external_ips, self.spec.load_balancer_ip, *balanced)) - {""}


class Endpoint(Struct, frozen=True):
    """One entry of ``endpoints``."""

    addresses: tuple[str, ...] = ()


class EndpointSlice(KubeObject, frozen=True):
    """discovery.k8s.io/v1 EndpointSlice."""

    endpoints: tuple[Endpoint, ...] | None = None

    @property
    def addresses(self) -> frozenset[str]:
        """The addresses its Service's traffic goes to."""
        return frozenset(address for one in self.endpoints or () for address in one.addresses)


@dataclass(frozen=True, slots=True)
class Told:
    """What a component's pod tells at ``/status``."""

    pod: SeenPod
    status: Document

    def part(self, name: str) -> Document:
        """One object of it, empty when it is not there."""
        found = self.status.get(name)
        return found if isinstance(found, dict) else {}

    @property
    def hosts(self) -> tuple[Document, ...]:
        """Of the mic that leads: each machine and scale set."""
        found = self.status.get("hosts")
        return tuple(one for one in found if isinstance(one, dict)) if isinstance(found, list) else ()

    @property
    def not_ready(self) -> str:
        """Why it is not ready, in its own words."""
        found = self.status.get("notReady")
        return "; ".join(map(str, found)) if isinstance(found, list) else ""


@dataclass(frozen=True, slots=True)
class LockSeen:
    """One of the leader's records: ``kind`` is leases or endpoints; ``record`` None: nobody ever held it."""

    kind: str
    name: str
    record: Record | None


@dataclass(frozen=True, slots=True)
class SecretSeen:
    """A Secret of a service principal, without what is in it.

    ``identity``: who needs it; ``trouble``: why it gives no token, empty when it may; ``not_after``: its certificate's
    end (seconds since the epoch), None where there is none.
    """

    key: str
    identity: str
    trouble: str = ""
    not_after: float | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    """What was seen. A field that could not be read is empty and has its reason in ``hidden``, by its name.

    ``now``: seconds since the epoch. ``crds``: those of podidentity that are there. ``roles`` and ``role_bindings``:
    those of namespaces and, without a namespace, of the cluster.
    """

    now: float = 0.0
    pods: tuple[SeenPod, ...] = ()
    nodes: tuple[Node, ...] = ()
    identities: tuple[AzureIdentity, ...] = ()
    bindings: tuple[AzureIdentityBinding, ...] = ()
    assigned: tuple[AzureAssignedIdentity, ...] = ()
    exceptions: tuple[AzurePodIdentityException, ...] = ()
    crds: tuple[Crd, ...] = ()
    locks: tuple[LockSeen, ...] = ()
    mic_told: tuple[Told, ...] = ()
    nmi_told: tuple[Told, ...] = ()
    roles: tuple[Role, ...] = ()
    role_bindings: tuple[RoleBinding, ...] = ()
    services: tuple[Service, ...] = ()
    slices: tuple[EndpointSlice, ...] = ()
    secrets: tuple[SecretSeen, ...] = ()
    hidden: Mapping[str, Hidden] = field(default_factory=dict)


def component(cluster: Cluster, name: str) -> tuple[SeenPod, ...]:
    """The pods of ``mic`` or ``nmi`` that have not ended."""
    return tuple(one for one in cluster.pods if one.component == name and one.status.phase not in TERMINAL_PHASES)


def managed(cluster: Cluster) -> bool:
    """Whether identities are attached by hand and there is no mic."""
    return any(one.flag("operation-mode").lower() == "managed" for one in component(cluster, "nmi"))


def living(cluster: Cluster) -> Iterator[SeenPod]:
    """Pods that have not ended and are not components of podidentity."""
    return (one for one in cluster.pods if not one.component and one.status.phase not in TERMINAL_PHASES)


def age(cluster: Cluster, stamp: str | None) -> float:
    """Seconds since an RFC 3339 time; 0 when there is none, or none that can be read."""
    try:
        return max(cluster.now - datetime.fromisoformat(stamp or "").timestamp(), 0.0)
    except ValueError:
        return 0.0
