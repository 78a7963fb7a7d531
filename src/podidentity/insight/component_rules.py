"""Rules of ``podidentity doctor`` about mic and nmi themselves. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from podidentity.api.constants import GROUP, VERSION
from podidentity.insight.cluster import Cluster, Told, age, component, managed
from podidentity.insight.findings import Found, Rule, named
from podidentity.rules.selection import wants_identities

KINDS: Final = ("azureassignedidentities", "azureidentities", "azureidentitybindings", "azurepodidentityexceptions")
SILENT: Final = 150.0
"""Seconds after which mic itself calls a watch dead."""
SPENT: Final = {"mic": ("enableProfile", "update-user-msi-max-retry"), "nmi": ("enableProfile", "host-ip")}
"""Flags that are taken and do nothing."""


def _two_mics(cluster: Cluster) -> Iterator[Found]:
    owners = {one.owner for one in component(cluster, "mic")}
    if len(owners) > 1:
        yield Found(
            "mic",
            f"{len(owners)} installations: {named(owners)}",
            "keep one: both write the same records, and with different locks they undo each other's work",
        )


def _skew(cluster: Cluster) -> Iterator[Found]:
    images: dict[str, list[str]] = defaultdict(list)
    for name in ("mic", "nmi"):
        for one in component(cluster, name):
            images[one.image.rpartition("/")[2].partition("@")[0].rpartition(":")[2]].append(one.key)
    if len(images) > 1:
        seen = "; ".join(f"{tag}: {named(pods)}" for tag, pods in sorted(images.items()))
        yield Found("mic and nmi", f"run in {len(images)} versions: {seen}", "finish the update: one version for all")


def _no_mic(cluster: Cluster) -> Iterator[Found]:
    mics = component(cluster, "mic")
    if managed(cluster) or any(one.ready for one in mics):
        return
    if mics:
        fix = f"see why: kubectl logs -n {mics[0].namespace} {mics[0].name}"
        yield Found("mic", f"none of its pods is ready: {named(one.key for one in mics)}", fix)
    elif component(cluster, "nmi") or any(wants_identities(one) for one in cluster.pods):
        yield Found("mic", "there is no pod of mic", "install it: podidentity manifests install | kubectl apply -f -")


def _no_leader(cluster: Cluster) -> Iterator[Found]:
    if not any(one.ready for one in component(cluster, "mic")):
        return
    held = [one for one in cluster.locks if one.record is not None and one.record.holder]
    if not held:
        yield Found("mic", "nobody holds the lead", "see why in mic's log: kubectl logs -A -l component=mic")
    for lock in held:
        assert lock.record is not None
        silent, limit = age(cluster, lock.record.renewed), 4 * max(lock.record.duration, 15)
        if silent > limit:
            yield Found(
                f"{lock.kind} {lock.name}",
                f"{lock.record.holder} renewed it {silent:.0f} s ago, it is good for {lock.record.duration} s",
                "see whether that pod is still there, and why no other mic takes over: its log says",
            )


def _two_leaders(cluster: Cluster) -> Iterator[Found]:
    holders = {one.kind: one.record.holder for one in cluster.locks if one.record is not None and one.record.holder}
    if len(set(holders.values())) > 1:
        seen = ", ".join(f"{kind}: {holder}" for kind, holder in sorted(holders.items()))
        yield Found("mic", f"two leaders' records, {seen}", "stop one of the two: an original MIC, or a mic of ours")


def _crds(cluster: Cluster) -> Iterator[Found]:
    there = {one.name: one for one in cluster.crds}
    for kind in KINDS[managed(cluster) :]:  # managed mode has no assigned identities
        name = f"{kind}.{GROUP}"
        crd = there.get(name)
        fix = "apply the definitions of deploy/deployment-rbac.yaml or of the chart's folder crds"
        if crd is None:
            yield Found(name, "the CustomResourceDefinition is not there", fix)
        elif not any(one.name == VERSION and one.served for one in crd.spec.versions):
            yield Found(name, f"does not serve {VERSION}: {named(one.name for one in crd.spec.versions)}", fix)


def _agent_not_ready(cluster: Cluster) -> Iterator[Found]:
    for one in component(cluster, "nmi"):
        if not one.ready and one.spec.node_name and one.metadata.deletion_timestamp is None:
            fix = f"see why: kubectl logs -n {one.namespace} {one.name}"
            yield Found(one.key, f"is not ready: the pods of {one.spec.node_name} get no tokens", fix)


def _not_ready_told(cluster: Cluster) -> Iterator[Found]:
    for told in (*cluster.mic_told, *cluster.nmi_told):
        if told.not_ready:
            yield Found(told.pod.key, f"says it is not ready: {told.not_ready}", "do what it names")


def _redirect(cluster: Cluster) -> Iterator[Found]:
    for told in cluster.nmi_told:
        datapath = told.part("datapath")
        if datapath and not datapath.get("inPlace"):
            fix = f"see what is in its way: kubectl logs -n {told.pod.namespace} {told.pod.name}"
            yield Found(told.pod.key, f"guard and redirect of {told.pod.spec.node_name} are not in place", fix)


def _no_agent(cluster: Cluster) -> Iterator[Found]:
    served = {one.spec.node_name for one in component(cluster, "nmi")}
    without: dict[str, list[str]] = defaultdict(list)
    for pod in cluster.pods:
        if wants_identities(pod) and not pod.spec.host_network and pod.spec.node_name not in served:
            without[pod.spec.node_name].append(pod.key)
    for node, pods in without.items():
        fix = "let nmi's DaemonSet run there: its nodeSelector and tolerations"
        yield Found(f"node {node}", f"no pod of nmi is on it, and {named(pods)} want identities", fix)


def _two_agents(cluster: Cluster) -> Iterator[Found]:
    owners = {one.owner for one in component(cluster, "nmi")}
    if len(owners) > 1:
        fix = "keep one DaemonSet: two of them write each other's redirect"
        yield Found("nmi", f"{len(owners)} installations: {named(owners)}", fix)


def _one_mic(cluster: Cluster) -> Iterator[Found]:
    mics = component(cluster, "mic")
    if len(mics) == 1:
        fix = "two replicas: with one, nothing is assigned while its node is drained"
        yield Found(mics[0].key, "is the only pod of mic", fix)


def _silent(cluster: Cluster) -> Iterator[Found]:
    for told in cluster.mic_told:
        for kind, watch in told.part("watches").items():
            if not isinstance(watch, dict):
                continue
            heard = watch.get("ageSeconds")
            if not watch.get("listed"):
                yield Found(told.pod.key, f"could not list {kind} yet", "its log names the right or the trouble")
            elif isinstance(heard, int | float) and heard > SILENT:
                yield Found(told.pod.key, f"heard nothing of {kind} for {heard:.0f} s", "its log names the trouble")


def _hosts(cluster: Cluster) -> Iterator[tuple[Told, str, dict[str, int]]]:
    for told in cluster.mic_told:
        for host in told.hosts:
            yield (
                told,
                str(host.get("host") or "a node outside Azure"),
                {key: value for key, value in host.items() if isinstance(value, int)},
            )


EVENTS: Final = "mic's Events name the refusal: kubectl get events -A --field-selector reason='binding apply error'"


def _quarantined(cluster: Cluster) -> Iterator[Found]:
    for _, host, count in _hosts(cluster):
        if count.get("identitiesQuarantined"):
            yield Found(f"host {host}", f"Azure refuses {count['identitiesQuarantined']} identities there", EVENTS)


def _trouble(cluster: Cluster) -> Iterator[Found]:
    for _, host, count in _hosts(cluster):
        if count.get("inTrouble"):
            yield Found(f"host {host}", "mic cannot read or change it", EVENTS)


def _drift(cluster: Cluster) -> Iterator[Found]:
    for _, host, count in _hosts(cluster):
        wanted, present = count.get("identitiesWanted", 0), count.get("identitiesPresent")
        idle = not count.get("identitiesInFlight") and not count.get("identitiesQuarantined")
        if present is not None and present < wanted and idle:
            fix = "mic adds them at its next comparison; if this stays, somebody else changes the machine's identities"
            yield Found(f"host {host}", f"has {present} of the {wanted} identities that belong there", fix)


def _throttled(cluster: Cluster) -> Iterator[Found]:
    for told in cluster.mic_told:
        azure = told.part("azure")
        paused = azure.get("pausedSeconds")
        spent = [name for name in ("readsLeft", "writesLeft") if azure.get(name) == 0]
        if (isinstance(paused, int | float) and paused > 0) or spent:
            seen = f"ARM asked it to be silent for {paused} s" if not spent else f"{' and '.join(spent)} is 0"
            fix = "see who else calls ARM with mic's principal: give mic one of its own"
            yield Found(told.pod.key, f"is throttled: {seen}", fix)


def _modes(cluster: Cluster) -> Iterator[Found]:
    mics = {one.namespaced for one in component(cluster, "mic")}
    nmis = {one.namespaced for one in component(cluster, "nmi")}
    if mics and nmis and mics != nmis:
        seen = f"on for {'mic' if True in mics else 'nmi'} only"
        yield Found("--forceNamespaced", f"is {seen}", "give it to both or to none, as a flag or as FORCENAMESPACED")


def _spent_flags(cluster: Cluster) -> Iterator[Found]:
    for name, flags in SPENT.items():
        for owner, pod in {one.owner: one for one in component(cluster, name)}.items():
            given = [f"--{flag}" for flag in flags if pod.flag(flag)]
            if given:
                yield Found(owner, f"has flags without effect: {', '.join(given)}", "take them out")


RULES: Final = (
    Rule("PI001-two-mics", "error", "Two installations of mic", ("pods",), _two_mics),
    Rule("PI002-version-skew", "warning", "mic and nmi of several versions", ("pods",), _skew),
    Rule("PI003-no-mic", "error", "No mic is ready", ("pods",), _no_mic),
    Rule("PI004-one-mic", "note", "A single mic", ("pods",), _one_mic),
    Rule("PI005-no-leader", "error", "Nobody leads, or the leader is silent", ("pods", "locks"), _no_leader),
    Rule("PI006-two-leaders", "error", "Lease and Endpoints name different leaders", ("locks",), _two_leaders),
    Rule("PI007-definitions", "error", "A CustomResourceDefinition is missing or too old", ("pods", "crds"), _crds),
    Rule("PI008-agent-not-ready", "error", "A pod of nmi is not ready", ("pods",), _agent_not_ready),
    Rule("PI009-not-ready", "error", "A component names its trouble", ("mic_told", "nmi_told"), _not_ready_told),
    Rule("PI010-no-redirect", "error", "A node without guard and redirect", ("nmi_told",), _redirect),
    Rule("PI011-no-agent", "error", "Pods in need on a node without nmi", ("pods",), _no_agent),
    Rule("PI012-two-agents", "error", "Two installations of nmi", ("pods",), _two_agents),
    Rule("PI013-silent-watch", "error", "mic has not heard of a kind for long", ("mic_told",), _silent),
    Rule("PI014-quarantined", "error", "Identities that Azure refuses", ("mic_told",), _quarantined),
    Rule("PI015-host-in-trouble", "error", "Machines that mic cannot change", ("mic_told",), _trouble),
    Rule("PI016-drift", "warning", "Machines without identities that belong there", ("mic_told",), _drift),
    Rule("PI017-throttled", "warning", "ARM throttles mic", ("mic_told",), _throttled),
    Rule("PI018-modes-differ", "error", "Namespaced mode in one component only", ("pods",), _modes),
    Rule("PI019-flags-without-effect", "note", "Flags that do nothing", ("pods",), _spent_flags),
)
