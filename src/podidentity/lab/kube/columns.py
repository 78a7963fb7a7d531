"""The columns ``kubectl get`` shows of the built-in kinds (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from podidentity.lab.kube import podcells
from podidentity.lab.kube.ages import UNKNOWN, age
from podidentity.lab.kube.objects import Obj, dig, meta

NONE: Final = "<none>"
Cell = Callable[[Obj, float], Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: ``cell(obj, now)`` is a string, a number or None. ``priority`` 1 is shown with ``-o wide``."""

    name: str
    cell: Cell
    type: str = "string"
    format: str = ""
    priority: int = 0

    def definition(self) -> Obj:
        """The entry of ``columnDefinitions``."""
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": "",
            "priority": self.priority,
        }


def _at(*path: str, default: Any = NONE) -> Cell:
    def cell(obj: Obj, _now: float) -> Any:
        found = dig(obj, *path)
        return default if found in {None, ""} else found

    return cell


def _created(obj: Obj, now: float) -> str:
    return age(meta(obj).get("creationTimestamp"), now)


def _text(name: str, *path: str, wide: bool = False) -> Column:
    return Column(name, _at(*path), priority=int(wide))


def _number(name: str, *path: str, type_: str = "integer") -> Column:
    return Column(name, _at(*path, default=0), type_)


def _wide(name: str, cell: Cell) -> Column:
    return Column(name, cell, priority=1)


NAME: Final = Column("Name", _at("metadata", "name", default=""), format="name")
AGE: Final = Column("Age", _created)


def _pairs(value: object) -> str:
    if not isinstance(value, Mapping) or not value:
        return NONE
    return ",".join(f"{key}={item}" for key, item in sorted(value.items()))


def _selector(obj: Obj, _now: float) -> str:
    terms = [_pairs(dig(obj, "spec", "selector", "matchLabels"))]
    for term in dig(obj, "spec", "selector", "matchExpressions") or ():
        operator, values = str(term.get("operator")), ",".join(term.get("values") or ())
        written = {"Exists": term["key"], "DoesNotExist": f"!{term['key']}"}
        terms.append(written.get(operator, f"{term['key']} {operator.lower()} ({values})"))
    kept = [term for term in terms if term != NONE]
    return ",".join(kept) or NONE


def _of_containers(key: str) -> Cell:
    def cell(obj: Obj, _now: float) -> str:
        containers = dig(obj, "spec", "template", "spec", "containers") or ()
        return ",".join(str(container.get(key) or "") for container in containers)

    return cell


_TEMPLATE: Final = (_wide("Containers", _of_containers("name")), _wide("Images", _of_containers("image")))


def _ready(obj: Obj, _now: float) -> str:
    return f"{dig(obj, 'status', 'readyReplicas') or 0}/{dig(obj, 'spec', 'replicas') or 0}"


def _address(kind: str) -> Cell:
    def cell(obj: Obj, _now: float) -> str:
        found = (item.get("address") for item in dig(obj, "status", "addresses") or () if item.get("type") == kind)
        return str(next(found, NONE))

    return cell


