"""Each rule of ``podidentity doctor`` fires on its fault, is silent beside it, and reads only what it says it needs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from tests.insight.clusters import (
    AGENT,
    HEALTHY,
    JUST_NOW,
    KINDS,
    LONG_AGO,
    MICS,
    NOW,
    RESOURCE,
    binding,
    component,
    crd,
    exception,
    identity,
    lock,
    mic_told,
    nmi_told,
    pod,
    principal,
    record,
)

from podidentity.api.constants import GROUP
from podidentity.api.core import Node
from podidentity.api.meta import ObjectMeta
from podidentity.insight.cluster import (
    Cluster,
    Endpoint,
    EndpointSlice,
    HostPath,
    Ingress,
    LoadBalancer,
    SecretSeen,
    Service,
    ServiceSpec,
    ServiceStatus,
    Volume,
)
from podidentity.insight.doctor import RULES
from podidentity.insight.findings import examine, named, reaches
from podidentity.insight.look import Hidden
from podidentity.insight.rbac import PolicyRule, Role, RoleBinding, RoleRef, Subject
from podidentity.insight.sarif import sarif

ROOT = Path(__file__).resolve().parents[2]
KUBENET = "--allow-network-plugin-kubenet=true"
BEHAVIOR = {"aadpodidentity.k8s.io/Behavior": "namespaced"}


def pods(*more: object) -> Cluster:
    """The healthy cluster with these pods instead of its own."""
    return replace(HEALTHY, pods=more)  # type: ignore[arg-type]  # pods


def also(*more: object) -> Cluster:
    """The healthy cluster with more pods."""
    return pods(*HEALTHY.pods, *more)


def allowed(verb: str, kind: str, *, who: str = "mic-account", group: str = GROUP, **more: object) -> Cluster:
    """The healthy cluster with one right more."""
    rule = PolicyRule(api_groups=(group,), resources=(kind,), verbs=(verb,), **more)  # type: ignore[arg-type]  # by name
    role = Role(metadata=ObjectMeta(name="r"), rules=(rule,))
    subject = Subject(kind="ServiceAccount", namespace="default", name=who)
    ref = RoleRef(kind="ClusterRole", name="r")
    bound = RoleBinding(metadata=ObjectMeta(name="b"), role_ref=ref, subjects=(subject,))
    return replace(HEALTHY, roles=(role,), role_bindings=(bound,))


def balanced(address: str) -> Service:
    """A Service whose load balancer is said to have an address."""
    return Service(status=ServiceStatus(load_balancer=LoadBalancer(ingress=(Ingress(ip=address),))))


BROKEN: dict[str, list[tuple[Cluster, str]]] = {
    "PI001-two-mics": [(also(component("mic-9", owner="aad-pod-identity-mic")), "default/aad-pod-identity-mic")],
    "PI002-version-skew": [(also(component("mic-9", image="r/mic:v1.8.17")), "v0.1.0: default/mic-0")],
    "PI003-no-mic": [
        (pods(AGENT, component("mic-0", ready=False)), "none of its pods is ready: default/mic-0"),
        (pods(AGENT), "there is no pod of mic"),
        (pods(pod()), "there is no pod of mic"),
    ],
    "PI004-one-mic": [(pods(MICS[0], AGENT), "default/mic-0")],
    "PI005-no-leader": [
        (replace(HEALTHY, locks=(lock("leases", ""),)), "nobody holds the lead"),
        (replace(HEALTHY, locks=(lock("leases", renewed=LONG_AGO),)), "leases default/aad-pod-identity-mic: mic-0"),
    ],
    "PI006-two-leaders": [
        (replace(HEALTHY, locks=(lock("leases"), lock("endpoints", "old"))), "endpoints: old, leases: mic-0")
    ],
    "PI007-definitions": [
        (replace(HEALTHY, crds=HEALTHY.crds[1:]), "azureassignedidentities.aadpodidentity.k8s.io"),
        (replace(HEALTHY, crds=(*HEALTHY.crds[1:], crd(KINDS[0], "v1beta1"))), "does not serve v1: v1beta1"),
    ],
    "PI008-agent-not-ready": [(also(component("nmi-1", ready=False, node="node-1")), "default/nmi-1")],
    "PI009-not-ready": [
        (replace(HEALTHY, nmi_told=nmi_told(notReady=["no pods yet"])), "no pods yet"),
        (replace(HEALTHY, mic_told=mic_told(notReady=["may not list pods"])), "may not list pods"),
    ],
    "PI010-no-redirect": [(replace(HEALTHY, nmi_told=nmi_told(datapath={"inPlace": False})), "default/nmi-0")],
    "PI011-no-agent": [(also(pod("far", node="node-7")), "node node-7: no pod of nmi is on it, and team/far")],
    "PI012-two-agents": [(also(component("nmi-x", owner="old")), "default/nmi, default/old")],
    "PI013-silent-watch": [
        (replace(HEALTHY, mic_told=mic_told(watches={"nodes": {"listed": True, "ageSeconds": 151.0}})), "nodes"),
        (replace(HEALTHY, mic_told=mic_told(watches={"pods": {"listed": False, "ageSeconds": None}})), "not list pods"),
    ],
    "PI014-quarantined": [
        (replace(HEALTHY, mic_told=mic_told(identitiesQuarantined=2)), "host node-0: Azure refuses 2")
    ],
    "PI015-host-in-trouble": [(replace(HEALTHY, mic_told=mic_told(inTrouble=True)), "host node-0")],
    "PI016-drift": [(replace(HEALTHY, mic_told=mic_told(identitiesPresent=0)), "has 0 of the 1")],
    "PI017-throttled": [
        (replace(HEALTHY, mic_told=mic_told(pausedSeconds=30.0)), "silent for 30.0 s"),
        (replace(HEALTHY, mic_told=mic_told(writesLeft=0)), "writesLeft is 0"),
    ],
    "PI018-modes-differ": [
        (pods(*MICS, component("nmi-0", "--forceNamespaced"), pod()), "on for nmi only"),
        (pods(component("mic-0", env={"FORCENAMESPACED": "true"}), AGENT, pod()), "on for mic only"),
    ],
    "PI019-flags-without-effect": [(also(component("nmi-1", "--host-ip=1.2.3.4")), "--host-ip")],
    "PI020-missing-identity": [(replace(HEALTHY, bindings=(binding(to="ap"),)), "AzureIdentity team/ap is not there")],
    "PI021-idle-binding": [(replace(HEALTHY, bindings=(*HEALTHY.bindings, binding("none", name="b2"))), "team/b2")],
    "PI022-idle-identity": [(replace(HEALTHY, identities=(*HEALTHY.identities, identity("spare"))), "team/spare")],
    "PI023-no-binding": [(also(pod("job", "wep")), "selector wep: no binding has it, team/job")],
    "PI024-invalid-identity": [(replace(HEALTHY, identities=(identity(resource="/x"),)), "'/x' is not")],
    "PI025-client-ids": [
        (
            replace(HEALTHY, identities=(identity(), identity("b", client="other", resource=RESOURCE + "APP"))),
            "team/app, team/b: give 2 client ids",
        ),
        (replace(HEALTHY, identities=(identity(), identity("b", client="CLIENT-app"))), "to 2 resource ids"),
    ],
    "PI026-stuck": [
        (replace(HEALTHY, assigned=(record(deletion_timestamp=LONG_AGO, finalizers=("f",)),)), "its finalizer holds it")
    ],
    "PI027-orphaned": [(replace(HEALTHY, assigned=(record(of="gone"),)), "its pod team/gone is not there")],
    "PI028-waiting": [(replace(HEALTHY, assigned=(record("Created"),)), "is Created for")],
    "PI029-record-differs": [
        (replace(HEALTHY, assigned=(record(copy=identity(client="admin")),)), "clientID differ from AzureIdentity"),
    ],
    "PI030-out-of-scope": [
        (also(pod("w2", namespace="other"), component("nmi-1", "--forceNamespaced=true")), "pod other/w2: team/bind"),
        (replace(also(pod("w2", namespace="other")), identities=(identity(**BEHAVIOR),)), "pod other/w2"),
    ],
    "PI031-other-namespaces": [
        (also(pod("w2", namespace="other")), "identity team/app: is used from other namespaces")
    ],
    "PI032-host-network": [(also(pod("w2", host_network=True)), "pod team/w2")],
    "PI033-secret-elsewhere": [(replace(HEALTHY, identities=(principal(secret_namespace="x"),)), "namespace x")],
    "PI034-own-endpoint": [(replace(HEALTHY, identities=(principal(endpoint="https://evil"),)), "https://evil")],
    "PI035-outside-azure": [
        (replace(HEALTHY, nodes=(Node(metadata=ObjectMeta(name="node-0")),)), "node node-0: is no machine of Azure")
    ],
    "PI036-unusable-secret": [
        (replace(HEALTHY, secrets=(SecretSeen("team/s", "team/sp", "is not there"),)), "secret team/s: is not there")
    ],
    "PI037-certificate-ends": [
        (replace(HEALTHY, secrets=(SecretSeen("team/s", "team/sp", "", NOW + 86400),)), "ends on 2027-01-16")
    ],
    "PI040-let-through": [(replace(HEALTHY, exceptions=(exception("x", "team", aadpodidbinding="WEB"),)), "team/web")],
    "PI041-idle-exception": [(replace(HEALTHY, exceptions=(exception("x", "team", app="no"),)), "exception team/x")],
    "PI042-identity-unused": [
        (replace(HEALTHY, exceptions=(exception("x", "team", aadpodidbinding="web"),)), "exception team/x lets it past")
    ],
    "PI043-second-interface": [(also(pod("w2", annotations={"k8s.v1.cni.cncf.io/networks": "sriov"})), "pod team/w2")],
    "PI044-shared-bridge": [
        (pods(*MICS, component("nmi-0", KUBENET), pod("w2", drop=())), "node node-0: kubenet is allowed unchecked")
    ],
    "PI045-machine-credentials": [
        (also(pod("w2", volumes=(Volume(host_path=HostPath(path=path)),))), f"mounts the node's {path},")
        for path in ("/", "/etc", "/etc/kubernetes/", "/etc/kubernetes/azure.json")
    ],
    "PI046-unsafe-flags": [
        (also(component("nmi-9", flag, owner="old")), flag)
        for flag in ("--metadata-header-required=false", "--source-check=off", "--allow-cross-namespace-secrets=true")
    ],
    "PI047-host-network-pods": [(also(pod("w2", "", host_network=True)), "namespace team: w2")],
    "PI050-record-writers": [
        (allowed("*", "azureassignedidentities", who="robot"), "ServiceAccount default/robot: may write"),
        (allowed("patch", "*", who="robot", group="*"), "ClusterRoleBinding b"),
    ],
    "PI051-identity-writers": [(allowed("create", "azureidentities", who="robot"), "may write identities")],
    "PI052-rights-too-wide": [
        (allowed("get", "azureidentities"), "mic: has more rights than it uses: get azureidentities"),
        (allowed("*", "*", group="*", who="nmi-account"), "nmi: has more rights than it uses: * *"),
        (allowed("update", "configmaps", group=""), "update configmaps"),
    ],
    "PI053-every-secret": [(allowed("get", "secrets", group="", who="nmi-account"), "may read every Secret")],
    "PI055-administrators": [(allowed("*", "*", who="robot", group="*"), "ServiceAccount default/robot: may do any")],
    "PI054-taken-address": [
        (replace(HEALTHY, services=(Service(spec=ServiceSpec(external_ips=("169.254.169.254",))),)), "the metadata"),
        (replace(HEALTHY, services=(balanced("168.63.129.16"),)), "WireServer"),
        (replace(HEALTHY, slices=(EndpointSlice(endpoints=(Endpoint(addresses=("169.254.169.254",)),)),)), "claims"),
    ],
}
"""Of each rule: clusters that break it, and words of what is said."""

SOUND: dict[str, Cluster] = {
    "PI003-no-mic": pods(component("nmi-0", "--operation-mode", "managed", "--forceNamespaced"), pod()),
    "PI005-no-leader": replace(HEALTHY, locks=(lock("leases"),)),
    "PI006-two-leaders": replace(HEALTHY, locks=(lock("leases"), lock("endpoints", ""))),
    "PI007-definitions": replace(
        pods(component("nmi-0", "--operation-mode=managed")), crds=tuple(crd(kind) for kind in KINDS[1:])
    ),
    "PI011-no-agent": also(pod("far", "", node="node-7")),
    "PI013-silent-watch": replace(HEALTHY, mic_told=mic_told(watches={"a": {"listed": True, "ageSeconds": 149.9}})),
    "PI016-drift": replace(HEALTHY, mic_told=mic_told(identitiesPresent=0, identitiesInFlight=1)),
    "PI018-modes-differ": pods(
        component("mic-0", "-forceNamespaced=true"), component("nmi-0", env={"FORCENAMESPACED": "true"})
    ),
    "PI026-stuck": replace(HEALTHY, assigned=(record(deletion_timestamp=JUST_NOW, finalizers=("f",)),)),
    "PI027-orphaned": replace(HEALTHY, assigned=(record(of="gone", creation_timestamp=JUST_NOW),)),
    "PI028-waiting": replace(HEALTHY, assigned=(record("Created", creation_timestamp=JUST_NOW),)),
    "PI031-other-namespaces": replace(also(pod("w2", namespace="other")), identities=(identity(**BEHAVIOR),)),
    "PI040-let-through": replace(HEALTHY, exceptions=(exception("x", "other", aadpodidbinding="web"),)),
    "PI044-shared-bridge": pods(component("nmi-0", KUBENET, "--cni-results=/x"), pod("w2", drop=())),
    "PI045-machine-credentials": also(pod("w2", volumes=(Volume(host_path=HostPath(path="/etc/kube")), Volume()))),
    "PI046-unsafe-flags": also(component("nmi-0", "--block-wireserver=true", "--source-check=on")),
    "PI047-host-network-pods": also(pod("w2", "", host_network=True, namespace="kube-system")),
    "PI050-record-writers": allowed("*", "*", who="robot", group="*"),
    "PI051-identity-writers": allowed("create", "azureassignedidentities"),
    "PI052-rights-too-wide": allowed("update", "configmaps", group="", resource_names=("aad-pod-identity-config",)),
    "PI053-every-secret": allowed("get", "secrets", group="", who="nmi-account", resource_names=("s",)),
    "PI055-administrators": allowed("patch", "*", who="robot", group="*"),
    "PI054-taken-address": replace(HEALTHY, services=(balanced("20.0.0.1"), Service())),
}
"""Of some rules: what looks like a breach and is none."""


class Recorder:
    """A cluster that remembers which of its fields were read."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.read: set[str] = set()

    def __getattr__(self, name: str) -> object:
        """A field."""
        self.read.add(name)
        return getattr(self.cluster, name)


