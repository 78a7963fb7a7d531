"""The built-in objects, slim: only what podidentity reads or writes."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from podidentity.api.meta import KubeObject, ObjectReference, Struct


class PodIP(Struct, frozen=True):
    """One entry of ``status.podIPs``."""

    ip: str = ""


class PodSpec(Struct, frozen=True):
    """The part of ``spec`` that matters."""

    node_name: str = ""
    host_network: bool = False
    service_account_name: str = ""


class PodStatus(Struct, frozen=True):
    """The part of ``status`` that matters."""

    phase: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: tuple[PodIP, ...] = msgspec.field(default=(), name="podIPs")
    host_ip: str = msgspec.field(default="", name="hostIP")


class Pod(KubeObject, frozen=True):
    """core/v1 Pod."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class Taint(Struct, frozen=True):
    """One entry of ``spec.taints``."""

    key: str = ""


class NodeSpec(Struct, frozen=True):
    """``spec`` of a Node."""

    provider_id: str = msgspec.field(default="", name="providerID")
    taints: tuple[Taint, ...] = ()


class Node(KubeObject, frozen=True):
    """core/v1 Node."""

    spec: NodeSpec = NodeSpec()


class Secret(KubeObject, frozen=True):
    """core/v1 Secret; ``data`` values are base64 on the wire and bytes here."""

    data: Mapping[str, bytes] = {}
    type: str = ""


class ConfigMap(KubeObject, frozen=True):
    """core/v1 ConfigMap."""

    data: Mapping[str, str] = {}


class Endpoints(KubeObject, frozen=True):
    """core/v1 Endpoints: only its annotations are used, as the original's leader record."""


class EventSource(Struct, frozen=True):
    """Who reported an Event."""

    component: str = ""
    host: str = ""


class Event(KubeObject, frozen=True):
    """core/v1 Event. Times are RFC 3339 strings."""

    involved_object: ObjectReference = ObjectReference()
    reason: str = ""
    message: str = ""
    type: str = ""
    count: int = 0
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    source: EventSource = EventSource()
    reporting_component: str = ""
    reporting_instance: str = ""


class LeaseSpec(Struct, frozen=True):
    """``spec`` of a Lease; times are RFC 3339 with microseconds."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(KubeObject, frozen=True):
    """coordination.k8s.io/v1 Lease."""

    spec: LeaseSpec = LeaseSpec()
