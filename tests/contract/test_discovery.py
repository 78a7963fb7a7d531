"""What a server says of itself: groups, kinds, schemas, version, health."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from tests.contract.objects import GROUP
from tests.contract.servers import Server

ALL = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
RELIED_ON = {
    "/api/v1": {
        "configmaps": ("ConfigMap", True, ALL),
        "endpoints": ("Endpoints", True, ALL),
        "events": ("Event", True, ALL),
        "namespaces": ("Namespace", False, ["create", "delete", "get", "list", "patch", "update", "watch"]),
        "nodes": ("Node", False, ALL),
        "pods": ("Pod", True, ALL),
        "pods/binding": ("Binding", True, ["create"]),
        "pods/log": ("Pod", True, ["get"]),
        "pods/exec": ("PodExecOptions", True, ["create", "get"]),
        "pods/status": ("Pod", True, ["get", "patch", "update"]),
        "secrets": ("Secret", True, ALL),
        "serviceaccounts": ("ServiceAccount", True, ALL),
        "serviceaccounts/token": ("TokenRequest", True, ["create"]),
    },
    "/apis/apps/v1": {
        "daemonsets": ("DaemonSet", True, ALL),
        "deployments": ("Deployment", True, ALL),
        "deployments/scale": ("Scale", True, ["get", "patch", "update"]),
        "replicasets": ("ReplicaSet", True, ALL),
    },
    "/apis/coordination.k8s.io/v1": {"leases": ("Lease", True, ALL)},
    "/apis/authentication.k8s.io/v1": {"tokenreviews": ("TokenReview", False, ["create"])},
    "/apis/authorization.k8s.io/v1": {
        "subjectaccessreviews": ("SubjectAccessReview", False, ["create"]),
        "selfsubjectrulesreviews": ("SelfSubjectRulesReview", False, ["create"]),
    },
    "/apis/rbac.authorization.k8s.io/v1": {
        "clusterroles": ("ClusterRole", False, ALL),
        "rolebindings": ("RoleBinding", True, ALL),
    },
    f"/apis/{GROUP}/v1": {
        "azureassignedidentities": ("AzureAssignedIdentity", True, ALL),
        "azureidentities": ("AzureIdentity", True, ALL),
        "azureidentitybindings": ("AzureIdentityBinding", True, ALL),
        "azurepodidentityexceptions": ("AzurePodIdentityException", True, ALL),
    },
}


@pytest.mark.parametrize("where", RELIED_ON)
def test_kinds(server: Server, where: str) -> None:
    """Every kind that is relied on is told with its scope and verbs."""
    answer = server.admin.get(where)
    assert (answer.status, answer.body["kind"]) == (200, "APIResourceList")
    found = {
        item["name"]: (item["kind"], item["namespaced"], sorted(item["verbs"])) for item in answer.body["resources"]
    }
    assert {name: found.get(name) for name in RELIED_ON[where]} == RELIED_ON[where]


def test_our_group(server: Server) -> None:
    """Our kinds and nothing else, with one version that is the preferred one."""
    group = server.admin.get(f"/apis/{GROUP}").body
    version = {"groupVersion": f"{GROUP}/v1", "version": "v1"}
    assert (group["name"], group["versions"], group["preferredVersion"]) == (GROUP, [version], version)
    names = {item["name"] for item in server.admin.get(f"/apis/{GROUP}/v1").body["resources"]}
    assert names == set(RELIED_ON[f"/apis/{GROUP}/v1"])
    assert GROUP in {found["name"] for found in server.admin.get("/apis").body["groups"]}
    assert server.admin.get("/api").body["versions"] == ["v1"]


def test_short_names(server: Server) -> None:
    """What kubectl resolves a short name by."""
    found = {item["name"]: item for item in server.admin.get("/api/v1").body["resources"]}
    assert (found["pods"]["shortNames"], found["pods"]["singularName"]) == (["po"], "pod")
    assert (found["configmaps"]["shortNames"], found["pods"]["categories"]) == (["cm"], ["all"])


def test_aggregated_discovery(server: Server) -> None:
    """All groups in one answer, as kubectl asks for them first."""
    answer = server.admin.get("/apis", accept=AGGREGATED)
    assert (answer.status, answer.body["kind"]) == (200, "APIGroupDiscoveryList")
    group = next(item for item in answer.body["items"] if item["metadata"]["name"] == GROUP)
    resources = {item["resource"]: item for item in group["versions"][0]["resources"]}
    found = resources["azureidentities"]
    assert (found["responseKind"]["kind"], found["scope"], sorted(found["verbs"])) == (
        "AzureIdentity",
        "Namespaced",
        ALL,
    )


@pytest.mark.parametrize("where", ["/apis/none.io", "/apis/none.io/v1", f"/apis/{GROUP}/v9", "/apis/apps/v9"])
def test_what_is_not_there(server: Server, where: str) -> None:
    """A group or a version nobody serves is a plain 404."""
    assert server.admin.get(where).status == 404


def test_schemas_of_our_kinds(server: Server) -> None:
    """OpenAPI v3: what kubectl explains and validates our kinds by."""
    where = f"/openapi/v3/apis/{GROUP}/v1"
    server.eventually(lambda: server.admin.get(where).status == 200)
    schemas = server.admin.get(where).body["components"]["schemas"]
    found: dict[str, Any] = schemas["io.k8s.aadpodidentity.v1.AzureIdentity"]
    group = {"group": GROUP, "kind": "AzureIdentity", "version": "v1"}
    assert found["x-kubernetes-group-version-kind"] == [group]
    client_id = found["properties"]["spec"]["properties"]["clientID"]
    assert client_id == {"type": "string", "description": "client (application) id"}
    index = server.admin.get("/openapi/v3").body  # the real server calls this JSON plain text
    assert f"apis/{GROUP}/v1" in (json.loads(index) if isinstance(index, str) else index)["paths"]


def test_version_and_health(server: Server) -> None:
    """A version of Kubernetes, and the three words of a server that is well."""
    version = server.admin.get("/version").body
    assert re.fullmatch(r"v1\.\d+\.\d+.*", version["gitVersion"])
    assert version["gitVersion"].startswith(f"v{version['major']}.{version['minor']}.")
    assert [server.admin.get(where).body for where in ("/healthz", "/readyz", "/livez")] == ["ok", "ok", "ok"]
