"""The API credentials of a pod: the volume and the mounts that the ServiceAccount admission plugin adds. Pure."""

from __future__ import annotations

import random
from typing import Any, Final

from podidentity.lab.kube.names import generated
from podidentity.lab.kube.objects import Obj

PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
_PREFIX: Final = "kube-api-access-"
_LIFE: Final = 3607


def wanted(pod: Obj, account: Obj) -> bool:
    """Whether a pod gets credentials: it says so itself, else its account does, else yes."""
    for says in (pod["spec"].get("automountServiceAccountToken"), account.get("automountServiceAccountToken")):
        if says is not None:
            return bool(says)
    return True


def mount(pod: Obj, rng: random.Random) -> None:
    """Mount them in every container that has nothing at their path."""
    spec = pod["spec"]
    there = [volume["name"] for volume in spec.get("volumes") or () if _is_access(volume)]
    name = there[0] if there else generated(_PREFIX, rng)
    lacking = [
        container
        for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
        if all(item.get("mountPath") != PATH for item in container.get("volumeMounts") or ())
    ]
    for container in lacking:
        mounts = list(container.get("volumeMounts") or ())
        container["volumeMounts"] = [*mounts, {"name": name, "readOnly": True, "mountPath": PATH}]
    if lacking and not there:
        spec["volumes"] = [*(spec.get("volumes") or ()), _volume(name)]


def _is_access(volume: Obj) -> bool:
    return bool(volume.get("projected")) and str(volume["name"]).startswith(_PREFIX)


def _volume(name: str) -> Obj:
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    sources: list[dict[str, Any]] = [
        {"serviceAccountToken": {"expirationSeconds": _LIFE, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [namespace]}},
    ]
    return {"name": name, "projected": {"sources": sources, "defaultMode": 0o644}}
