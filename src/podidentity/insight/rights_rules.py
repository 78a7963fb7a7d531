"""Rules of ``podidentity doctor`` about rights, and about Services that stand for the metadata service. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from podidentity.api import constants
from podidentity.api.constants import TYPE_USER_ASSIGNED
from podidentity.insight.cluster import Cluster, component
from podidentity.insight.findings import Found, Rule, named
from podidentity.insight.rbac import Grant, grants

WRITES: Final = ("create", "update", "patch", "delete", "deletecollection")
TAKEN: Final = {"169.254.169.254": "the metadata service", "168.63.129.16": "WireServer"}
_CRD: Final = constants.GROUP
_MICS: Final = frozenset({"aad-pod-id-mic-service-account", "aad-pod-identity-mic"})
"""Accounts of mic as it is shipped: while no pod of mic is there to tell its own."""
_LIST: Final = frozenset({"list", "watch"})
_LOCK: Final = frozenset({"create", "get", "update"})
RIGHTS: Final[Mapping[str, Mapping[tuple[str, str], frozenset[str]]]] = {
    "mic": {
        ("", "pods"): _LIST,
        ("", "nodes"): _LIST | {"patch"},
        ("", "events"): frozenset({"create", "patch"}),
        ("", "configmaps"): _LOCK,
        ("", "endpoints"): _LOCK,
        ("coordination.k8s.io", "leases"): _LOCK,
        ("apps", "deployments/scale"): frozenset({"patch"}),
        (_CRD, "azureidentities"): _LIST,
        (_CRD, "azureidentitybindings"): _LIST,
        (_CRD, "azureassignedidentities"): _LIST | {"get", "create", "update", "patch", "delete"},
        ("policy", "podsecuritypolicies"): frozenset({"use"}),
    },
    "nmi": {
        ("", "pods"): _LIST | {"get"},
        ("", "secrets"): frozenset({"get"}),
        (_CRD, "azureassignedidentities"): _LIST,
        (_CRD, "azurepodidentityexceptions"): _LIST,
        (_CRD, "azureidentities"): _LIST,
        (_CRD, "azureidentitybindings"): _LIST,
        ("authentication.k8s.io", "tokenreviews"): frozenset({"create"}),
        ("policy", "podsecuritypolicies"): frozenset({"use"}),
    },
}
"""What docs/reference/rbac.md lists: group and resource to verbs."""
_NAMED: Final = frozenset({"configmaps", "endpoints", "leases", "deployments/scale"})
"""Resources that mic writes one object of: more than ``create`` is for one name."""
_WIDE: Final = "apply the roles of deploy/deployment-rbac.yaml or of the chart; docs/reference/rbac.md has each right"


def _grants(cluster: Cluster) -> Iterator[Grant]:
    return grants(cluster.roles, cluster.role_bindings)


def _accounts(cluster: Cluster, name: str) -> set[tuple[str, str]]:
    return {(one.namespace, one.spec.service_account_name) for one in component(cluster, name)}


def _of(grant: Grant, accounts: set[tuple[str, str]]) -> bool:
    subject = grant.subject
    return subject.kind == "ServiceAccount" and (subject.namespace or grant.namespace, subject.name) in accounts


def _writers(cluster: Cluster, kinds: tuple[str, ...]) -> dict[str, set[str]]:
    """Who may write one of the kinds, and by which binding; without mic."""
    found: dict[str, set[str]] = defaultdict(set)
    mics = _accounts(cluster, "mic")
    for grant in _grants(cluster):
        shipped = not mics and grant.subject.name in _MICS
        if shipped or _of(grant, mics) or _anything(grant):
            continue
        if any(grant.rule.gives(verb, _CRD, kind) for verb in WRITES for kind in kinds):
            found[str(grant.subject)].add(grant.binding)
    return found


def _anything(grant: Grant) -> bool:
    return not grant.namespace and grant.rule.gives("*", "*", "*")


def _administrators(cluster: Cluster) -> Iterator[Found]:
    ways: dict[str, set[str]] = defaultdict(set)
    for grant in _grants(cluster):
        if _anything(grant):
            ways[str(grant.subject)].add(grant.binding)
    for subject, found in ways.items():
        fix = "see that this is wanted: who may do anything has every identity of the cluster"
        yield Found(subject, f"may do anything, by {named(found)}", fix)


def _record_writers(cluster: Cluster) -> Iterator[Found]:
    for subject, ways in _writers(cluster, ("azureassignedidentities",)).items():
        fix = "leave that to mic: a record gives any pod any identity that its machine has"
        yield Found(subject, f"may write azureassignedidentities, by {named(ways)}", fix)


def _identity_writers(cluster: Cluster) -> Iterator[Found]:
    kinds = ("azureidentities", "azureidentitybindings", "azurepodidentityexceptions")
    for subject, ways in _writers(cluster, kinds).items():
        fix = "see that this is wanted: it decides which pods get which identities"
        yield Found(subject, f"may write identities, bindings or exceptions, by {named(ways)}", fix)


def _excess(grant: Grant, allowed: Mapping[tuple[str, str], frozenset[str]]) -> Iterator[str]:
    for group in grant.rule.api_groups:
        for kind in grant.rule.resources:
            more = set(grant.rule.verbs) - allowed.get((group, kind), frozenset())
            if kind in _NAMED and not grant.rule.resource_names:
                more |= set(grant.rule.verbs) - {"create"}
            yield from (f"{verb} {kind}" for verb in more)


def _too_wide(cluster: Cluster) -> Iterator[Found]:
    for name, allowed in RIGHTS.items():
        accounts = _accounts(cluster, name)
        more = {one for grant in _grants(cluster) if _of(grant, accounts) for one in _excess(grant, allowed)}
        if more:
            yield Found(name, f"has more rights than it uses: {named(more, 6)}", _WIDE)


def _all_secrets(cluster: Cluster) -> Iterator[Found]:
    if any(one.spec.type != TYPE_USER_ASSIGNED for one in cluster.identities):
        return
    nmis = _accounts(cluster, "nmi")
    for grant in _grants(cluster):
        every = not grant.namespace and not grant.rule.resource_names
        if every and _of(grant, nmis) and grant.rule.gives("get", "", "secrets"):
            fix = "take it away: docs/howto/restrict-secrets.md"
            yield Found(str(grant.subject), "may read every Secret, and no identity has one", fix)
            return


def _taken_address(cluster: Cluster) -> Iterator[Found]:
    seen = [(f"service {one.key}", one.addresses) for one in cluster.services]
    seen += [(f"endpointslice {one.key}", one.addresses) for one in cluster.slices]
    for subject, addresses in seen:
        for address in sorted(addresses & TAKEN.keys()):
            fix = "delete it and ask who made it: it takes the traffic for that address, the node's own too"
            yield Found(subject, f"claims {address}, the address of {TAKEN[address]}", fix)


_RBAC: Final = ("pods", "roles", "role_bindings")
RULES: Final = (
    Rule("PI050-record-writers", "warning", "Others than mic may write its records", _RBAC, _record_writers),
    Rule("PI051-identity-writers", "note", "Who may write identities and bindings", _RBAC, _identity_writers),
    Rule("PI052-rights-too-wide", "warning", "mic or nmi may do more than it does", _RBAC, _too_wide),
    Rule("PI053-every-secret", "note", "nmi may read Secrets in vain", (*_RBAC, "identities"), _all_secrets),
    Rule("PI054-taken-address", "error", "A Service with Azure's address", ("services", "slices"), _taken_address),
    Rule("PI055-administrators", "note", "Who may do anything", ("roles", "role_bindings"), _administrators),
)