def said(cluster: Cluster) -> dict[str, list[str]]:
    """What each rule says."""
    found: dict[str, list[str]] = {}
    for one in examine(cluster, RULES).findings:
        found.setdefault(one.rule, []).append(f"{one.subject}: {one.evidence}")
        assert one.fix
        assert "\n" not in one.evidence
    return found


def test_every_rule_is_tried() -> None:
    """No rule without a case that makes it fire, no id or number twice."""
    ids = [one.id for one in RULES]
    assert set(BROKEN) == set(ids)
    assert len({one.partition("-")[0] for one in ids}) == len(ids)


@pytest.mark.parametrize("rule", BROKEN)
def test_a_rule_fires(rule: str) -> None:
    """Each fault is found by its rule, and names what is broken."""
    for cluster, words in BROKEN[rule]:
        found = said(cluster)
        assert any(words in one for one in found.get(rule, [])), found


def test_no_rule_fires_on_a_healthy_cluster() -> None:
    """A cluster in which all is well gets no finding, and every rule is judged."""
    report = examine(HEALTHY, RULES)
    assert (report.findings, report.unseen, report.worst()) == ((), (), None)


@pytest.mark.parametrize("rule", SOUND)
def test_what_looks_like_a_breach_and_is_none(rule: str) -> None:
    """The limits of rules: in time, by mode, by what is under way."""
    assert rule not in said(SOUND[rule])


