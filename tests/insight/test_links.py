"""Each fault of a pod's chain is the first cross, with the one thing to do."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from podidentity.api.core import Node, NodeSpec, Pod, PodSpec, PodStatus
from podidentity.api.identity import (
    AzureAssignedIdentity,
    AzureAssignedIdentitySpec,
    AzureAssignedIdentityStatus,
    AzureIdentity,
    AzureIdentityBinding,
    AzureIdentityBindingSpec,
    AzureIdentitySpec,
    AzurePodIdentityException,
    AzurePodIdentityExceptionSpec,
)
from podidentity.api.meta import ObjectMeta
from podidentity.insight.links import Agent, Facts, State, chain, healthy, next_step
from podidentity.insight.look import Hidden

RESOURCE = "/subscriptions/s/resourcegroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/app"
PROVIDER = "azure:///subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm-0"
STATUS = {"ready": True, "notReady": [], "datapath": {"inPlace": True}, "mode": "standard", "namespaced": False}
FORBIDDEN = Hidden("azureidentities is forbidden", "list azureidentities in the whole cluster")


def meta(name: str, namespace: str = "team", **more: object) -> ObjectMeta:
    """Metadata."""
    return ObjectMeta(name=name, namespace=namespace, **more)  # type: ignore[arg-type]  # fields by name


def pod(label: str = "web", *, node: str = "node-0", phase: str = "Running", host_network: bool = False) -> Pod:
    """The pod that is explained."""
    labels = {"aadpodidbinding": label, "app": "web"} if label else {}
    spec = PodSpec(node_name=node, host_network=host_network)
    return Pod(metadata=meta("web", labels=labels), spec=spec, status=PodStatus(phase=phase))


def binding(selector: str = "web", identity: str = "app", namespace: str = "team") -> AzureIdentityBinding:
    """A binding."""
    spec = AzureIdentityBindingSpec(azure_identity=identity, selector=selector)
    return AzureIdentityBinding(metadata=meta("bind", namespace), spec=spec)


def identity(resource: str = RESOURCE, namespace: str = "team", kind: int = 0, **annotations: str) -> AzureIdentity:
    """An identity."""
    spec = AzureIdentitySpec(type=kind, resource_id=resource, client_id="c")
    return AzureIdentity(metadata=meta("app", namespace, annotations=annotations), spec=spec)


def assigned(state: str = "Assigned") -> AzureAssignedIdentity:
    """The record of the pod."""
    spec = AzureAssignedIdentitySpec(azure_identity_ref=identity(), pod="web", pod_namespace="team")
    created = meta("web-team-app", "default", creation_timestamp="2026-01-01T00:00:00Z")
    return AzureAssignedIdentity(metadata=created, spec=spec, status=AzureAssignedIdentityStatus(status=state))


def exception(value: str = "web") -> AzurePodIdentityException:
    """An exception for a label of the pod."""
    return AzurePodIdentityException(
        metadata=meta("let"), spec=AzurePodIdentityExceptionSpec(pod_labels={"app": value})
    )


GOOD = Facts(
    pod=pod(),
    bindings=(binding(),),
    identities=(identity(),),
    assigned=(assigned(),),
    node=Node(metadata=ObjectMeta(name="node-0"), spec=NodeSpec(provider_id=PROVIDER)),
    agent=Agent("default/nmi-x", ready=True, status=STATUS),
    mics=2,
)


@dataclass(frozen=True)
class Case:
    """Facts, the first link that does not hold and its state, words of its evidence and of what to do."""

    facts: Facts
    link: str
    state: State
    evidence: str
    step: str


CASES = {
    "no label": Case(replace(GOOD, pod=pod("")), "pod", "broken", "does not use pod identity", "aadpodidbinding"),
    "host network": Case(replace(GOOD, pod=pod(host_network=True)), "pod", "broken", "host's network", "hostNetwork"),
    "ended": Case(replace(GOOD, pod=pod(phase="Failed")), "pod", "broken", "has ended (Failed)", "start it anew"),
    "not scheduled": Case(replace(GOOD, pod=pod(node="")), "pod", "waiting", "on no node", "describe pod web"),
    "exception": Case(
        replace(GOOD, exceptions=(exception(),)), "exception", "broken", "team/let (app=web)", "team/let"
    ),
    "selector one letter off": Case(
        replace(GOOD, bindings=(binding("wep"),)), "binding", "broken", "team/bind selects 'wep'", "make the two equal"
    ),
    "no binding": Case(replace(GOOD, bindings=()), "binding", "broken", "no AzureIdentityBinding", "spec.selector web"),
    "other namespace, forced": Case(
        replace(
            GOOD,
            bindings=(binding(namespace="other"),),
            identities=(identity(namespace="other"),),
            agent=Agent("default/nmi-x", ready=True, status=STATUS | {"namespaced": True}),
        ),
        "binding",
        "broken",
        "for its own namespace only",
        "in namespace team",
    ),
    "other namespace, by annotation": Case(
        replace(
            GOOD,
            bindings=(binding(namespace="other"),),
            identities=(identity(RESOURCE, "other", **{"aadpodidentity.k8s.io/Behavior": "namespaced"}),),
        ),
        "binding",
        "broken",
        "for its own namespace only",
        "in namespace team",
    ),
    "identity missing": Case(
        replace(GOOD, bindings=(binding(identity="ap"),)),
        "identity",
        "broken",
        "did you mean team/app?",
        "spec.azureId",
    ),
    "resource id": Case(
        replace(GOOD, identities=(identity("/x"),)), "identity", "broken", "'/x' is not a user-assigned", "mend Azure"
    ),
    "type": Case(replace(GOOD, identities=(identity(kind=7),)), "identity", "broken", "spec.type is 7", "mend Azure"),
    "node gone": Case(replace(GOOD, node=None), "node", "broken", "not there any more", "delete it"),
    "not on Azure": Case(
        replace(GOOD, node=Node(metadata=ObjectMeta(name="node-0"), spec=NodeSpec(provider_id="kind://x"))),
        "node",
        "broken",
        "'kind://x'",
        "cloud provider",
    ),
    "no mic": Case(
        replace(GOOD, assigned=(), mics=0), "assigned identity", "waiting", "none for AzureIdentity", "no pod of mic"
    ),
    "mic is at it": Case(
        replace(GOOD, assigned=()),
        "assigned identity",
        "waiting",
        "none for AzureIdentity",
        "kubectl get events -n team",
    ),
    "created": Case(
        replace(GOOD, assigned=(assigned("Created"),)),
        "assigned identity",
        "waiting",
        "default/web-team-app is Created since 2026-01-01T00:00:00Z",
        "kubectl get events -n team",
    ),
    "mic complains": Case(
        replace(
            GOOD,
            assigned=(assigned("Created"),),
            complaint="Applying binding app on node n failed: no right; give it the role 'X' (403 No: long)",
        ),
        "assigned identity",
        "broken",
        "2026-01-01T00:00:00Z; mic cannot attach it",
        "as mic says: no right; give it the role 'X'",
    ),
    "no agent": Case(replace(GOOD, agent=None), "node agent", "broken", "no pod of nmi is on node-0", "daemonset"),
    "agent not ready": Case(
        replace(
            GOOD, agent=Agent("default/nmi-x", ready=False, status={"ready": False, "notReady": ["cache: no pods"]})
        ),
        "node agent",
        "broken",
        "is not ready: cache: no pods",
        "kubectl logs -n default nmi-x",
    ),
    "agent not ready, without status": Case(
        replace(GOOD, agent=Agent("default/nmi-x", ready=False, status=Hidden("no proxy"))),
        "node agent",
        "broken",
        "is not ready",
        "kubectl logs -n default nmi-x",
    ),
    "no redirect": Case(
        replace(GOOD, agent=Agent("default/nmi-x", ready=True, status=STATUS | {"datapath": {"inPlace": False}})),
        "node agent",
        "broken",
        "no redirect in place",
        "kubectl logs",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_first_cross_is_the_cause(name: str) -> None:
    """What is named is the cause; what depends on a broken link is not judged."""
    case = CASES[name]
    links = chain(case.facts)
    first = next(one for one in links if one.state in {"broken", "waiting"})
    assert (first.name, first.state) == (case.link, case.state)
    assert case.evidence in first.evidence
    assert case.step in next_step(links)
    assert not healthy(links)
    after = links[links.index(first) + 1 :]
    assert case.state == "waiting" or {one.state for one in after} <= {"skipped"}


@pytest.mark.parametrize(
    "facts",
    [
        GOOD,
        replace(GOOD, exceptions=(exception("other"),)),
        replace(GOOD, agent=Agent("default/nmi-x", ready=True, status=Hidden("no proxy", "get pods/proxy"))),
        replace(GOOD, assigned=(), agent=Agent("d/n", ready=True, status=STATUS | {"mode": "managed"})),
    ],
    ids=["all there", "another's exception", "status hidden", "managed mode"],
)
def test_a_healthy_pod(facts: Facts) -> None:
    """Nothing is asked of its owner."""
    links = chain(facts)
    assert healthy(links), links
    assert next_step(links).startswith("nothing")


@pytest.mark.parametrize("field", ["exceptions", "bindings", "identities", "assigned", "node", "agent"])
def test_what_is_not_visible_is_told_with_the_right_that_shows_it(field: str) -> None:
    """A caller with few rights is told which link he does not see, and nothing is called broken for it."""
    links = chain(replace(GOOD, **{field: FORBIDDEN}))  # type: ignore[arg-type]  # a field of Facts
    assert "hidden" in {one.state for one in links}
    assert not {one.state for one in links} & {"broken", "waiting"}
    assert "ask for the right to list azureidentities" in next_step(links)


def test_the_right_that_shows_what_an_agent_tells() -> None:
    """Protects who may not get pods/proxy: the link holds by the pod's own condition, and says what would show more."""
    agent = Agent("default/nmi-x", ready=True, status=Hidden("forbidden", "get pods/proxy in namespace default"))
    (found,) = [link for link in chain(replace(GOOD, agent=agent)) if link.name == "node agent"]
    assert found.state == "ok"
    assert "forbidden; the right to get pods/proxy in namespace default shows it" in found.evidence
