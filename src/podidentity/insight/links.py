"""The chain from a pod's label to its token, link by link (pure)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from podidentity.api.constants import POD_LABEL, STATE_ASSIGNED, TYPE_USER_ASSIGNED
from podidentity.api.core import Node, Pod
from podidentity.api.identity import (
    AzureAssignedIdentity,
    AzureIdentity,
    AzureIdentityBinding,
    AzurePodIdentityException,
)
from podidentity.insight.look import Document, Hidden
from podidentity.rules.exceptions import excepted
from podidentity.rules.identity_problem import identity_problem
from podidentity.rules.resource_id import parse_provider_id
from podidentity.rules.selection import TERMINAL_PHASES, Selected, select, selector_of

State = Literal["ok", "broken", "waiting", "hidden", "skipped"]
NEAR: Final = 0.6
"""How alike a selector has to be, from 0 to 1, to be shown as a near miss."""


@dataclass(frozen=True, slots=True)
class Link:
    """One link. ``evidence`` is one line, ``fix`` what to do when it does not hold."""

    name: str
    state: State
    evidence: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Agent:
    """The nmi of the pod's node: its pod, whether that is ready, and what it tells of itself."""

    pod: str
    ready: bool
    status: Document | Hidden


@dataclass(frozen=True, slots=True)
class Facts:
    """What was seen of one pod's cluster. ``node`` and ``agent`` are None when they are not there.

    ``mics``: how many pods of mic are ready, or why that was not to be seen. ``complaint``: mic's last Event about what
    is in its way, empty when there is none.
    """

    pod: Pod
    exceptions: tuple[AzurePodIdentityException, ...] | Hidden = ()
    bindings: tuple[AzureIdentityBinding, ...] | Hidden = ()
    identities: tuple[AzureIdentity, ...] | Hidden = ()
    assigned: tuple[AzureAssignedIdentity, ...] | Hidden = ()
    node: Node | Hidden | None = None
    agent: Agent | Hidden | None = None
    mics: int | Hidden = 0
    complaint: str = ""

    def told(self, field: str) -> object:
        """What the node's agent tells; None when it was not to be seen."""
        agent = self.agent
        return agent.status.get(field) if isinstance(agent, Agent) and not isinstance(agent.status, Hidden) else None

    @property
    def namespaced(self) -> bool:
        """Whether every identity is for its own namespace only."""
        return bool(self.told("namespaced"))

    @property
    def managed(self) -> bool:
        """Whether identities are attached by hand and mic is not used."""
        return self.told("mode") == "managed"

    @property
    def selected(self) -> tuple[Selected, ...]:
        """The bindings that apply, with their identities."""
        if isinstance(self.bindings, Hidden) or isinstance(self.identities, Hidden):
            return ()
        identities = {one.key: one for one in self.identities}
        return select(self.pod, self.bindings, identities.get, force_namespaced=self.namespaced)


def chain(facts: Facts) -> tuple[Link, ...]:
    """All links, in order; those that depend on one that does not hold are skipped."""
    found: list[Link] = []
    for name, link in (
        ("pod", _pod),
        ("exception", _exception),
        ("binding", _binding),
        ("identity", _identity),
        ("node", _node),
        ("assigned identity", _assigned),
        ("node agent", _agent),
    ):
        broken = next((one for one in found if one.state == "broken"), None)
        found.append(Link(name, "skipped", f"depends on: {broken.name}") if broken else link(facts))
    return tuple(found)


def healthy(links: Iterable[Link]) -> bool:
    """Whether nothing is broken and nothing is waited for."""
    return all(link.state in {"ok", "hidden"} for link in links)


def next_step(links: Sequence[Link]) -> str:
    """The one thing to do."""
    for state in ("broken", "waiting", "hidden"):
        for link in links:
            if link.state == state and link.fix:
                return link.fix
    return "nothing: the pod can get its tokens"


def _unseen(name: str, hidden: Hidden) -> Link:
    fix = f"ask for the right to {hidden.right}, to see the link {name!r}" if hidden.right else ""
    return Link(name, "hidden", f"not visible: {hidden.why}", fix)


