"""What becomes of an object that is deleted: gone, or terminating until others have finished with it (pure)."""

from __future__ import annotations

from typing import Final

from podidentity.lab.kube.kinds import Kind
from podidentity.lab.kube.objects import Obj, rfc3339
from podidentity.lab.kube.requests import DeleteOptions

_FINALIZERS: Final = {"Orphan": "orphan", "Foreground": "foregroundDeletion"}


def terminate(kind: Kind, obj: Obj, options: DeleteOptions, now: float) -> None:
    """Mark ``obj`` as being deleted, in place; a second DELETE may only shorten the grace period."""
    metadata, grace = obj["metadata"], _grace(kind, obj, options)
    if options.propagation:
        kept = [name for name in metadata.pop("finalizers", None) or () if name not in _FINALIZERS.values()]
        wanted = _FINALIZERS.get(options.propagation)
        if finalizers := [*kept, *([wanted] if wanted else [])]:
            metadata["finalizers"] = finalizers
    first = not metadata.get("deletionTimestamp")
    if first or grace < (metadata.get("deletionGracePeriodSeconds") or 0):
        metadata["deletionTimestamp"] = rfc3339(now + grace)
        metadata["deletionGracePeriodSeconds"] = grace
    if first and kind.generation:
        metadata["generation"] = metadata.get("generation", 0) + 1
    if kind.resource == "namespaces":
        metadata.pop("deletionGracePeriodSeconds", None)
        obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}


def finished(kind: Kind, obj: Obj) -> bool:
    """Whether nothing holds a terminating object any more: finalizers, a namespace's content, a kubelet."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if kind.resource == "namespaces":
        return not (obj.get("spec") or {}).get("finalizers")
    return not metadata.get("deletionGracePeriodSeconds")


def _grace(kind: Kind, pod: Obj, options: DeleteOptions) -> int:
    """Seconds a deletion waits for the kubelet: only pods that run somewhere have any."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    if kind.resource != "pods" or not spec.get("nodeName") or status.get("phase") in {"Succeeded", "Failed"}:
        return 0
    if options.grace is not None:
        return max(0, options.grace)
    return int(spec.get("terminationGracePeriodSeconds") or 0)
