"""Rules of ``podidentity doctor`` about who reaches the node's own identities, or another pod's. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from podidentity.insight.cluster import Cluster, SeenPod, component, living
from podidentity.insight.findings import Found, Rule, named
from podidentity.rules.exceptions import excepted
from podidentity.rules.selection import selector_of

SHIPPED: Final = frozenset(
    {
        ("app", "mic"),
        ("component", "mic"),
        ("app.kubernetes.io/component", "mic"),
        ("kubernetes.azure.com/managedby", "aks"),
    }
)
"""Labels of the exceptions that an installation has."""
NETWORKS: Final = ("k8s.v1.cni.cncf.io/networks", "v1.multus-cni.io/default-network")
_SYSTEM: Final = "kube-system"
_CREDENTIALS: Final = "/etc/kubernetes/azure.json"
_UNSAFE: Final = (
    ("metadata-header-required", True, "a pod that can be made to fetch a URL gives its token away"),
    ("block-wireserver", True, "pods reach WireServer, which has the settings of the machine's extensions"),
    ("source-check", True, "a pod that sends with another pod's address is heard"),
    ("allow-cross-namespace-secrets", False, "who may write identities gets the Secrets of other namespaces"),
)


def _let_through(cluster: Cluster) -> Iterator[Found]:
    through: dict[str, list[str]] = defaultdict(list)
    for pod in living(cluster):
        found = excepted(pod, cluster.exceptions)
        if found is not None and pod.namespace != _SYSTEM and not pod.spec.host_network:
            through[found.key].append(pod.key)
    for key, pods in through.items():
        fix = "narrow its podLabels, or delete it: these pods get tokens of every identity on their machine"
        yield Found(f"exception {key}", f"lets {named(pods)} through to the node's own identities", fix)


def _idle_exception(cluster: Cluster) -> Iterator[Found]:
    for one in cluster.exceptions:
        labels = one.spec.pod_labels
        if set(labels.items()) <= SHIPPED and labels:
            continue
        if not any(excepted(pod, (one,)) for pod in cluster.pods if pod.namespace == one.namespace):
            fix = "delete it: whoever makes a pod with such a label gets the node's identities"
            yield Found(f"exception {one.key}", "lets no pod through that is there", fix)


def _identity_unused(cluster: Cluster) -> Iterator[Found]:
    for pod in living(cluster):
        found = excepted(pod, cluster.exceptions)
        if found is not None and selector_of(pod):
            fix = "take one of the two labels off"
            yield Found(f"pod {pod.key}", f"has an identity, but exception {found.key} lets it past nmi", fix)


def _second_interface(cluster: Cluster) -> Iterator[Found]:
    for pod in living(cluster):
        if any(pod.metadata.annotations.get(one) for one in NETWORKS):
            fix = "keep 169.254.169.254 off that network, or its pods off nodes with identities"
            yield Found(f"pod {pod.key}", "has an interface that the node's guard does not see", fix)


def _shared_bridge(cluster: Cluster) -> Iterator[Found]:
    loose = {
        one.spec.node_name
        for one in component(cluster, "nmi")
        if one.switch("allow-network-plugin-kubenet") and not one.flag("cni-results")
    }
    for node in sorted(loose):
        pods = [one.key for one in living(cluster) if one.spec.node_name == node and _may_spoof(one)]
        if pods:
            fix = "give nmi --cni-results=/var/lib/cni/results, or drop NET_RAW in the pods"
            yield Found(f"node {node}", f"kubenet is allowed unchecked, and {named(pods)} may take an address", fix)


def _may_spoof(pod: SeenPod) -> bool:
    return not pod.spec.host_network and any(one.net_raw for one in pod.spec.containers)


def _machine_credentials(cluster: Cluster) -> Iterator[Found]:
    for pod in living(cluster):
        paths = [one.host_path.path for one in pod.spec.volumes if one.host_path is not None]
        open_ = [one for one in paths if f"{_CREDENTIALS}/".startswith(f"{one.rstrip('/')}/")]
        if open_ and pod.namespace != _SYSTEM:
            fix = "mount a narrower path: azure.json may hold the cluster's own password"
            yield Found(f"pod {pod.key}", f"mounts the node's {named(open_)}, where {_CREDENTIALS} is", fix)


def _unsafe_flags(cluster: Cluster) -> Iterator[Found]:
    for owner, pod in {one.owner: one for one in component(cluster, "nmi")}.items():
        for flag, safe, harm in _UNSAFE:
            if pod.switch(flag, default=safe) != safe:
                yield Found(owner, f"--{flag}={pod.flag(flag)}: {harm}", f"take --{flag} out")


def _host_network_pods(cluster: Cluster) -> Iterator[Found]:
    spaces: dict[str, list[str]] = defaultdict(list)
    for pod in living(cluster):
        if pod.spec.host_network and pod.namespace != _SYSTEM and not selector_of(pod):
            spaces[pod.namespace].append(pod.name)
    for space, pods in spaces.items():
        fix = "allow hostNetwork only where it is needed: Pod Security level baseline forbids it"
        yield Found(f"namespace {space}", f"{named(pods)} on the host's network: no agent keeps them off the node", fix)


RULES: Final = (
    Rule("PI040-let-through", "warning", "Pods that an exception lets through", ("pods", "exceptions"), _let_through),
    Rule("PI041-idle-exception", "note", "An exception for no pod", ("pods", "exceptions"), _idle_exception),
    Rule(
        "PI042-identity-unused", "warning", "A pod with label and exception", ("pods", "exceptions"), _identity_unused
    ),
    Rule("PI043-second-interface", "warning", "A pod with a further interface", ("pods",), _second_interface),
    Rule("PI044-shared-bridge", "warning", "Pods that may take a neighbour's address", ("pods",), _shared_bridge),
    Rule("PI045-machine-credentials", "warning", "A pod that can read azure.json", ("pods",), _machine_credentials),
    Rule("PI046-unsafe-flags", "warning", "A protection of nmi is switched off", ("pods",), _unsafe_flags),
    Rule("PI047-host-network-pods", "note", "Pods on the host's network", ("pods",), _host_network_pods),
)
