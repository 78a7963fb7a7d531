"""Rules of ``podidentity doctor`` about identities, bindings, records and the pods that want them. Pure."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from podidentity.api.constants import STATE_CREATED, TYPE_USER_ASSIGNED
from podidentity.insight.cluster import Cluster, age, component, living
from podidentity.insight.findings import Found, Rule, named
from podidentity.rules.identity_problem import identity_problem
from podidentity.rules.resource_id import fold, parse_provider_id
from podidentity.rules.selection import identity_key, in_scope, selector_of, wants_identities

SLOW: Final = 300.0
STUCK: Final = 600.0
"""Seconds; the removal of an identity lingers for two minutes and takes one PATCH."""


def _missing_identity(cluster: Cluster) -> Iterator[Found]:
    there = {one.key for one in cluster.identities}
    for one in cluster.bindings:
        wanted = identity_key(one)
        if wanted not in there:
            near = difflib.get_close_matches(wanted, there, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            fix = f"create the AzureIdentity in namespace {one.namespace}, or change spec.azureIdentity{hint}"
            yield Found(f"binding {one.key}", f"AzureIdentity {wanted} is not there", fix)


def _idle_binding(cluster: Cluster) -> Iterator[Found]:
    used = {selector_of(one) for one in living(cluster)}
    for one in cluster.bindings:
        if one.spec.selector not in used:
            yield Found(
                f"binding {one.key}", f"no pod has the label {one.spec.selector!r}", "delete it if nobody needs it"
            )


def _idle_identity(cluster: Cluster) -> Iterator[Found]:
    bound = {identity_key(one) for one in cluster.bindings}
    for one in cluster.identities:
        if one.key not in bound:
            fix = "delete it if nobody needs it: who may write bindings may use it"
            yield Found(f"identity {one.key}", "no binding names it", fix)


def _no_binding(cluster: Cluster) -> Iterator[Found]:
    selectors = {one.spec.selector for one in cluster.bindings}
    without: dict[str, list[str]] = defaultdict(list)
    for pod in living(cluster):
        if selector_of(pod) and selector_of(pod) not in selectors:
            without[selector_of(pod)].append(pod.key)
    for selector, pods in without.items():
        near = difflib.get_close_matches(selector, selectors, 1)
        hint = f", or mend it: there is one for {near[0]!r}" if near else ""
        fix = f"create an AzureIdentityBinding with spec.selector {selector}{hint}"
        yield Found(f"selector {selector}", f"no binding has it, {named(pods)} wait for one", fix)


def _invalid_identity(cluster: Cluster) -> Iterator[Found]:
    for one in cluster.identities:
        problem = identity_problem(one)
        if problem:
            yield Found(f"identity {one.key}", problem, f"mend AzureIdentity {one.key}")


def _client_ids(cluster: Cluster) -> Iterator[Found]:
    clients: dict[str, set[str]] = defaultdict(set)
    resources: dict[str, set[str]] = defaultdict(set)
    names: dict[str, set[str]] = defaultdict(set)
    for one in cluster.identities:
        client, resource = fold(one.spec.client_id), fold(one.spec.resource_id).strip("/")
        if one.spec.type != TYPE_USER_ASSIGNED or not client or not resource:
            continue
        clients[resource].add(client)
        resources[client].add(resource)
        for key in (client, resource):
            names[key].add(one.key)
    fix = "compare with: az identity show --ids RESOURCE_ID --query clientId; nmi trusts spec.clientID"
    for resource, found in clients.items():
        if len(found) > 1:
            seen = f"give {len(found)} client ids to the one identity {resource.rpartition('/')[2]}"
            yield Found(f"identities {named(names[resource])}", seen, fix)
    for client, several in resources.items():
        if len(several) > 1:
            yield Found(f"identities {named(names[client])}", f"give one client id to {len(several)} resource ids", fix)


def _stuck(cluster: Cluster) -> Iterator[Found]:
    for one in cluster.assigned:
        waiting = age(cluster, one.metadata.deletion_timestamp)
        if one.metadata.deletion_timestamp and one.metadata.finalizers and waiting > STUCK:
            fix = "let mic take it off its host; without mic: take the identity off by hand, then remove the finalizer"
            yield Found(f"record {one.key}", f"is being deleted for {waiting:.0f} s, its finalizer holds it", fix)


def _orphaned(cluster: Cluster) -> Iterator[Found]:
    pods = {one.key for one in cluster.pods}
    for one in cluster.assigned:
        pod = f"{one.spec.pod_namespace}/{one.spec.pod}"
        if (
            pod not in pods
            and not one.metadata.deletion_timestamp
            and age(cluster, one.metadata.creation_timestamp) > STUCK
        ):
            fix = "see whether mic leads and what its log says of this record"
            yield Found(f"record {one.key}", f"its pod {pod} is not there", fix)


def _waiting(cluster: Cluster) -> Iterator[Found]:
    for one in cluster.assigned:
        since = age(cluster, one.metadata.creation_timestamp)
        if one.status.status == STATE_CREATED and not one.metadata.deletion_timestamp and since > SLOW:
            fix = f"podidentity explain {one.spec.pod} -n {one.spec.pod_namespace}"
            yield Found(f"record {one.key}", f"is {STATE_CREATED} for {since:.0f} s: not on its host", fix)


def _differs(cluster: Cluster) -> Iterator[Found]:
    there = {one.key: one for one in cluster.identities}
    for one in cluster.assigned:
        copy = one.spec.azure_identity_ref
        real = there.get(copy.key)
        if real is None or one.metadata.deletion_timestamp:
            continue
        fields = (("clientID", "client_id"), ("resourceID", "resource_id"))
        wrong = [shown for shown, name in fields if fold(getattr(copy.spec, name)) != fold(getattr(real.spec, name))]
        if wrong:
            fix = "find out who wrote it (audit log of the API server); mic writes it anew when it is deleted"
            yield Found(f"record {one.key}", f"{' and '.join(wrong)} differ from AzureIdentity {real.key}", fix)


def _out_of_scope(cluster: Cluster) -> Iterator[Found]:
    identities = {one.key: one for one in cluster.identities}
    forced = any(one.namespaced for one in component(cluster, "nmi"))
    by_selector = defaultdict(list)
    for binding in cluster.bindings:
        by_selector[binding.spec.selector].append(binding)
    for pod in living(cluster):
        pairs = [(one, identities.get(identity_key(one))) for one in by_selector.get(selector_of(pod), ())]
        known = [(binding, identity) for binding, identity in pairs if identity is not None]
        if known and not any(in_scope(pod.namespace, *pair, force_namespaced=forced) for pair in known):
            seen = f"{named(binding.key for binding, _ in known)} select it, but for their own namespace only"
            yield Found(f"pod {pod.key}", seen, f"make identity and binding in namespace {pod.namespace}")


def _other_namespaces(cluster: Cluster) -> Iterator[Found]:
    identities = {one.key: one for one in cluster.identities}
    if any(one.namespaced for one in component(cluster, "nmi")):
        return
    users: dict[str, set[str]] = defaultdict(set)
    for pod in living(cluster):
        users[selector_of(pod)].add(pod.namespace)
    for binding in cluster.bindings:
        identity = identities.get(identity_key(binding))
        foreign = users.get(binding.spec.selector, set()) - {binding.namespace}
        if identity is not None and not identity.namespaced and foreign:
            fix = "if they should not, use namespaced mode: --forceNamespaced, or the annotation on the identity"
            yield Found(f"identity {identity.key}", f"is used from other namespaces: {named(foreign)}", fix)


def _host_network(cluster: Cluster) -> Iterator[Found]:
    for pod in living(cluster):
        if wants_identities(pod) and pod.spec.host_network:
            fix = "set hostNetwork: false, or take the label off"
            yield Found(
                f"pod {pod.key}", "is on the host's network: nmi cannot serve it, it gets the node's tokens", fix
            )


def _secret_elsewhere(cluster: Cluster) -> Iterator[Found]:
    for one in cluster.identities:
        place = one.spec.client_password.namespace
        if one.spec.type != TYPE_USER_ASSIGNED and place and place != one.namespace:
            fix = f"put the Secret into namespace {one.namespace}: nmi refuses others by default"
            yield Found(f"identity {one.key}", f"clientPassword names a Secret of namespace {place}", fix)


def _endpoint(cluster: Cluster) -> Iterator[Found]:
    for one in cluster.identities:
        if one.spec.type != TYPE_USER_ASSIGNED and one.spec.ad_endpoint:
            fix = "leave it out unless you know the server: it is sent the password"
            yield Found(f"identity {one.key}", f"has its own adEndpoint {one.spec.ad_endpoint}", fix)


def _outside_azure(cluster: Cluster) -> Iterator[Found]:
    outside = {one.name for one in cluster.nodes if parse_provider_id(one.spec.provider_id) is None}
    there: dict[str, list[str]] = defaultdict(list)
    for pod in living(cluster):
        if wants_identities(pod) and pod.spec.node_name in outside:
            there[pod.spec.node_name].append(pod.key)
    for node, pods in there.items():
        fix = "run them on nodes that Azure's cloud provider has registered"
        yield Found(f"node {node}", f"is no machine of Azure, and {named(pods)} want identities there", fix)


RULES: Final = (
    Rule(
        "PI020-missing-identity",
        "error",
        "A binding names an identity that is not there",
        ("bindings", "identities"),
        _missing_identity,
    ),
    Rule("PI021-idle-binding", "note", "A binding that selects no pod", ("bindings", "pods"), _idle_binding),
    Rule(
        "PI022-idle-identity", "note", "An identity that no binding names", ("identities", "bindings"), _idle_identity
    ),
    Rule("PI023-no-binding", "error", "Pods whose selector no binding has", ("pods", "bindings"), _no_binding),
    Rule("PI024-invalid-identity", "error", "An identity that mic cannot use", ("identities",), _invalid_identity),
    Rule("PI025-client-ids", "error", "Client id and resource id do not belong together", ("identities",), _client_ids),
    Rule("PI026-stuck", "error", "A record that is not deleted", ("assigned",), _stuck),
    Rule("PI027-orphaned", "warning", "A record of a pod that is gone", ("assigned", "pods"), _orphaned),
    Rule("PI028-waiting", "warning", "A record that is not assigned for long", ("assigned",), _waiting),
    Rule(
        "PI029-record-differs",
        "error",
        "A record that differs from its identity",
        ("assigned", "identities"),
        _differs,
    ),
    Rule(
        "PI030-out-of-scope",
        "error",
        "Bindings that are for another namespace only",
        ("pods", "bindings", "identities"),
        _out_of_scope,
    ),
    Rule(
        "PI031-other-namespaces",
        "note",
        "An identity that other namespaces use",
        ("pods", "bindings", "identities"),
        _other_namespaces,
    ),
    Rule("PI032-host-network", "warning", "A labelled pod on the host's network", ("pods",), _host_network),
    Rule("PI033-secret-elsewhere", "warning", "A Secret of another namespace", ("identities",), _secret_elsewhere),
    Rule("PI034-own-endpoint", "warning", "A password sent to a server of its own", ("identities",), _endpoint),
    Rule("PI035-outside-azure", "error", "A node that is no machine of Azure", ("pods", "nodes"), _outside_azure),
)