def _node_status(obj: Obj, _now: float) -> str:
    conditions = {item.get("type"): item.get("status") for item in dig(obj, "status", "conditions") or ()}
    words = ["Unknown" if "Ready" not in conditions else "Ready" if conditions["Ready"] == "True" else "NotReady"]
    if dig(obj, "spec", "unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _roles(obj: Obj, _now: float) -> str:
    prefix, labels = "node-role.kubernetes.io/", meta(obj).get("labels") or {}
    named = {key[len(prefix) :] for key in labels if key.startswith(prefix)}
    if role := labels.get("kubernetes.io/role"):
        named.add(role)
    return ",".join(sorted(named)) or NONE


def _length(*path: str) -> Cell:
    def cell(obj: Obj, _now: float) -> int:
        return len(dig(obj, *path) or ())

    return cell


def _event_time(*names: str) -> Cell:
    def cell(obj: Obj, now: float) -> str:
        found = next((obj[name] for name in names if obj.get(name)), None)
        return age(found or meta(obj).get("creationTimestamp"), now) if found else UNKNOWN

    return cell


def _involved(obj: Obj, _now: float) -> str:
    involved = obj.get("involvedObject") or {}
    return f"{str(involved.get('kind') or '').lower()}/{involved.get('name') or ''}"


def _source(obj: Obj, _now: float) -> str:
    source = obj.get("source") or {}
    parts = (source.get("component") or obj.get("reportingComponent"), source.get("host"))
    return ", ".join(str(part) for part in parts if part)


def _subjects(kind: str) -> Cell:
    def cell(obj: Obj, _now: float) -> str:
        found: Iterable[Obj] = (item for item in obj.get("subjects") or () if item.get("kind") == kind)
        names = (f"{item['namespace']}/{item['name']}" if item.get("namespace") else item["name"] for item in found)
        return ", ".join(names)

    return cell


def _role(obj: Obj, _now: float) -> str:
    reference = obj.get("roleRef") or {}
    return f"{reference.get('kind')}/{reference.get('name')}"


def _ports(obj: Obj, _now: float) -> str:
    found = dig(obj, "spec", "ports") or ()
    return ",".join(f"{port.get('port')}/{port.get('protocol') or 'TCP'}" for port in found) or NONE


_BINDING: Final = (
    NAME,
    Column("Role", _role),
    AGE,
    *(_wide(f"{kind}s", _subjects(kind)) for kind in ("User", "Group", "ServiceAccount")),
)


def _endpoints(obj: Obj, _now: float) -> str:
    """The first addresses with their ports, as ``10.0.0.1:80,10.0.0.2:80``."""
    found = [
        f"{address.get('ip')}:{port.get('port')}" if port else str(address.get("ip"))
        for subset in obj.get("subsets") or ()
        for port in subset.get("ports") or (None,)
        for address in subset.get("addresses") or ()
    ]
    more = f" + {len(found) - _SHOWN} more..." if len(found) > _SHOWN else ""
    return ",".join(found[:_SHOWN]) + more or NONE


_SHOWN: Final = 3
_CREATED_AT: Final = (NAME, Column("Created At", _at("metadata", "creationTimestamp"), "date"))
_SCALED: Final = (*_TEMPLATE, _wide("Selector", _selector))

COLUMNS: Final[Mapping[str, tuple[Column, ...]]] = {
    "pods": (
        NAME,
        Column("Ready", podcells.ready),
        Column("Status", podcells.status),
        Column("Restarts", podcells.restarts),
        AGE,
        _text("IP", "status", "podIP", wide=True),
        _text("Node", "spec", "nodeName", wide=True),
        _text("Nominated Node", "status", "nominatedNodeName", wide=True),
        _wide("Readiness Gates", podcells.gates),
    ),
    "daemonsets.apps": (
        NAME,
        _number("Desired", "status", "desiredNumberScheduled"),
        _number("Current", "status", "currentNumberScheduled"),
        _number("Ready", "status", "numberReady"),
        _number("Up-to-date", "status", "updatedNumberScheduled"),
        _number("Available", "status", "numberAvailable"),
        Column("Node Selector", lambda obj, _now: _pairs(dig(obj, "spec", "template", "spec", "nodeSelector"))),
        AGE,
        *_SCALED,
    ),
    "deployments.apps": (
        NAME,
        Column("Ready", _ready),
        _number("Up-to-date", "status", "updatedReplicas", type_="string"),
        _number("Available", "status", "availableReplicas", type_="string"),
        AGE,
        *_SCALED,
    ),
    "replicasets.apps": (
        NAME,
        _number("Desired", "spec", "replicas"),
        _number("Current", "status", "replicas"),
        _number("Ready", "status", "readyReplicas"),
        AGE,
        *_SCALED,
    ),
    "nodes": (
        NAME,
        Column("Status", _node_status),
        Column("Roles", _roles),
        AGE,
        Column("Version", _at("status", "nodeInfo", "kubeletVersion", default="")),
        _wide("Internal-IP", _address("InternalIP")),
        _wide("External-IP", _address("ExternalIP")),
        _wide("OS-Image", _at("status", "nodeInfo", "osImage", default="<unknown>")),
        _wide("Kernel-Version", _at("status", "nodeInfo", "kernelVersion", default="<unknown>")),
        _wide("Container-Runtime", _at("status", "nodeInfo", "containerRuntimeVersion", default="<unknown>")),
    ),
    "namespaces": (NAME, _text("Status", "status", "phase"), AGE),
    "endpoints": (NAME, Column("Endpoints", _endpoints), AGE),
    "configmaps": (NAME, Column("Data", _length("data")), AGE),
    "secrets": (NAME, _text("Type", "type"), Column("Data", _length("data")), AGE),
    "serviceaccounts": (NAME, Column("Secrets", _length("secrets")), AGE),
    "services": (
        NAME,
        _text("Type", "spec", "type"),
        _text("Cluster-IP", "spec", "clusterIP"),
        Column("External-IP", lambda _obj, _now: NONE),
        Column("Port(s)", _ports),
        AGE,
        _wide("Selector", lambda obj, _now: _pairs(dig(obj, "spec", "selector"))),
    ),
    "events": (
        Column("Last Seen", _event_time("lastTimestamp", "eventTime", "firstTimestamp")),
        Column("Type", _at("type", default="")),
        Column("Reason", _at("reason", default="")),
        Column("Object", _involved),
        _wide("Subobject", _at("involvedObject", "fieldPath", default="")),
        _wide("Source", _source),
        Column("Message", lambda obj, _now: str(obj.get("message") or "").strip()),
        _wide("First Seen", _event_time("firstTimestamp", "eventTime")),
        Column("Count", _at("count", default=1), priority=1),
        Column("Name", _at("metadata", "name"), format="name", priority=1),
    ),
    "leases.coordination.k8s.io": (NAME, Column("Holder", _at("spec", "holderIdentity", default="")), AGE),
    "customresourcedefinitions.apiextensions.k8s.io": _CREATED_AT,
    "clusterroles.rbac.authorization.k8s.io": _CREATED_AT,
    "roles.rbac.authorization.k8s.io": _CREATED_AT,
    "clusterrolebindings.rbac.authorization.k8s.io": _BINDING,
    "rolebindings.rbac.authorization.k8s.io": _BINDING,
}