@pytest.mark.parametrize("rule", RULES, ids=lambda one: one.id)
def test_a_rule_reads_what_it_says_it_needs(rule: object) -> None:
    """A rule that read something hidden would judge an empty cluster."""
    assert hasattr(rule, "check")
    for cluster in (HEALTHY, *(one for one, _ in BROKEN[rule.id])):  # type: ignore[attr-defined]  # a Rule
        recorder = Recorder(cluster)
        list(rule.check(recorder))
        assert recorder.read <= {*rule.needs, "now"}  # type: ignore[attr-defined]  # a Rule


def test_what_is_hidden_is_not_judged() -> None:
    """Without the right, a rule is told with the right that shows it; it does not take hidden for empty."""
    hidden = Hidden("forbidden", "list azureidentities in the whole cluster")
    report = examine(replace(HEALTHY, identities=(), hidden={"identities": hidden}), RULES)
    assert report.findings == ()
    rules = {one.rule for one in report.unseen}
    assert rules == {one.id for one in RULES if "identities" in one.needs}
    assert {one.right for one in report.unseen} == {hidden.right}


def test_severities() -> None:
    """Worst first, and a limit holds for what is worse too."""
    report = examine(also(component("nmi-1", "--host-ip=1.2.3.4", ready=False, image="x:2")), RULES)
    assert [one.severity for one in report.findings] == ["error", "warning", "note"]
    assert report.worst() == "error"
    assert [reaches(one, "warning") for one in ("error", "warning", "note", None)] == [True, True, False, False]
    assert named("edcba") == "a, b, c and 2 more"


