"""Pods, workloads, nodes, roles and bindings as manifests get them wrong, and as controllers write them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.objects import RBAC, path, pod
from tests.contract.servers import STRATEGIC, Server

MAIN = {"name": "main", "image": "x:1"}
LABELS = {"a": "b"}
WRONG_PODS: list[tuple[dict[str, Any], str]] = [
    ({"containers": []}, "spec.containers: Required value"),
    ({"containers": [{"name": "main"}]}, "spec.containers[0].image: Required value"),
    ({"containers": [{"image": "x:1"}]}, "spec.containers[0].name: Required value"),
    (
        {"containers": [{**MAIN, "name": "Main_"}]},
        'spec.containers[0].name: Invalid value: "Main_": a lowercase RFC 1123',
    ),
    ({"containers": [MAIN, MAIN]}, 'spec.containers[1].name: Duplicate value: "main"'),
    ({"containers": [{**MAIN, "imagePullPolicy": "Maybe"}]}, 'imagePullPolicy: Unsupported value: "Maybe": supported'),
    ({"containers": [{**MAIN, "ports": [{}]}]}, "spec.containers[0].ports[0].containerPort: Required value"),
    ({"containers": [{**MAIN, "env": [{"value": "x"}]}]}, "spec.containers[0].env[0].name: Required value"),
    (
        {"restartPolicy": "Sometimes"},
        'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "',
    ),
    ({"volumes": [{"name": "v", "hostPath": {"path": ""}}]}, "spec.volumes[0].hostPath.path: Required value"),
    (
        {"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]},
        "may not specify more than 1 volume type",
    ),
    (
        {"containers": [{**MAIN, "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]},
        'spec.containers[0].volumeMounts[0].name: Not found: "v"',
    ),
]


def workload(name: str, template: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A Deployment or DaemonSet; ``template`` is the pod's spec."""
    pods = {"metadata": {"labels": LABELS}, "spec": {"containers": [MAIN], **(template or {})}}
    return {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": LABELS}, "template": pods, **spec}}


@pytest.mark.parametrize(("spec", "complaint"), WRONG_PODS)
def test_pods_that_are_refused(server: Server, space: str, spec: dict[str, Any], complaint: str) -> None:
    """What no kubelet could run is refused, with the place."""
    answer = server.admin.post(path("pods", space), pod("wrong", **spec))
    assert (answer.status, complaint in answer.message) == (422, True), answer.message


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (
            {"serviceAccountName": "nobody"},
            'error looking up service account SPACE/nobody: serviceaccount "nobody" not',
        ),
        ({"priorityClassName": "none"}, "no PriorityClass with name none was found"),
    ],
)
def test_pods_that_are_not_admitted(server: Server, space: str, spec: dict[str, Any], complaint: str) -> None:
    """An account or a priority that does not exist is 403."""
    answer = server.admin.post(path("pods", space), pod("wrong", **spec))
    assert (answer.status, complaint.replace("SPACE", space) in answer.message) == (403, True), answer.message


def test_what_a_pod_gets(server: Server, space: str, name: str) -> None:
    """Defaults, its account's token, the tolerations of a node that is lost, the ports of its node."""
    ports = [{"containerPort": 80}]
    made = server.make(path("pods", space), pod(name, hostNetwork=True, containers=[{**MAIN, "ports": ports}]))
    spec, container = made["spec"], made["spec"]["containers"][0]
    assert (spec["serviceAccountName"], spec["restartPolicy"], spec["dnsPolicy"]) == (
        "default",
        "Always",
        "ClusterFirst",
    )
    assert container["ports"] == [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]
    assert container["volumeMounts"][0]["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    assert [one["key"] for one in spec["tolerations"]] == [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ]
    assert (made["status"]["phase"], made["status"]["qosClass"]) == ("Pending", "BestEffort")


def test_binding(server: Server, space: str, name: str) -> None:
    """A scheduler assigns a pod once, by its name."""
    server.make(path("pods", space), pod(name))
    where = f"{path('pods', space, name)}/binding"
    body = {"metadata": {"name": name}, "target": {"kind": "Node", "name": "n1"}}
    assert server.admin.post(where, {**body, "metadata": {}}).status == 400
    answer = server.admin.post(where, body)
    assert (answer.status, answer.body["status"]) == (201, "Success")
    bound = server.admin.get(path("pods", space, name)).body
    assert (bound["spec"]["nodeName"], bound["status"]["conditions"][0]["type"]) == ("n1", "PodScheduled")
    again = server.admin.post(where, body)
    assert (again.status, again.reason) == (409, "Conflict")
    assert f'pod {name} is already assigned to node "n1"' in again.message


def test_what_of_a_pod_may_change(server: Server, space: str, name: str) -> None:
    """A toleration more, an image, a deadline; not the node, the account or the grace."""
    server.make(path("pods", space), pod(name))
    where = path("pods", space, name)
    more = [*server.admin.get(where).body["spec"]["tolerations"], {"key": "x", "operator": "Exists"}]
    assert server.admin.patch(where, {"spec": {"tolerations": more}}).status == 200
    for spec in ({"nodeName": "n1"}, {"serviceAccountName": "x"}, {"terminationGracePeriodSeconds": 1}):
        answer = server.admin.patch(where, {"spec": spec})
        assert (answer.status, "pod updates may not change fields other than" in answer.message) == (422, True)
    assert server.admin.patch(where, {"spec": {"tolerations": []}}).status == 422


@pytest.mark.parametrize(
    ("obj", "complaint"),
    [
        (workload("wrong", selector={"matchLabels": {"a": "c"}}), "`selector` does not match template `labels`"),
        (workload("wrong", selector=None), "`selector` does not match template `labels`"),
        (
            workload("wrong", {"restartPolicy": "Never"}),
            'restartPolicy: Unsupported value: "Never": supported values: "Alw',
        ),
        (workload("wrong", {"containers": []}), "spec.template.spec.containers: Required value"),
    ],
)
@pytest.mark.parametrize("resource", ["deployments.apps", "daemonsets.apps"])
def test_workloads_that_are_refused(
    server: Server, space: str, resource: str, obj: dict[str, Any], complaint: str
) -> None:
    """A template that no pod can be made of, or whose pods nobody would find again."""
    answer = server.admin.post(path(resource, space), obj)
    assert (answer.status, complaint in answer.message) == (422, True), answer.message


def test_replicas(server: Server, space: str, name: str) -> None:
    """Scaled through a subresource of its own, never below nothing."""
    answer = server.admin.post(path("deployments.apps", space), workload(name, replicas=-1))
    assert (answer.status, "spec.replicas: Invalid value: -1: must be greater" in answer.message) == (422, True)
    made = server.make(path("deployments.apps", space), workload(name))
    assert (made["spec"]["replicas"], made["metadata"]["generation"]) == (1, 1)
    where = path("deployments.apps", space, name)
    scaled = server.admin.patch(f"{where}/scale", {"spec": {"replicas": 3}})
    assert (scaled.body["kind"], scaled.body["spec"]["replicas"]) == ("Scale", 3)
    assert server.admin.get(where).body["metadata"]["generation"] == 2
    answer = server.admin.patch(f"{where}/scale", {"spec": {"replicas": -3}})
    assert answer.status == 422
    assert answer.message == (
        f'Scale.autoscaling "{name}" is invalid: spec.replicas: Invalid value: -3: must be greater than or equal to 0'
    )


def test_a_daemon_sets_template(server: Server, space: str, name: str) -> None:
    """Its changes are counted, its selector stays."""
    server.make(path("daemonsets.apps", space), workload(name))
    where = path("daemonsets.apps", space, name)
    image = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "x:2"}]}}}}
    changed = server.admin.patch(where, image, STRATEGIC).body["metadata"]
    assert changed["annotations"]["deprecated.daemonset.template.generation"] == "2"
    other = {"matchLabels": {"a": "z"}}
    template = {"metadata": {"labels": {"a": "z"}}}
    answer = server.admin.patch(where, {"spec": {"selector": other, "template": template}})
    assert (answer.status, "field is immutable" in answer.message) == (422, True)


