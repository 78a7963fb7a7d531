"""Gathers what ``podidentity explain`` needs to know of one pod's cluster."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from podidentity.api.meta import KubeObject, Struct
from podidentity.api.resources import (
    AZURE_ASSIGNED_IDENTITIES,
    AZURE_IDENTITIES,
    AZURE_IDENTITY_BINDINGS,
    AZURE_POD_IDENTITY_EXCEPTIONS,
    EVENTS,
    NODES,
    Resource,
)
from podidentity.insight.links import Agent, Facts
from podidentity.insight.look import Hidden, Look

if TYPE_CHECKING:
    from podidentity.api.core import Pod

NMI_PROBE: Final = 8085
APPLY_ERROR: Final = "binding apply error"
"""Reason of mic's Events about what it cannot attach."""
LABELS: Final = ("component", "app.kubernetes.io/component")
"""Labels by which the shipped manifests and the chart, the original's too, tell ``mic`` and ``nmi``."""
_PORT: Final = re.compile(r"--http-probe-port[= ](\d+)")


class Condition(Struct, frozen=True):
    """One entry of ``status.conditions``."""

    type: str = ""
    status: str = ""


class Container(Struct, frozen=True):
    """One entry of ``spec.containers``."""

    args: tuple[str, ...] = ()


class ComponentSpec(Struct, frozen=True):
    """The part of ``spec`` that matters here."""

    node_name: str = ""
    containers: tuple[Container, ...] = ()


class ComponentStatus(Struct, frozen=True):
    """The part of ``status`` that matters here."""

    conditions: tuple[Condition, ...] = ()


class ComponentPod(KubeObject, frozen=True):
    """A pod of mic or nmi."""

    spec: ComponentSpec = ComponentSpec()
    status: ComponentStatus = ComponentStatus()

    @property
    def ready(self) -> bool:
        """Whether its Ready condition holds."""
        return any((one.type, one.status) == ("Ready", "True") for one in self.status.conditions)

    def probe_port(self, default: int) -> int:
        """The port its probes ask."""
        found = _PORT.search(" ".join(arg for one in self.spec.containers for arg in one.args))
        return int(found[1]) if found else default


_COMPONENT_PODS: Final = Resource("", "v1", "pods", "Pod", ComponentPod)


async def gather(look: Look, pod: Pod) -> Facts:
    """Read what the chain of ``pod`` is about, with the caller's rights."""
    node = await look.got(NODES, pod.spec.node_name) if pod.spec.node_name else None
    mics = await _component(look, "mic")
    return Facts(
        pod=pod,
        exceptions=await look.listed(AZURE_POD_IDENTITY_EXCEPTIONS, pod.namespace),
        bindings=await look.listed(AZURE_IDENTITY_BINDINGS),
        identities=await look.listed(AZURE_IDENTITIES),
        assigned=await look.listed(AZURE_ASSIGNED_IDENTITIES),
        node=node,
        agent=await _agent(look, pod.spec.node_name),
        mics=mics if isinstance(mics, Hidden) else sum(one.ready for one in mics),
        complaint=await _complaint(look, pod),
    )


async def _complaint(look: Look, pod: Pod) -> str:
    """What mic said last of what is in the way of the pod's identities; empty when it said nothing."""
    about = f"involvedObject.kind=Pod,involvedObject.name={pod.name}"
    events = await look.listed(EVENTS, pod.namespace, fields=about)
    if isinstance(events, Hidden):
        return ""
    said = [one for one in events if one.reason == APPLY_ERROR and one.involved_object.uid in {"", pod.metadata.uid}]
    return max(said, key=lambda one: one.last_timestamp or "").message if said else ""


async def _component(look: Look, name: str) -> tuple[ComponentPod, ...] | Hidden:
    found: dict[str, ComponentPod] = {}
    for label in LABELS:
        pods = await look.listed(_COMPONENT_PODS, labels=f"{label}={name}")
        if isinstance(pods, Hidden):
            return pods
        found |= {one.key: one for one in pods}
    return tuple(found.values())


async def _agent(look: Look, node: str) -> Agent | Hidden | None:
    pods = await _component(look, "nmi")
    if isinstance(pods, Hidden):
        return pods
    here = sorted((one for one in pods if one.spec.node_name == node), key=lambda one: (not one.ready, one.key))
    if not here or not node:
        return None
    best = here[0]
    return Agent(best.key, best.ready, await look.status_of(best.name, best.namespace, best.probe_port(NMI_PROBE)))