def test_sarif() -> None:
    """What SARIF 2.1.0 demands of a log: version, runs, a driver with unique rules, indexes that fit, known levels."""
    hidden = Hidden("no", "get pods/proxy")
    report = examine(replace(BROKEN["PI023-no-binding"][0][0], hidden={"mic_told": hidden}), RULES)
    log = sarif(report, RULES, "1.2.3")
    assert (log["version"], set(log)) == ("2.1.0", {"$schema", "version", "runs"})
    (run,) = log["runs"]  # type: ignore[misc]  # a list
    rules = run["tool"]["driver"]["rules"]
    assert max(Counter(one["id"] for one in rules).values()) == 1
    assert [rules[one["ruleIndex"]]["id"] for one in run["results"]] == [one.rule for one in report.findings]
    assert {one["level"] for one in run["results"]} == {"error"}
    assert all(one["message"]["text"] and one["locations"] for one in run["results"])
    told = run["invocations"][0]["toolExecutionNotifications"]
    assert len(told) == len(report.unseen) > 0
    assert "needs the right to get pods/proxy" in told[0]["message"]["text"]


def test_the_page_lists_the_rules() -> None:
    """Whoever looks a rule up finds it as it is."""
    page = (ROOT / "docs/reference/doctor.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `PI")]
    assert rows == [f"| `{one.id}` | {one.severity} | {one.title} | {', '.join(one.needs)} |" for one in RULES]


