"""Admission: what the server refuses or adds although the object itself is valid."""

from __future__ import annotations

import random
from typing import Final

from podidentity.lab.kube import credentials
from podidentity.lab.kube.errors import forbidden
from podidentity.lab.kube.kinds import Kind
from podidentity.lab.kube.objects import Obj
from podidentity.lab.kube.store import Store

_IMMORTAL: Final = frozenset(["default", "kube-system", "kube-public"])


class Admission:
    """``service_accounts``: pods run as a ServiceAccount that exists and get its token, as that plugin does."""

    def __init__(self, store: Store, *, service_accounts: bool, rng: random.Random) -> None:
        self._store = store
        self._rng = rng
        self._service_accounts = service_accounts

    def create(self, kind: Kind, obj: Obj) -> None:
        """Complete or refuse (403) an object about to be created."""
        if kind.resource == "pods" and self._service_accounts:
            self._pod(obj)

    def _pod(self, pod: Obj) -> None:
        spec, namespace = pod["spec"], pod["metadata"]["namespace"]
        name = spec.get("serviceAccountName") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = self._store.get("serviceaccounts", namespace, name)
        if account is None:
            why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
            raise forbidden("pods", "", pod["metadata"]["name"], why)
        if credentials.wanted(pod, account.obj()):
            credentials.mount(pod, self._rng)

    @staticmethod
    def delete(kind: Kind, name: str) -> None:
        """Refuse (403) to delete what a cluster cannot be without."""
        if kind.resource == "namespaces" and name in _IMMORTAL:
            raise forbidden("namespaces", "", name, "this namespace may not be deleted")
