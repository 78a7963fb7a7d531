"""What every cluster has from the start: namespaces, the service ``kubernetes``, the roles Kubernetes itself needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from podidentity.lab.kube.objects import Obj

_RBAC: Final = "rbac.authorization.k8s.io"
_READ: Final = ("get", "list", "watch")
_WRITE: Final = ("create", "delete", "deletecollection", "patch", "update")
NAMESPACES: Final = ("default", "kube-system", "kube-public", "kube-node-lease")


def objects() -> Iterator[tuple[str, str, str, Obj]]:
    """Group, plural, namespace and object, in the order they have to be made."""
    for name in NAMESPACES:
        yield "", "namespaces", "", {"metadata": {"name": name}}
    for name, rules in _ROLES.items():
        yield _RBAC, "clusterroles", "", {"metadata": _meta(name), "rules": rules}
    for name, (kind, *subjects) in _BINDINGS.items():
        yield _RBAC, "clusterrolebindings", "", _binding(name, kind, subjects)
    spec = {
        "clusterIP": "10.0.0.1",
        "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 443}],
    }
    labels = {"component": "apiserver", "provider": "kubernetes"}
    yield "", "services", "default", {"metadata": {"name": "kubernetes", "labels": labels}, "spec": spec}


def _meta(name: str) -> Obj:
    return {
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    }


def _rule(groups: Sequence[str], resources: Sequence[str], verbs: Sequence[str]) -> Obj:
    return {"apiGroups": list(groups), "resources": list(resources), "verbs": list(verbs)}


def _urls(*urls: str) -> Obj:
    return {"nonResourceURLs": list(urls), "verbs": ["get"]}


def _binding(name: str, kind: str, subjects: Sequence[str]) -> Obj:
    return {
        "metadata": _meta(name),
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": _RBAC, "kind": kind, "name": subject} for subject in subjects],
    }


_WORKLOADS: Final = ("daemonsets", "deployments", "deployments/scale", "replicasets", "replicasets/scale")
_STATES: Final = ("daemonsets/status", "deployments/status", "replicasets/status")
_PLAIN: Final = ("configmaps", "events", "pods", "serviceaccounts", "services")
_VIEW: Final = (
    _rule([""], [*_PLAIN, "endpoints", "namespaces", "pods/log", "pods/status", "services/status"], _READ),
    _rule(["apps"], [*_WORKLOADS, *_STATES], _READ),
)
_EDIT: Final = (
    *_VIEW,
    _rule([""], [*_PLAIN, "pods/exec", "secrets"], [*_READ, *_WRITE]),
    _rule([""], ["pods/eviction", "serviceaccounts/token"], ["create"]),
    _rule(["apps"], _WORKLOADS, _WRITE),
    _rule(["coordination.k8s.io"], ["leases"], [*_READ, *_WRITE]),
)
_EVENTS: Final = _rule(["", "events.k8s.io"], ["events"], ["create", "patch", "update"])

_ROLES: Final[dict[str, list[Obj]]] = {
    "cluster-admin": [_rule(["*"], ["*"], ["*"]), {"nonResourceURLs": ["*"], "verbs": ["*"]}],
    "admin": [
        *_EDIT,
        _rule([_RBAC], ["roles", "rolebindings"], [*_READ, *_WRITE]),
        _rule(["authorization.k8s.io"], ["localsubjectaccessreviews"], ["create"]),
    ],
    "edit": [*_EDIT],
    "view": [*_VIEW],
    "system:basic-user": [
        _rule(["authorization.k8s.io"], ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], ["create"]),
        _rule(["authentication.k8s.io"], ["selfsubjectreviews"], ["create"]),
    ],
    "system:discovery": [
        _urls(
            "/api",
            "/api/*",
            "/apis",
            "/apis/*",
            "/healthz",
            "/livez",
            "/openapi",
            "/openapi/*",
            "/readyz",
            "/version",
            "/version/",
        )
    ],
    "system:public-info-viewer": [_urls("/healthz", "/livez", "/readyz", "/version", "/version/")],
    "system:node": [
        _rule([""], ["nodes"], [*_READ, "create", "patch", "update"]),
        _rule([""], ["nodes/status", "pods/status"], ["patch", "update"]),
        _rule([""], ["pods"], [*_READ, "create", "delete"]),
        _rule([""], ["configmaps", "secrets", "services", "serviceaccounts"], _READ),
        _rule([""], ["serviceaccounts/token"], ["create"]),
        _rule(["coordination.k8s.io"], ["leases"], ["get", "create", "delete", "patch", "update"]),
        _rule(["storage.k8s.io"], ["csidrivers"], _READ),
        _rule(["authentication.k8s.io"], ["tokenreviews"], ["create"]),
        _rule(["authorization.k8s.io"], ["subjectaccessreviews"], ["create"]),
        _EVENTS,
    ],
    "system:kube-scheduler": [
        _rule([""], ["nodes", "pods", "namespaces"], _READ),
        _rule([""], ["pods/binding"], ["create"]),
        _rule([""], ["pods/status"], ["patch", "update"]),
        _EVENTS,
    ],
    "system:kube-controller-manager": [
        _rule(["*"], ["*"], [*_READ, *_WRITE]),
        {"nonResourceURLs": ["*"], "verbs": ["get"]},
    ],
}

_BINDINGS: Final[dict[str, tuple[str, ...]]] = {
    "cluster-admin": ("Group", "system:masters"),
    "system:basic-user": ("Group", "system:authenticated"),
    "system:discovery": ("Group", "system:authenticated"),
    "system:public-info-viewer": ("Group", "system:authenticated", "system:unauthenticated"),
    "system:node": ("Group", "system:nodes"),
    "system:kube-scheduler": ("User", "system:kube-scheduler"),
    "system:kube-controller-manager": ("User", "system:kube-controller-manager"),
}