@pytest.mark.parametrize(
    "file", ["deployment-rbac.yaml", "managed-mode-deployment.yaml", "nmi-secrets-restricted.yaml"]
)
def test_what_is_shipped_is_not_too_wide(file: str) -> None:
    """The roles in deploy/ give what the rule allows, and no more."""
    documents = list(yaml.safe_load_all((ROOT / "deploy" / file).read_text()))

    def of(kind: type[Any], *names: str) -> tuple[Any, ...]:
        return tuple(msgspec.convert(one, kind) for one in documents if one["kind"] in names)

    bindings = of(RoleBinding, "RoleBinding", "ClusterRoleBinding")
    space = bindings[0].subjects[0].namespace
    made = [component("nmi-0", namespace=space), component("mic-0", namespace=space)]
    pods = tuple(
        msgspec.structs.replace(
            one,
            spec=msgspec.structs.replace(one.spec, service_account_name=f"aad-pod-id-{one.component}-service-account"),
        )
        for one in made
    )
    roles = of(Role, "Role", "ClusterRole")
    assert roles
    found = said(replace(HEALTHY, pods=pods, roles=roles, role_bindings=bindings))
    assert not found.keys() & {"PI050-record-writers", "PI051-identity-writers", "PI052-rights-too-wide"}, found


def test_mics_account_is_known_while_mic_is_away() -> None:
    """The shipped account may write records before its first pod is there, and only until another is."""
    cluster = allowed("create", "azureassignedidentities", who="aad-pod-identity-mic")
    assert "PI050-record-writers" in said(cluster)
    assert "PI050-record-writers" not in said(replace(cluster, pods=(AGENT,)))


def test_what_a_cluster_has_for_its_own_parts_is_no_finding() -> None:
    """Kubernetes' own bindings give its controllers all; somebody added to one of them is found."""
    cluster = allowed("patch", "*", who="robot", group="*")
    bound = cluster.role_bindings[0]
    own = msgspec.structs.replace(
        bound,
        metadata=ObjectMeta(name="cluster-admin", labels={"kubernetes.io/bootstrapping": "rbac-defaults"}),
        subjects=(Subject(kind="Group", name="system:masters"),),
    )
    assert "PI050-record-writers" not in said(replace(cluster, role_bindings=(own,)))
    mixed = msgspec.structs.replace(own, subjects=(*(own.subjects or ()), *(bound.subjects or ())))
    assert len(said(replace(cluster, role_bindings=(mixed,)))["PI050-record-writers"]) == 1
