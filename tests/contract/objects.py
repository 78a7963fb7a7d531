"""Objects and paths of the contract's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

Obj = dict[str, Any]
GROUP: Final = "aadpodidentity.k8s.io"
DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
CRDS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"


def shipped(kind: str) -> list[Obj]:
    """The objects of a kind in the manifest that users apply."""
    found = yaml.safe_load_all((DEPLOY / "deployment-rbac.yaml").read_text())
    return [obj for obj in found if obj and obj["kind"] == kind]


def path(plural: str, namespace: str = "", name: str = "") -> str:
    """The path of a collection or an object: ``configmaps``, ``leases.coordination.k8s.io`` (all are v1)."""
    resource, _, group = plural.partition(".")
    parts = ["", "apis", group, "v1"] if group else ["", "api", "v1"]
    parts += ["namespaces", namespace] if namespace else []
    return "/".join([*parts, resource, *([name] if name else [])])


def ours(plural: str, namespace: str = "", name: str = "") -> str:
    """The path of one of our four kinds."""
    return path(f"{plural}.{GROUP}", namespace, name)


def config_map(name: str, **more: Any) -> Obj:
    """A ConfigMap; ``more`` is its metadata, but for ``data``."""
    data = more.pop("data", {"a": "1"})
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **more}, "data": data}


def pod(name: str, **more: Any) -> Obj:
    """A pod of one container; ``more`` is its spec, but for ``labels``."""
    metadata = {"name": name, "labels": more.pop("labels", {})}
    spec = {"containers": [{"name": "main", "image": "x:1"}], **more}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def identity(name: str, **spec: Any) -> Obj:
    """An AzureIdentity."""
    metadata = {"name": name}
    resource_id = f"/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
    full = {"type": 0, "resourceID": resource_id, "clientID": "c", **spec}
    return {"apiVersion": f"{GROUP}/v1", "kind": "AzureIdentity", "metadata": metadata, "spec": full}


def binding(name: str, **spec: Any) -> Obj:
    """An AzureIdentityBinding."""
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "AzureIdentityBinding",
        "metadata": {"name": name},
        "spec": {"azureIdentity": "one", "selector": "web", **spec},
    }


def assigned(name: str, **spec: Any) -> Obj:
    """An AzureAssignedIdentity as mic writes it, the identity and the binding inside."""
    embedded = {
        "azureIdentityRef": {**identity("one"), "metadata": {"name": "one", "namespace": "team"}},
        "azureBindingRef": {**binding("one"), "metadata": {"name": "one", "namespace": "team"}},
    }
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "AzureAssignedIdentity",
        "metadata": {"name": name},
        "spec": {**embedded, "pod": "p", "podNamespace": "team", "nodename": "n", **spec},
        "status": {"status": "Created", "availableReplicas": 1},
    }
