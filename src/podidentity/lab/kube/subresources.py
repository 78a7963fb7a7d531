"""binding, eviction and scale: the subresources that are objects of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from podidentity.lab.kube.errors import Cause, StatusError, bad_request, conflict, invalid
from podidentity.lab.kube.kinds import Kind
from podidentity.lab.kube.objects import Obj, dig, go_value, rfc3339
from podidentity.lab.kube.patch import json_patch, merge_patch
from podidentity.lab.kube.requests import DeleteOptions, Where, WriteOptions
from podidentity.lab.kube.rest import Rest


def bind(rest: Rest, where: Where, body: Obj, now: float) -> Obj:
    """Assign a pod to a node; 409 when it has one."""
    if dig(body, "metadata", "name") != where.name:
        raise bad_request("name in URL does not match name in Binding object")
    node = dig(body, "target", "name")
    if not node:
        raise bad_request("a Binding needs target.name")
    pod, name = rest.get(where).obj(), where.name
    if taken := dig(pod, "spec", "nodeName"):
        raise conflict("pods/binding", "", name, f'pod {name} is already assigned to node "{taken}"')
    if pod["metadata"].get("deletionTimestamp"):
        raise conflict("pods/binding", "", name, f"pod {name} is being deleted, cannot be assigned to a host")
    pod["spec"]["nodeName"] = node
    condition = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": rfc3339(now)}
    others = [found for found in dig(pod, "status", "conditions") or () if found.get("type") != "PodScheduled"]
    pod["status"] = {**(pod.get("status") or {}), "conditions": [*others, condition]}
    rest.overwrite(where.kind, pod)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def evict(rest: Rest, where: Where, options: DeleteOptions) -> Obj:
    """Delete a pod; without PodDisruptionBudgets nothing may hold it."""
    rest.delete(where, options)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def scale_of(kind: Kind, obj: Obj) -> Obj:
    """The ``autoscaling/v1`` Scale of a workload, or of a custom object that declares one."""
    metadata = {
        key: obj["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    }
    labels = dig(obj, "spec", "selector", "matchLabels") if not kind.custom else None
    selector = ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items()))
    if path := kind.scale.get("labelSelectorPath"):
        selector = dig(obj, *_parts(path)) or ""
    status = {"replicas": dig(obj, *_parts(kind.scale["statusReplicasPath"])) or 0}
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": dig(obj, *_parts(kind.scale["specReplicasPath"])) or 0},
        "status": {**status, "selector": selector} if selector else status,
    }


def _parts(path: str) -> list[str]:
    return path.strip(".").split(".")


def rescale(rest: Rest, where: Where, change: Callable[[Obj], Any], options: WriteOptions) -> Obj:
    """Write ``spec.replicas`` through a Scale that ``change`` makes of the present one."""
    obj = rest.get(where).obj()
    wanted = change(scale_of(where.kind, obj))
    replicas = dig(wanted, "spec", "replicas")
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        text = f"Invalid value: {go_value(replicas)}: must be greater than or equal to 0"
        raise invalid("Scale", "autoscaling", where.name, [Cause("FieldValueInvalid", text, "spec.replicas")])
    *places, last = _parts(where.kind.scale["specReplicasPath"])
    place = obj
    for name in places:
        place = place.setdefault(name, {})
    place[last] = replicas
    if version := dig(wanted, "metadata", "resourceVersion"):
        obj["metadata"]["resourceVersion"] = version
    obj |= {"apiVersion": where.kind.api_version, "kind": where.kind.kind}
    return scale_of(where.kind, rest.update(where, obj, options).obj)


def scale_change(verb: str, content_type: str, body: Any) -> Callable[[Obj], Any]:
    """What a PUT or PATCH of ``/scale`` does to the Scale; StatusError 415 for other patches."""
    if verb == "update":
        return lambda _scale: body
    if content_type == "application/json-patch+json":
        return lambda scale: json_patch(scale, body)
    if content_type in {"application/merge-patch+json", "application/strategic-merge-patch+json"}:
        return lambda scale: merge_patch(scale, body)
    raise StatusError(415, f"a Scale is not patched with {content_type}")
