"""Errors: each a Status, with code, reason and details that clients act on."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.objects import GROUP, config_map, identity, ours, path, pod
from tests.contract.servers import Answer, Server

NOT_ALLOWED = "the server does not allow this method on the requested resource"
NO_SUCH = "the server could not find the requested resource"


def check(answer: Answer, code: int, reason: str, details: dict[str, Any] | None) -> None:
    """A failure in the shape every client decodes."""
    assert answer.headers.get_content_type() == "application/json"
    found = {key: answer.body[key] for key in ("kind", "apiVersion", "metadata", "status", "code")}
    assert found == {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code}
    assert (answer.status, answer.reason, answer.body.get("details")) == (code, reason, details)
    assert answer.message


def test_not_found(server: Server, space: str) -> None:
    """404 names the object, and its group if it has one."""
    answer = server.admin.get(ours("azureidentities", space, "none"))
    check(answer, 404, "NotFound", {"name": "none", "group": GROUP, "kind": "azureidentities"})
    assert answer.message == f'azureidentities.{GROUP} "none" not found'
    check(server.admin.get(path("pods", space, "none")), 404, "NotFound", {"name": "none", "kind": "pods"})


def test_no_such_path(server: Server, space: str, name: str) -> None:
    """A subresource nobody has, an object without its namespace."""
    server.make(path("configmaps", space), config_map(name))
    for where in (f"{path('configmaps', space, name)}/none", f"{path('configmaps')}/{name}"):
        answer = server.admin.get(where)
        check(answer, 404, "NotFound", {})
        assert answer.message == NO_SUCH


@pytest.mark.parametrize(
    ("method", "where"),
    [
        ("PUT", "/api/v1/namespaces/default/configmaps"),
        ("PATCH", "/api/v1/namespaces/default/configmaps"),
        ("POST", "/api/v1/namespaces/default/configmaps/one"),
        ("POST", "/api/v1/configmaps"),
        ("DELETE", "/api/v1/namespaces"),
        ("GET", "/apis/authentication.k8s.io/v1/tokenreviews"),
        ("OPTIONS", "/api/v1/namespaces/default/configmaps"),
    ],
)
def test_not_allowed(server: Server, method: str, where: str) -> None:
    """405 for a verb the resource has not; nothing is done."""
    answer = server.admin.call(method, where, {} if method in {"PUT", "PATCH", "POST"} else None)
    check(answer, 405, "MethodNotAllowed", {})
    assert answer.message == NOT_ALLOWED


def test_conflict(server: Server, space: str, name: str) -> None:
    """409 has two reasons, and the details name the object for both."""
    made = server.make(path("configmaps", space), config_map(name))
    details = {"name": name, "kind": "configmaps"}
    check(server.admin.post(path("configmaps", space), config_map(name)), 409, "AlreadyExists", details)
    server.admin.patch(path("configmaps", space, name), {"data": {"b": "2"}})
    check(server.admin.put(path("configmaps", space, name), made), 409, "Conflict", details)


def test_invalid(server: Server, space: str) -> None:
    """422 lists every cause with its field; the message holds them all."""
    spec = {"type": "x", "clientID": 1}
    answer = server.admin.post(ours("azureidentities", space), identity("invalid", **spec))
    details = answer.body["details"]
    causes = sorted(details.pop("causes"), key=lambda cause: str(cause["field"]))
    assert [(cause["reason"], cause["field"]) for cause in causes] == [
        ("FieldValueTypeInvalid", "spec.clientID"),
        ("FieldValueTypeInvalid", "spec.type"),
    ]
    assert all(f"{cause['field']}: {cause['message']}" in answer.message for cause in causes)
    check(answer, 422, "Invalid", {"name": "invalid", "group": GROUP, "kind": "AzureIdentity"})
    empty = server.admin.post(path("pods", space), pod("invalid", containers=[]))
    assert (empty.status, empty.body["details"]["causes"][0]["field"]) == (422, "spec.containers")


def test_forbidden(server: Server, space: str) -> None:
    """403 names the resource, and the object when one was asked for."""
    client = server.client(user="somebody")
    check(client.get(path("pods", space, "one")), 403, "Forbidden", {"name": "one", "kind": "pods"})
    check(client.get(ours("azureidentities", space)), 403, "Forbidden", {"group": GROUP, "kind": "azureidentities"})
    check(client.get("/metrics"), 403, "Forbidden", {})


def test_unauthorized(server: Server, space: str) -> None:
    """401 says nothing more."""
    answer = server.client(token="nobody's").get(path("pods", space))
    check(answer, 401, "Unauthorized", None)
    assert answer.message == "Unauthorized"


def test_too_large(server: Server, space: str) -> None:
    """413 for a body of more than three mebibytes."""
    body = b'{"metadata":{"name":"large"},"data":{"a":"%s"}}' % (b"x" * (3 * 1024 * 1024))
    answer = server.admin.call("POST", path("configmaps", space), body)
    check(answer, 413, "RequestEntityTooLarge", None)
    assert answer.message == "Request entity too large: limit is 3145728"


def test_not_acceptable(server: Server, space: str) -> None:
    """406 for a form of answer nobody has."""
    answer = server.admin.get(ours("azureidentities", space), accept="application/xml")
    assert (answer.status, answer.reason) == (406, "NotAcceptable")
    assert answer.message.startswith("only the following media types are accepted: ")