def test_a_node(server: Server, name: str) -> None:
    """Taints have three effects, and a node stays the machine it is."""
    server.make(path("nodes"), {"metadata": {"name": name}, "spec": {"providerID": "azure:///x"}})
    where = path("nodes", name=name)
    try:
        answer = server.admin.patch(where, {"spec": {"taints": [{"key": "a", "effect": "Odd"}]}})
        assert (answer.status, 'metadata.taints[0].effect: Unsupported value: "Odd"' in answer.message) == (422, True)
        answer = server.admin.patch(where, {"spec": {"providerID": "azure:///y"}})
        assert (answer.status, "node updates may not change providerID" in answer.message) == (422, True)
        ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        status = server.admin.patch(f"{where}/status", ready, STRATEGIC).body["status"]
        assert status["conditions"][0]["status"] == "True"
    finally:
        server.admin.delete(where)


@pytest.mark.parametrize("spec", [{}, {"podInfoOnMount": True, "attachRequired": False}])
def test_a_csi_driver(server: Server, name: str, spec: dict[str, Any]) -> None:
    """What a CSIDriver does not say has the value that kubelets go by."""
    collection = path("csidrivers.storage.k8s.io")
    made = server.make(collection, {"metadata": {"name": name}, "spec": spec})["spec"]
    server.admin.delete(f"{collection}/{name}")
    assert made == {
        "attachRequired": True,
        "podInfoOnMount": False,
        "storageCapacity": False,
        "fsGroupPolicy": "ReadWriteOnceWithFSType",
        "requiresRepublish": False,
        "seLinuxMount": False,
        "volumeLifecycleModes": ["Persistent"],
        **spec,
    }


@pytest.mark.parametrize(
    ("plural", "obj", "complaint"),
    [
        (
            "clusterroles",
            {"rules": [{"apiGroups": [""], "resources": ["pods"]}]},
            "rules[0].verbs: Required value: verbs",
        ),
        ("clusterroles", {"rules": [{"apiGroups": [""], "verbs": ["get"]}]}, "rules[0].resources: Required value: "),
        (
            "clusterroles",
            {"rules": [{"resources": ["pods"], "verbs": ["get"]}]},
            "rules[0].apiGroups: Required value: ",
        ),
        ("clusterrolebindings", {"roleRef": {"kind": "Role", "name": "x"}}, 'roleRef.kind: Unsupported value: "Role"'),
        ("clusterrolebindings", {"roleRef": {"kind": "ClusterRole", "name": ""}}, "roleRef.name: Required value"),
        (
            "clusterrolebindings",
            {"roleRef": {"kind": "ClusterRole", "name": "x"}, "subjects": [{"kind": "ServiceAccount", "name": "a"}]},
            "subjects[0].namespace: Required value",
        ),
    ],
)
def test_rights_that_are_refused(server: Server, plural: str, obj: dict[str, Any], complaint: str) -> None:
    """A rule of nothing, a binding to nobody."""
    answer = server.admin.post(f"{RBAC}/{plural}", {"metadata": {"name": "contract-wrong"}, **obj})
    assert (answer.status, complaint in answer.message) == (422, True), answer.message
