"""What the embedded server has not: it refuses, naming the real one; the real one does it.

`docs/reference/embedded-api.md` lists these, and those kubectl meets (tests/kubectl).
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.objects import CRDS, config_map, identity, ours, path
from tests.contract.servers import Answer, Server

WAY_OUT = "is not part of the lab's embedded API server; start the lab with --api-server=real"
APPLY = "application/apply-patch+yaml"


def check(server: Server, answer: Answer, refusal: int, success: int) -> None:
    """The embedded server's refusal names the way out; the real one succeeds."""
    if server.embedded:
        assert (answer.status, answer.body["kind"]) == (refusal, "Status")
        assert answer.message.endswith(WAY_OUT), answer.message
    else:
        assert answer.status == success, answer.body


@pytest.mark.parametrize("collection", ["configmaps", "azureidentities.aadpodidentity.k8s.io"])
def test_server_side_apply(server: Server, space: str, name: str, collection: str) -> None:
    """Fields have no managers here, so nothing is applied."""
    obj = config_map(name) if collection == "configmaps" else identity(name)
    where = path(collection, space, name)
    answer = server.admin.patch(where, obj, APPLY, fieldManager="contract")
    check(server, answer, 415, 201)
    assert server.admin.get(where).status == (404 if server.embedded else 200)


@pytest.mark.parametrize("kind", ["PartialObjectMetadata", "PartialObjectMetadataList"])
def test_metadata_only(server: Server, space: str, name: str, kind: str) -> None:
    """Objects come whole or as tables."""
    server.make(ours("azureidentities", space), identity(name))
    where = ours("azureidentities", space, "" if kind.endswith("List") else name)
    answer = server.admin.get(where, accept=f"application/json;as={kind};v=v1;g=meta.k8s.io")
    check(server, answer, 406, 200)


@pytest.mark.parametrize(
    "resource",
    [
        "events.events.k8s.io",
        "endpointslices.discovery.k8s.io",
        "jobs.batch",
        "statefulsets.apps",
        "poddisruptionbudgets.policy",
        "networkpolicies.networking.k8s.io",
        "persistentvolumeclaims",
        "resourcequotas",
        "limitranges",
    ],
)
def test_kinds(server: Server, space: str, resource: str) -> None:
    """A kind that is not here is refused for every verb, not answered as an empty list."""
    where = path(resource, space)
    for answer in (server.admin.get(where), server.admin.get(where, limit="1")):
        check(server, answer, 404, 200)


def test_reviews_of_a_namespace(server: Server, space: str) -> None:
    """A LocalSubjectAccessReview; the review of a subject anywhere does the same."""
    where = f"/apis/authorization.k8s.io/v1/namespaces/{space}/localsubjectaccessreviews"
    attributes = {"namespace": space, "verb": "get", "resource": "pods"}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "LocalSubjectAccessReview",
        "spec": {"user": "x", "resourceAttributes": attributes},
    }
    check(server, server.admin.post(where, body), 404, 201)


def definition(**changes: Any) -> dict[str, Any]:
    """A CustomResourceDefinition; ``changes`` are of its spec's object schema or, as ``conversion``, of its spec."""
    conversion = changes.pop("conversion", {"strategy": "None"})
    schema = {"type": "object", "properties": {"spec": {"type": "object", **changes}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "oddities", "kind": "Oddity"}
    spec = {"group": "contract.example.com", "scope": "Namespaced", "names": names, "conversion": conversion}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "oddities.contract.example.com"},
        "spec": {**spec, "versions": [version]},
    }


def test_rules_in_definitions(server: Server) -> None:
    """CEL rules would have to be evaluated at each write."""
    rules = [{"rule": "true", "message": "always"}]
    answer = server.admin.post(CRDS, definition(**{"x-kubernetes-validations": rules}), dryRun="All")
    check(server, answer, 501, 201)


def test_conversion_webhooks(server: Server) -> None:
    """Versions are converted by nothing but their name."""
    webhook = {"clientConfig": {"url": "https://example.com/"}, "conversionReviewVersions": ["v1"]}
    obj = definition(conversion={"strategy": "Webhook", "webhook": webhook})
    check(server, server.admin.post(CRDS, obj, dryRun="All"), 501, 201)


def test_ports_of_nodes(server: Server, space: str) -> None:
    """A Service of type NodePort needs somebody who listens there."""
    obj = {"metadata": {"name": "odd"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}
    check(server, server.admin.post(path("services", space), obj, dryRun="All"), 501, 201)


def test_no_managed_fields(server: Server, space: str, name: str) -> None:
    """The embedded server keeps no managedFields, whoever sends them."""
    made = server.make(path("configmaps", space), config_map(name, managedFields=[]))
    assert ("managedFields" in made["metadata"]) is not server.embedded