def _pod(facts: Facts) -> Link:
    pod = facts.pod
    selector, phase, name = selector_of(pod), pod.status.phase, pod.key
    if not selector:
        return Link(
            "pod",
            "broken",
            f"{name} has no label {POD_LABEL}: it does not use pod identity",
            f"set the label {POD_LABEL} in the template of what makes the pod",
        )
    if pod.spec.host_network:
        return Link(
            "pod",
            "broken",
            f"{name} is on the host's network, where a pod cannot be told from the node",
            "set hostNetwork: false",
        )
    if phase in TERMINAL_PHASES:
        return Link("pod", "broken", f"{name} has ended ({phase}): it gets no tokens any more", "start it anew")
    if not pod.spec.node_name:
        return Link(
            "pod",
            "waiting",
            f"{name} is on no node yet",
            f"see why: kubectl describe pod {pod.name} -n {pod.namespace}",
        )
    return Link("pod", "ok", f"{name}, {POD_LABEL}={selector}, on {pod.spec.node_name}, {phase or 'Pending'}")


def _exception(facts: Facts) -> Link:
    if isinstance(facts.exceptions, Hidden):
        return _unseen("exception", facts.exceptions)
    found = excepted(facts.pod, facts.exceptions)
    if found is None:
        return Link("exception", "ok", "none lets the pod through to the node's own identities")
    labels = ", ".join(f"{key}={value}" for key, value in sorted(found.spec.pod_labels.items()))
    return Link(
        "exception",
        "broken",
        f"AzurePodIdentityException {found.key} ({labels}) lets the pod through: it gets the node's identities",
        f"take the label off the pod, or delete AzurePodIdentityException {found.key}",
    )


def _binding(facts: Facts) -> Link:
    for seen in (facts.bindings, facts.identities):
        if isinstance(seen, Hidden):
            return _unseen("binding", seen)
    assert not isinstance(facts.bindings, Hidden)
    selector, namespace = selector_of(facts.pod), facts.pod.namespace
    same = [one for one in facts.bindings if one.spec.selector == selector]
    if same and (facts.selected or not _elsewhere(facts, same)):
        names = ", ".join(one.key for one in same)
        return Link("binding", "ok", f"{names} selects {selector!r}")
    if same:
        names = ", ".join(one.key for one in same)
        return Link(
            "binding",
            "broken",
            f"{names} selects {selector!r} for its own namespace only, and the pod is in {namespace}",
            f"make AzureIdentity and AzureIdentityBinding in namespace {namespace}",
        )
    near = difflib.get_close_matches(selector, {one.spec.selector for one in facts.bindings}, 1, NEAR)
    if near:
        other = next(one for one in facts.bindings if one.spec.selector == near[0])
        return Link(
            "binding",
            "broken",
            f"no AzureIdentityBinding selects {selector!r}; {other.key} selects {near[0]!r}",
            f"make the two equal: the pod's label {POD_LABEL}, or spec.selector of {other.key}",
        )
    return Link(
        "binding",
        "broken",
        f"no AzureIdentityBinding selects {selector!r} (there are {len(facts.bindings)} others)",
        f"create an AzureIdentityBinding with spec.selector {selector}",
    )


def _elsewhere(facts: Facts, bindings: Iterable[AzureIdentityBinding]) -> bool:
    """Whether the identities are there, but not for the pod's namespace."""
    assert not isinstance(facts.identities, Hidden)
    there = {one.key for one in facts.identities}
    return any(f"{one.namespace}/{one.spec.azure_identity}" in there for one in bindings)


def _identity(facts: Facts) -> Link:
    if isinstance(facts.bindings, Hidden) or isinstance(facts.identities, Hidden):
        return Link("identity", "hidden", "not visible: the bindings or identities are not")
    selector = selector_of(facts.pod)
    there = {one.key for one in facts.identities}
    for binding in facts.bindings:
        wanted = f"{binding.namespace}/{binding.spec.azure_identity}"
        if binding.spec.selector == selector and wanted not in there:
            near = difflib.get_close_matches(wanted, there, 1, NEAR)
            hint = f"; did you mean {near[0]}?" if near else ""
            return Link(
                "identity",
                "broken",
                f"AzureIdentity {wanted}, which {binding.key} names, is not there{hint}",
                f"create it in namespace {binding.namespace}, or change spec.azureIdentity of {binding.key}",
            )
    for one in facts.selected:
        problem = identity_problem(one.identity)
        if problem:
            return Link(
                "identity",
                "broken",
                f"AzureIdentity {one.identity.key}: {problem}",
                f"mend AzureIdentity {one.identity.key}",
            )
    names = ", ".join(one.identity.key for one in facts.selected)
    return Link("identity", "ok", f"{names}: well formed")


