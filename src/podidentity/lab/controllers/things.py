"""Objects as the controllers see them: metadata typed, spec and status as they came, so that nothing is lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from podidentity.api.meta import KubeObject
from podidentity.api.resources import Resource

Json = Mapping[str, Any]
"""A JSON object whose fields are Kubernetes' own; only the few that a rule needs are looked at."""


class Thing(KubeObject, frozen=True):
    """Any object with spec and status."""

    spec: Json = msgspec.field(default_factory=dict)
    status: Json = msgspec.field(default_factory=dict)

    @property
    def uid(self) -> str:
        """``metadata.uid``."""
        return self.metadata.uid

    @property
    def ending(self) -> bool:
        """Whether it is being deleted."""
        return self.metadata.deletion_timestamp is not None


def _thing(group: str, plural: str, kind: str, *, namespaced: bool = True) -> Resource[Thing]:
    return Resource(group, "v1", plural, kind, Thing, namespaced)


NAMESPACES: Final = _thing("", "namespaces", "Namespace", namespaced=False)
NODES: Final = _thing("", "nodes", "Node", namespaced=False)
PODS: Final = _thing("", "pods", "Pod")
SERVICE_ACCOUNTS: Final = _thing("", "serviceaccounts", "ServiceAccount")
CONFIG_MAPS: Final = _thing("", "configmaps", "ConfigMap")
DEPLOYMENTS: Final = _thing("apps", "deployments", "Deployment")
REPLICA_SETS: Final = _thing("apps", "replicasets", "ReplicaSet")
DAEMON_SETS: Final = _thing("apps", "daemonsets", "DaemonSet")

HASH_LABEL: Final = "pod-template-hash"
REVISION_LABEL: Final = "controller-revision-hash"
REVISION_ANNOTATION: Final = "deployment.kubernetes.io/revision"
_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
_FNV_START, _FNV_PRIME, _FNV_MASK = 2166136261, 16777619, 0xFFFFFFFF

_decode = msgspec.json.Decoder(Thing).decode


def thing(raw: bytes) -> Thing:
    """An object from an answer's body."""
    return _decode(raw)


def dig(value: object, *path: str) -> Any:
    """The value at ``path``, None as soon as a part of it is absent."""
    for part in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def template_hash(template: Json) -> str:
    """A short name for a pod template: equal templates, equal names; of the letters Kubernetes' own are made of."""
    value = _FNV_START
    for byte in msgspec.json.encode(without_hash(template), order="sorted"):
        value = ((value ^ byte) * _FNV_PRIME) & _FNV_MASK
    return "".join(_LETTERS[ord(digit) % len(_LETTERS)] for digit in str(value))


def without_hash(template: Json) -> Json:
    """A pod template without the label that a Deployment adds."""
    labels = dig(template, "metadata", "labels") or {}
    kept = {key: value for key, value in labels.items() if key != HASH_LABEL}
    return {**template, "metadata": {**(template.get("metadata") or {}), "labels": kept}}


def selects(selector: Json | None, labels: Mapping[str, str]) -> bool:
    """Whether a ``LabelSelector`` matches; an empty one matches nothing here."""
    wanted = dict(dig(selector, "matchLabels") or {})
    terms = dig(selector, "matchExpressions") or ()
    if not wanted and not terms:
        return False
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        expression_holds(term, labels) for term in terms
    )


def expression_holds(term: Json, values: Mapping[str, str]) -> bool:
    """One ``matchExpressions`` entry: In, NotIn, Exists, DoesNotExist, Gt, Lt."""
    value, wanted = values.get(str(term.get("key"))), [str(item) for item in term.get("values") or ()]
    match term.get("operator"):
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            return _compares(value, wanted, greater=operator == "Gt")
        case _:
            return False


def _compares(value: str | None, wanted: list[str], *, greater: bool) -> bool:
    try:
        left, right = int(value or ""), int(wanted[0])
    except (ValueError, IndexError):
        return False
    return left > right if greater else left < right


def controller_of(obj: KubeObject) -> str:
    """The uid of the object that controls this one, "" if none does."""
    return next((owner.uid for owner in obj.metadata.owner_references if owner.controller), "")


def owner_reference(resource: Resource[Thing], owner: Thing) -> Json:
    """The ownerReference of a controlled object."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def pod_active(pod: Thing) -> bool:
    """Whether a pod counts: not ended, not being deleted."""
    return not pod.ending and pod.status.get("phase") not in {"Succeeded", "Failed"}


def pod_ready(pod: Thing) -> bool:
    """Whether the pod's Ready condition holds."""
    return condition(pod, "Ready") == "True"


def condition(obj: Thing, name: str) -> str:
    """The status of a condition, "" when absent."""
    found = condition_of(obj, name)
    return str(found.get("status") or "")


def condition_of(obj: Thing, name: str) -> Json:
    """A whole condition, an empty one when absent."""
    conditions: list[Json] = obj.status.get("conditions") or []
    return next((item for item in conditions if item.get("type") == name), {})
