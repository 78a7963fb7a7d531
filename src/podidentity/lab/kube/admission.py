"""Admission: what the server refuses or adds although the object itself is valid."""

from __future__ import annotations

import ipaddress
import random
from typing import Final

from podidentity.lab.kube import credentials
from podidentity.lab.kube.errors import forbidden
from podidentity.lab.kube.kinds import Kind
from podidentity.lab.kube.objects import Obj, dig
from podidentity.lab.kube.store import Store

_IMMORTAL: Final = frozenset(["default", "kube-system", "kube-public"])
_PRIORITIES: Final = {"": 0, "system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
_SERVICES: Final = ipaddress.ip_network("10.0.0.0/24")
_NOT_READY: Final = "node.kubernetes.io/not-ready"
PATIENCE: Final = (_NOT_READY, "node.kubernetes.io/unreachable")
"""What every pod tolerates for a while, unless it says otherwise."""


class Admission:
    """``service_accounts``: pods run as a ServiceAccount that exists and get its token, as that plugin does."""

    def __init__(self, store: Store, *, service_accounts: bool, rng: random.Random) -> None:
        self._store = store
        self._rng = rng
        self._service_accounts = service_accounts

    def create(self, kind: Kind, obj: Obj) -> None:
        """Complete or refuse (403) an object about to be created."""
        if kind.resource == "pods":
            if self._service_accounts:
                self._account(obj)
            _priority(obj)
            _tolerate(obj["spec"])
        elif kind.resource == "nodes":
            _taint(obj["spec"])
        elif kind.resource == "services":
            self._address(obj["spec"])

    def _account(self, pod: Obj) -> None:
        spec, namespace = pod["spec"], pod["metadata"]["namespace"]
        name = spec.get("serviceAccountName") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = self._store.get("serviceaccounts", namespace, name)
        if account is None:
            why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
            raise forbidden("pods", "", pod["metadata"]["name"], why)
        if credentials.wanted(pod, account.obj()):
            credentials.mount(pod, self._rng)

    def _address(self, spec: Obj) -> None:
        """The first free address, as long as the service wants one. Nothing routes it: a lab has no kube-proxy."""
        if spec.get("clusterIP") or spec["type"] == "ExternalName":
            return
        taken = {dig(stored.obj(), "spec", "clusterIP") for stored in self._store.scan("services")}
        free = (str(address) for address in _SERVICES.hosts() if str(address) not in taken)
        spec["clusterIP"] = next(free, "None")
        spec["clusterIPs"] = [spec["clusterIP"]]

    @staticmethod
    def delete(kind: Kind, name: str) -> None:
        """Refuse (403) to delete what a cluster cannot be without."""
        if kind.resource == "namespaces" and name in _IMMORTAL:
            raise forbidden("namespaces", "", name, "this namespace may not be deleted")


def _taint(spec: Obj) -> None:
    """Nothing is scheduled to a new node before somebody has seen it ready."""
    taints = spec["taints"] = list(spec.get("taints") or ())
    if not any(found.get("key") == _NOT_READY and found.get("effect") == "NoSchedule" for found in taints):
        taints.append({"key": _NOT_READY, "effect": "NoSchedule"})


def _priority(pod: Obj) -> None:
    spec = pod["spec"]
    name = spec.get("priorityClassName") or ""
    if name not in _PRIORITIES:
        raise forbidden("pods", "", pod["metadata"]["name"], f"no PriorityClass with name {name} was found")
    spec["priority"] = _PRIORITIES[name]
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")


def _tolerate(spec: Obj) -> None:
    """A pod stays for five minutes on a node that is not ready, unless it says otherwise."""
    tolerations = spec["tolerations"] = list(spec.get("tolerations") or ())
    for key in PATIENCE:
        if not any(
            found.get("key") in {key, "", None} and found.get("effect") in {"NoExecute", "", None}
            for found in tolerations
        ):
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