def _node(facts: Facts) -> Link:
    node, name = facts.node, facts.pod.spec.node_name
    if not name:
        return Link("node", "skipped", "the pod is on no node yet")
    if isinstance(node, Hidden):
        return _unseen("node", node)
    if node is None:
        return Link(
            "node", "broken", f"node {name} is not there any more", "wait for the pod to be replaced, or delete it"
        )
    if facts.managed or all(one.identity.spec.type != TYPE_USER_ASSIGNED for one in facts.selected):
        return Link("node", "ok", f"{name}; nothing is attached to its machine by mic")
    if parse_provider_id(node.spec.provider_id) is None:
        shown = repr(node.spec.provider_id) if node.spec.provider_id else "empty"
        return Link(
            "node",
            "broken",
            f"{name} is no machine of Azure: spec.providerID is {shown}",
            "run the pod on a node that Azure's cloud provider has registered",
        )
    return Link("node", "ok", f"{name} is a machine of Azure")


def _assigned(facts: Facts) -> Link:
    name = "assigned identity"
    if facts.managed:
        return Link(name, "ok", "managed mode: identities are attached by hand, none is assigned")
    if isinstance(facts.assigned, Hidden):
        return _unseen(name, facts.assigned)
    if not facts.selected:
        return Link(name, "skipped", "no identity was seen")
    pod = facts.pod
    mine = {
        one.spec.azure_identity_ref.key: one
        for one in facts.assigned
        if (one.spec.pod, one.spec.pod_namespace) == (pod.name, pod.namespace) and not one.metadata.deletion_timestamp
    }
    for selected in facts.selected:
        record = mine.get(selected.identity.key)
        if record is None or record.status.status != STATE_ASSIGNED:
            return _not_assigned(facts, selected.identity.key, record)
    return Link(name, "ok", ", ".join(f"{mine[one.identity.key].key} is {STATE_ASSIGNED}" for one in facts.selected))


def _not_assigned(facts: Facts, identity: str, record: AzureAssignedIdentity | None) -> Link:
    """The link of an identity that is not, or not yet, on the pod's machine."""
    name = "assigned identity"
    if record is None:
        none_ready = "no pod of mic is ready: kubectl get pods -A -l component=mic"
        fix = none_ready if facts.mics == 0 else _events(facts.pod)
        return Link(name, "waiting", f"none for AzureIdentity {identity}", fix)
    state, since = record.status.status or "without status", record.metadata.creation_timestamp or "?"
    told = f"{record.key} is {state} since {since}"
    if facts.complaint:
        why = facts.complaint.rpartition(" failed: ")[2].partition(" (")[0]
        return Link(name, "broken", f"{told}; mic cannot attach it", f"as mic says: {why}")
    return Link(name, "waiting", told, _events(facts.pod))


def _events(pod: Pod) -> str:
    return f"see what mic says: kubectl get events -n {pod.namespace} --field-selector involvedObject.name={pod.name}"


def _agent(facts: Facts) -> Link:
    name, node, agent = "node agent", facts.pod.spec.node_name, facts.agent
    if not node:
        return Link(name, "skipped", "the pod is on no node yet")
    if isinstance(agent, Hidden):
        return _unseen(name, agent)
    if agent is None:
        fix = "see which nodes it is for: kubectl get daemonset -A -l component=nmi (nodeSelector, tolerations)"
        return Link(name, "broken", f"no pod of nmi is on {node}", fix)
    trouble, seen = _trouble(agent)
    if trouble:
        return Link(name, "broken", f"{agent.pod} {trouble}", f"see why: kubectl logs -n {agent.pod.replace('/', ' ')}")
    return Link(name, "ok", f"{agent.pod} is ready{seen}")


def _trouble(agent: Agent) -> tuple[str, str]:
    """What is wrong with it, and what else was seen when nothing is."""
    if isinstance(agent.status, Hidden):
        right = f"; the right to {agent.status.right} shows it" if agent.status.right else ""
        return "" if agent.ready else "is not ready", f" (its /status is not visible: {agent.status.why}{right})"
    reasons, datapath = agent.status.get("notReady"), agent.status.get("datapath")
    if not agent.status.get("ready"):
        said = "; ".join(map(str, reasons)) if isinstance(reasons, list) and reasons else "it does not say why"
        return f"is not ready: {said}", ""
    if isinstance(datapath, dict) and not datapath.get("inPlace"):
        return "has no redirect in place", ""
    return "", ", the node's redirect is in place"
