"""The kinds this server has built in, and what a kind is: the one table discovery, paths and storage share (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from podidentity.lab.kube.objects import Obj

ALL_VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
CUSTOM_VERBS: Final = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


_SCALE: Final = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A kind of object.

    ``subresources`` maps a name to its kind; ``fields`` maps field selectors to paths, or to ``PATH=VALUE`` where a
    missing value selects as that one; ``scale`` says where a Scale's numbers are.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: Mapping[str, str] = field(default_factory=lambda: _NONE)
    fields: Mapping[str, str] = field(default_factory=lambda: _NONE)
    generation: bool = False
    verbs: tuple[str, ...] = ALL_VERBS
    singular: str = ""
    list_kind: str = ""
    schema: Obj | None = None
    columns: tuple[Obj, ...] = ()
    scale: Obj = field(default_factory=lambda: dict(_SCALE))
    custom: bool = False

    @property
    def api_version(self) -> str:
        """``group/version``, or ``v1`` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """``pods`` or ``azureidentities.aadpodidentity.k8s.io``: the key of storage, whatever the version."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def has_status(self) -> bool:
        """Whether status is written through its own subresource only."""
        return "status" in self.subresources

    @property
    def list_of(self) -> str:
        """Kind of the list object."""
        return self.list_kind or f"{self.kind}List"

    @property
    def one(self) -> str:
        """The singular resource name."""
        return self.singular or self.kind.lower()


def _fields(*paths: str) -> Mapping[str, str]:
    return {path: path for path in paths}


_STATUS: Final = "status"
_POD_FIELDS: Final = _fields(
    "spec.hostNetwork",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.nominatedNodeName",
    "status.phase",
    "status.podIP",
)
_EVENT_FIELDS: Final[Mapping[str, str]] = {
    "source": "source.component",
    **_fields(
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "type",
    ),
}
_ALL: Final = ("all",)
_REVIEW: Final = ("create",)


def _core(plural: str, kind: str, **more: object) -> Kind:
    return Kind("", "v1", plural, kind, **more)  # type: ignore[arg-type]  # a table, checked by its tests


def _apps(plural: str, kind: str, short: str, **more: str) -> Kind:
    subresources = {_STATUS: kind, **more}
    return Kind(
        "apps",
        "v1",
        plural,
        kind,
        short_names=(short,),
        categories=_ALL,
        subresources=subresources,
        generation=True,
    )


def _rbac(plural: str, kind: str, *, namespaced: bool) -> Kind:
    return Kind("rbac.authorization.k8s.io", "v1", plural, kind, namespaced=namespaced)


def _review(group: str, plural: str, kind: str, *, namespaced: bool = False) -> Kind:
    return Kind(group, "v1", plural, kind, namespaced=namespaced, verbs=_REVIEW)


BUILT_IN: Final[tuple[Kind, ...]] = (
    _core("configmaps", "ConfigMap", short_names=("cm",)),
    _core("endpoints", "Endpoints", short_names=("ep",)),
    _core("events", "Event", short_names=("ev",), fields=_EVENT_FIELDS),
    _core(
        "namespaces",
        "Namespace",
        namespaced=False,
        verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
        short_names=("ns",),
        subresources={_STATUS: "Namespace", "finalize": "Namespace"},
        fields=_fields("status.phase"),
    ),
    _core(
        "nodes",
        "Node",
        namespaced=False,
        short_names=("no",),
        subresources={_STATUS: "Node"},
        fields={"spec.unschedulable": "spec.unschedulable=false"},
    ),
    _core(
        "pods",
        "Pod",
        short_names=("po",),
        categories=_ALL,
        subresources={
            "binding": "Binding",
            "eviction": "Eviction",
            "exec": "PodExecOptions",
            "log": "Pod",
            "proxy": "PodProxyOptions",
            _STATUS: "Pod",
        },
        fields=_POD_FIELDS,
        generation=True,
    ),
    _core("secrets", "Secret", fields=_fields("type")),
    _core("serviceaccounts", "ServiceAccount", short_names=("sa",), subresources={"token": "TokenRequest"}),
    _core(
        "services",
        "Service",
        short_names=("svc",),
        categories=_ALL,
        subresources={_STATUS: "Service"},
        fields=_fields("spec.clusterIP", "spec.type"),
    ),
    _apps("daemonsets", "DaemonSet", "ds"),
    _apps("deployments", "Deployment", "deploy", scale="Scale"),
    _apps("replicasets", "ReplicaSet", "rs", scale="Scale"),
    Kind("coordination.k8s.io", "v1", "leases", "Lease"),
    _rbac("clusterroles", "ClusterRole", namespaced=False),
    _rbac("clusterrolebindings", "ClusterRoleBinding", namespaced=False),
    _rbac("roles", "Role", namespaced=True),
    _rbac("rolebindings", "RoleBinding", namespaced=True),
    Kind(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        namespaced=False,
        short_names=("crd", "crds"),
        categories=("api-extensions",),
        subresources={_STATUS: "CustomResourceDefinition"},
        generation=True,
    ),
    Kind("storage.k8s.io", "v1", "csidrivers", "CSIDriver", namespaced=False),
    _review("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    _review("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    _review("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview"),
    _review("authentication.k8s.io", "tokenreviews", "TokenReview"),
    _review("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
)


class Catalogue:
    """Every kind that is served now: the built-in ones and those of Established CRDs."""

    def __init__(self) -> None:
        """Only the built-in kinds."""
        self._kinds: dict[tuple[str, str, str], Kind] = {}
        self.revision = 0
        for kind in BUILT_IN:
            self._kinds[kind.group, kind.version, kind.plural] = kind

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        """The kind at a path, if it is served."""
        return self._kinds.get((group, version, plural))

    def core(self, plural: str) -> Kind:
        """A kind of the core group that is always there."""
        return self._kinds["", "v1", plural]

    def all(self) -> tuple[Kind, ...]:
        """Every kind, ordered by group and plural."""
        return tuple(sorted(self._kinds.values(), key=lambda k: (k.group, k.version, k.plural)))

    def replace_custom(self, resource: str, kinds: tuple[Kind, ...]) -> None:
        """Serve exactly ``kinds`` for the CRD named ``resource``; an empty tuple withdraws it."""
        for key in [key for key, kind in self._kinds.items() if kind.custom and kind.resource == resource]:
            del self._kinds[key]
        for kind in kinds:
            self._kinds[kind.group, kind.version, kind.plural] = kind
        self.revision += 1
