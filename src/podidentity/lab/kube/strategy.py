"""What is special about a kind when it is written: defaults, resets, immutable fields (pure but for the clock's value).

A kind without an entry in the tables here has nothing special.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from podidentity.lab.kube import admission, coordination, crds, datamaps, defaults, plainrules, podrules, wrong
from podidentity.lab.kube.errors import Cause, not_here
from podidentity.lab.kube.kinds import Kind
from podidentity.lab.kube.objects import Obj, dig, go_value, meta

_RBAC: Final = "rbac.authorization.k8s.io"
_LEASES: Final = "leases.coordination.k8s.io"
MADE_BY_UPDATE: Final = frozenset(
    [
        *("endpoints", "events", "services", _LEASES),
        *(f"{name}.{_RBAC}" for name in ("clusterroles", "clusterrolebindings", "roles", "rolebindings")),
    ]
)
"""The resources whose objects an update creates where there are none."""

_TEMPLATE_GENERATION: Final = "deprecated.daemonset.template.generation"

Prepare = Callable[[Obj, Obj | None, float], None]
Validate = Callable[[Obj, Obj | None], Iterator[Cause]]


def prepare(resource: str, obj: Obj, old: Obj | None, now: float) -> None:
    """Default ``obj`` in place; ``old`` is None for a create."""
    if found := _PREPARE.get(resource):
        found(obj, old, now)


def versioned(kind: Kind) -> bool:
    """Whether an update has to say which version it is of."""
    return kind.custom or kind.resource == _LEASES


def validate(resource: str, obj: Obj, old: Obj | None) -> Iterator[Cause]:
    """What makes ``obj`` invalid, as itself or as a change of ``old``."""
    if found := _VALIDATE.get(resource):
        yield from found(obj, old)


def _namespace(obj: Obj, old: Obj | None, _now: float) -> None:
    labels = meta(obj).get("labels") or {}
    obj["metadata"]["labels"] = labels | {"kubernetes.io/metadata.name": obj["metadata"]["name"]}
    if old is None:
        obj["spec"] = {"finalizers": ["kubernetes"]}
        obj["status"] = {"phase": "Active"}
    else:
        obj["spec"] = old.get("spec", {})


def _pod(obj: Obj, old: Obj | None, _now: float) -> None:
    defaults.pod_spec(obj.setdefault("spec", {}))
    obj["spec"].setdefault("enableServiceLinks", True)
    if old is None:
        obj["status"] = {"phase": "Pending", "qosClass": defaults.qos_class(obj["spec"])}


def _workload(obj: Obj, old: Obj | None, _now: float) -> None:
    spec = obj.setdefault("spec", {})
    defaults.pod_template(spec.setdefault("template", {}))
    if old is None:
        obj["status"] = {}


def _deployment(obj: Obj, old: Obj | None, now: float) -> None:
    _workload(obj, old, now)
    defaults.deployment_spec(obj["spec"])


def _replica_set(obj: Obj, old: Obj | None, now: float) -> None:
    _workload(obj, old, now)
    obj["spec"].setdefault("replicas", 1)
    if old is None:
        obj["status"] = {"replicas": 0}


def _daemon_set(obj: Obj, old: Obj | None, now: float) -> None:
    _workload(obj, old, now)
    defaults.daemon_set_spec(obj["spec"])
    if old is None:
        _count_template(obj, 1)
        names = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
        obj["status"] = dict.fromkeys(names, 0)
        return
    counted = int(meta(old).get("annotations", {}).get(_TEMPLATE_GENERATION, 0))
    _count_template(obj, counted + (obj["spec"]["template"] != old["spec"]["template"]))


def _count_template(obj: Obj, generation: int) -> None:
    annotations = meta(obj).get("annotations") or {}
    obj["metadata"]["annotations"] = {**annotations, _TEMPLATE_GENERATION: str(generation)}


def _node(obj: Obj, old: Obj | None, _now: float) -> None:
    obj.setdefault("spec", {})
    if old is None:
        obj["status"] = {**defaults.node_status(), **(obj.get("status") or {})}


def _secret(obj: Obj, _old: Obj | None, _now: float) -> None:
    obj.setdefault("type", "Opaque")
    for key, value in (obj.pop("stringData", None) or {}).items():
        obj.setdefault("data", {})[key] = base64.b64encode(str(value).encode()).decode()


def _csi_driver(obj: Obj, _old: Obj | None, _now: float) -> None:
    spec = obj.setdefault("spec", {})
    for name, value in _CSI.items():
        spec.setdefault(name, value)
    spec.setdefault("volumeLifecycleModes", ["Persistent"])


_CSI: Final = {
    "attachRequired": True,
    "podInfoOnMount": False,
    "storageCapacity": False,
    "fsGroupPolicy": "ReadWriteOnceWithFSType",
    "requiresRepublish": False,
    "seLinuxMount": False,
}


def _role(obj: Obj, _old: Obj | None, _now: float) -> None:
    obj.setdefault("rules", None)


def _service(obj: Obj, old: Obj | None, _now: float) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    if spec["type"] in {"NodePort", "LoadBalancer"}:
        raise not_here(f"a Service of type {spec['type']}")
    spec.setdefault("sessionAffinity", "None")
    if spec["type"] == "ClusterIP":
        spec.setdefault("internalTrafficPolicy", "Cluster")
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
    if spec.get("clusterIP"):
        spec.setdefault("clusterIPs", [spec["clusterIP"]])
    for name in ("clusterIP", "clusterIPs"):
        if old is not None and name in old["spec"]:
            spec.setdefault(name, old["spec"][name])
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))
    obj.setdefault("status", {"loadBalancer": {}})


def _binding(obj: Obj, _old: Obj | None, _now: float) -> None:
    group = "rbac.authorization.k8s.io"
    obj.setdefault("roleRef", {}).setdefault("apiGroup", group)
    for subject in obj.get("subjects") or ():
        if subject.get("kind") in {"User", "Group"}:
            subject.setdefault("apiGroup", group)


def _crd(obj: Obj, old: Obj | None, now: float) -> None:
    crds.complete(obj)
    if old is None:
        obj["status"] = {}
    crds.refuse_beyond(obj)
    if not list(crds.faults(obj)):
        crds.established(obj, now)


def _immutable(obj: Obj, old: Obj | None, *path: str) -> Iterator[Cause]:
    value = dig(obj, *path)
    if old is not None and value != dig(old, *path):
        yield Cause("FieldValueInvalid", f"Invalid value: {go_value(value)}: field is immutable", ".".join(path))


def _required(obj: Obj, *path: str) -> Iterator[Cause]:
    if not dig(obj, *path):
        yield Cause("FieldValueRequired", "Required value", ".".join(path))


def _valid_pod(obj: Obj, old: Obj | None) -> Iterator[Cause]:
    yield from podrules.faults(obj.get("spec") or {}, "spec")
    now, before = _tolerated(obj), _tolerated(old or {})
    if any(one not in now for one in before if one.get("key") not in admission.PATIENCE):
        why = "existing toleration can not be modified except its tolerationSeconds"
        yield wrong.forbidden_value("spec.tolerations", why)
    if old is not None and _frozen(obj) != _frozen(old):
        text = (
            "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` "
            "(only additions to existing tolerations),`spec.terminationGracePeriodSeconds` "
            "(allow it to be set to 1 if it was previously negative)"
        )
        yield Cause("FieldValueForbidden", text, "spec")


def _tolerated(pod: Obj) -> list[Obj]:
    """Tolerations without their seconds, which may change."""
    found = dig(pod, "spec", "tolerations") or ()
    return [{key: value for key, value in one.items() if key != "tolerationSeconds"} for one in found]


def _frozen(pod: Obj) -> Obj:
    spec = {key: value for key, value in (pod.get("spec") or {}).items() if key not in _POD_MUTABLE}
    for group in ("containers", "initContainers"):
        containers = spec.get(group) or ()
        spec[group] = [{key: value for key, value in one.items() if key != "image"} for one in containers]
    return spec


_POD_MUTABLE: Final = frozenset(["activeDeadlineSeconds", "tolerations"])


def _valid_node(obj: Obj, old: Obj | None) -> Iterator[Cause]:
    before, now = dig(old, "spec", "providerID"), dig(obj, "spec", "providerID")
    if before and now != before:
        why = 'node updates may not change providerID except from "" to valid'
        yield wrong.forbidden_value("spec.providerID", why)
    for number, taint in enumerate(dig(obj, "spec", "taints") or ()):
        if taint.get("effect") not in _EFFECTS:
            yield wrong.unsupported_value(f"metadata.taints[{number}].effect", taint.get("effect"), *_EFFECTS)


_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def _valid_workload(kind: str) -> Validate:
    def found(obj: Obj, old: Obj | None) -> Iterator[Cause]:
        yield from plainrules.workload(obj, kind)
        yield from _immutable(obj, old, "spec", "selector")

    return found


def _valid_service(obj: Obj, _old: Obj | None) -> Iterator[Cause]:
    yield from plainrules.service(obj)


def _valid_secret(obj: Obj, old: Obj | None) -> Iterator[Cause]:
    yield from _immutable(obj, old, "type")
    yield from datamaps.faults(obj, old, whole="data")


def _valid_config_map(obj: Obj, old: Obj | None) -> Iterator[Cause]:
    yield from datamaps.faults(obj, old, whole="[]")


def _valid_binding(*kinds: str) -> Validate:
    def found(obj: Obj, old: Obj | None) -> Iterator[Cause]:
        yield from plainrules.binding(obj, *kinds)
        if old is not None and obj.get("roleRef") != old.get("roleRef"):
            yield wrong.invalid_value("roleRef", obj.get("roleRef"), "cannot change roleRef")

    return found


def _valid_crd(obj: Obj, _old: Obj | None) -> Iterator[Cause]:
    yield from crds.faults(obj)


_PREPARE: Final[Mapping[str, Prepare]] = {
    "namespaces": _namespace,
    "nodes": _node,
    "endpoints": coordination.complete_endpoints,
    "events": coordination.complete_event,
    _LEASES: coordination.complete_lease,
    "pods": _pod,
    "secrets": _secret,
    "services": _service,
    "deployments.apps": _deployment,
    "replicasets.apps": _replica_set,
    "daemonsets.apps": _daemon_set,
    f"clusterrolebindings.{_RBAC}": _binding,
    f"clusterroles.{_RBAC}": _role,
    f"rolebindings.{_RBAC}": _binding,
    f"roles.{_RBAC}": _role,
    "csidrivers.storage.k8s.io": _csi_driver,
    "customresourcedefinitions.apiextensions.k8s.io": _crd,
}
_VALIDATE: Final[Mapping[str, Validate]] = {
    "configmaps": _valid_config_map,
    "endpoints": coordination.endpoints_faults,
    "events": coordination.event_faults,
    _LEASES: coordination.lease_faults,
    "nodes": _valid_node,
    "pods": _valid_pod,
    "secrets": _valid_secret,
    "services": _valid_service,
    "deployments.apps": _valid_workload("deployment"),
    "replicasets.apps": _valid_workload("deployment"),
    "daemonsets.apps": _valid_workload("daemonset"),
    f"clusterroles.{_RBAC}": plainrules.role,
    f"roles.{_RBAC}": plainrules.role,
    f"clusterrolebindings.{_RBAC}": _valid_binding("ClusterRole"),
    f"rolebindings.{_RBAC}": _valid_binding("Role", "ClusterRole"),
    "customresourcedefinitions.apiextensions.k8s.io": _valid_crd,
}
