"""ServiceAccount tokens: requested, bound, reviewed, used; and who may do what, asked of the API."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from tests.contract.objects import RBAC, path, pod
from tests.contract.servers import Answer, Client, Server

ISSUER = "https://kubernetes.default.svc"
AUTHENTICATION = "/apis/authentication.k8s.io/v1"
AUTHORIZATION = "/apis/authorization.k8s.io/v1"


def account(server: Server, space: str, name: str) -> str:
    """A ServiceAccount; its path."""
    server.make(path("serviceaccounts", space), {"metadata": {"name": name}})
    return path("serviceaccounts", space, name)


def token(server: Server, where: str, **spec: Any) -> str:
    """A token of the account at a path."""
    answer = server.admin.post(f"{where}/token", {"spec": spec})
    assert answer.status == 201, answer.body
    return str(answer.body["status"]["token"])


def claims(text: str) -> dict[str, Any]:
    """What a token says."""
    part = text.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def reviewed(server: Server, text: str, *audiences: str) -> dict[str, Any]:
    """The status of a TokenReview."""
    spec = {"token": text, **({"audiences": list(audiences)} if audiences else {})}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
    found: dict[str, Any] = server.make(f"{AUTHENTICATION}/tokenreviews", body)["status"]
    return found


def test_a_token(server: Server, space: str, name: str) -> None:
    """An hour, this cluster's audience, and the claims that others verify."""
    where = account(server, space, name)
    answer = server.admin.post(f"{where}/token", {"spec": {}})
    spec = answer.body["spec"]
    assert (spec["audiences"], spec["expirationSeconds"], spec["boundObjectRef"]) == ([ISSUER], 3600, None)
    said = claims(answer.body["status"]["token"])
    assert (said["iss"], said["aud"], said["exp"] - said["iat"]) == (ISSUER, [ISSUER], 3600)
    assert said["sub"] == f"system:serviceaccount:{space}:{name}"
    uid = server.admin.get(where).body["metadata"]["uid"]
    assert said["kubernetes.io"] == {"namespace": space, "serviceaccount": {"name": name, "uid": uid}}


def test_a_bound_token(server: Server, space: str, name: str) -> None:
    """A pod's token names the pod, and dies with it."""
    where = account(server, space, name)
    made = server.make(path("pods", space), pod(name, serviceAccountName=name))
    reference = {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": made["metadata"]["uid"]}
    text = token(server, where, audiences=["x"], expirationSeconds=600, boundObjectRef=reference)
    assert claims(text)["kubernetes.io"]["pod"] == {"name": name, "uid": made["metadata"]["uid"]}
    status = reviewed(server, text, "x")
    assert status["authenticated"]
    assert status["user"]["extra"]["authentication.kubernetes.io/pod-name"] == [name]
    server.admin.delete(path("pods", space, name))
    gone = {"error": "[invalid bearer token, service account token has been invalidated]", "user": {}}
    server.eventually(lambda: reviewed(server, text, "x") == gone)


@pytest.mark.parametrize(
    ("spec", "status", "message"),
    [
        ({"expirationSeconds": 599}, 422, "Invalid value: 599: may not specify a duration less than 10 minutes"),
        ({"expirationSeconds": 0}, 422, "Invalid value: 0: may not specify a duration less than 10 minutes"),
        ({"expirationSeconds": 2**33}, 422, "may not specify a duration larger than 2^32 seconds"),
        ({"expirationSeconds": "600"}, 400, "json: cannot unmarshal string into Go struct field TokenRequestSpec.spec"),
        ({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "none"}}, 404, 'pods "none" not found'),
        (
            {"boundObjectRef": {"kind": "ConfigMap", "apiVersion": "v1", "name": "c"}},
            400,
            "cannot bind token to object of type /v1, Kind=ConfigMap",
        ),
    ],
)
def test_requests_that_are_refused(server: Server, space: str, spec: dict[str, Any], status: int, message: str) -> None:
    """Too short, too long, bound to nothing."""
    answer = server.admin.post(f"{path('serviceaccounts', space, 'default')}/token", {"spec": spec})
    assert (answer.status, message in answer.message) == (status, True), answer.message


def test_a_pod_of_another_account(server: Server, space: str, name: str) -> None:
    """A token is bound to a pod that runs as its account, and is the pod it says."""
    where = account(server, space, name)
    server.make(path("pods", space), pod(name))
    reference = {"kind": "Pod", "apiVersion": "v1", "name": name}
    answer = server.admin.post(f"{where}/token", {"spec": {"boundObjectRef": reference}})
    assert answer.status == 400
    assert answer.message == (
        f'cannot bind token for serviceaccount "{name}" to pod running with different serviceaccount name.'
    )
    default = path("serviceaccounts", space, "default")
    other = {"spec": {"boundObjectRef": {**reference, "uid": "other"}}}
    answer = server.admin.post(f"{default}/token", other)
    assert (answer.status, answer.reason) == (409, "Conflict")


def test_a_token_of_nobody(server: Server, space: str) -> None:
    """404 for an account that does not exist, 405 for anything but a request."""
    where = path("serviceaccounts", space, "nobody")
    answer = server.admin.post(f"{where}/token", {"spec": {}})
    assert (answer.status, answer.message) == (404, 'serviceaccounts "nobody" not found')
    assert server.admin.get(f"{path('serviceaccounts', space, 'default')}/token").status == 405


def test_a_review(server: Server, space: str, name: str) -> None:
    """Who a token is, as authorization sees it, and for which of the audiences asked."""
    where = account(server, space, name)
    status = reviewed(server, token(server, where))
    user = status["user"]
    assert (status["authenticated"], status["audiences"]) == (True, [ISSUER])
    assert user["username"] == f"system:serviceaccount:{space}:{name}"
    assert user["uid"] == server.admin.get(where).body["metadata"]["uid"]
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{space}", "system:authenticated"]
    assert user["groups"] == groups
    assert user["extra"]["authentication.kubernetes.io/credential-id"][0].startswith("JTI=")
    both = token(server, where, audiences=["x", "y"])
    assert reviewed(server, both, "y", "z")["audiences"] == ["y"]


def test_tokens_that_are_not_believed(server: Server, space: str, name: str) -> None:
    """Another audience, another issuer, another account: each with its reason."""
    where = account(server, space, name)
    text = token(server, where, audiences=["x"])
    refused = '[invalid bearer token, token audiences ["x"] is invalid for the target audiences '
    assert reviewed(server, text, "z") == {"error": f'{refused}["z"]]', "user": {}}
    assert reviewed(server, text) == {"error": f'{refused}["{ISSUER}"]]', "user": {}}
    assert reviewed(server, "garbage") == {"error": "invalid bearer token", "user": {}}
    head, _, _ = text.rpartition(".")
    assert "invalid bearer token" in reviewed(server, f"{head}.AAAA", "x")["error"]
    server.admin.delete(where)
    gone = {"error": f'[invalid bearer token, serviceaccounts "{name}" not found]', "user": {}}
    server.eventually(lambda: reviewed(server, text, "x") == gone)
    empty = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {}}
    assert server.admin.post(f"{AUTHENTICATION}/tokenreviews", empty).status == 400


def test_bearers(server: Server, space: str, name: str) -> None:
    """A token of this cluster's audience is its account (403), any other nobody at all (401)."""
    where = account(server, space, name)
    answer = server.client(token=token(server, where)).get(path("pods", space))
    assert (answer.status, f'User "system:serviceaccount:{space}:{name}" cannot list' in answer.message) == (403, True)
    for wrong in ("garbage", token(server, where, audiences=["x"])):
        answer = server.client(token=wrong).get(path("pods", space))
        assert (answer.status, answer.reason, answer.message) == (401, "Unauthorized", "Unauthorized")


def test_nobody(server: Server, space: str) -> None:
    """Without a credential one may ask for the version and the health, and nothing else."""
    nobody = server.client(certificate="")
    assert nobody.get("/version").status == 200
    assert nobody.get("/healthz").body == "ok"
    answer = nobody.get(path("pods", space))
    assert answer.status == 403
    assert answer.message == (
        'pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" in the namespace '
        f'"{space}"'
    )
    answer = nobody.get("/api")
    assert (answer.status, answer.message) == (403, 'forbidden: User "system:anonymous" cannot get path "/api"')


@pytest.fixture(scope="module")
def reader(server: Server, space: str) -> str:
    """The user name of an account that may get and list pods, and get one ConfigMap."""
    where = account(server, space, "reader")
    rules = [
        {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["one"], "verbs": ["get"]},
    ]
    server.make(f"{RBAC}/namespaces/{space}/roles", {"metadata": {"name": "reader"}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": "reader", "namespace": space}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    binding = {"metadata": {"name": "reads"}, "roleRef": reference, "subjects": [subject]}
    server.make(f"{RBAC}/namespaces/{space}/rolebindings", binding)
    client = server.client(token=token(server, where))
    server.eventually(lambda: client.get(path("pods", space)).status == 200)
    return f"system:serviceaccount:{space}:reader"


def access(client: Client, kind: str, **spec: Any) -> Answer:
    """The answer to an access review."""
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
    return client.post(f"{AUTHORIZATION}/{kind.lower()}s", body)


def test_access_reviews(server: Server, space: str, reader: str) -> None:
    """Allowed by which binding, or not; of another user, and of oneself."""
    reason = f'RBAC: allowed by RoleBinding "reads/{space}" of Role "reader" to ServiceAccount "reader/{space}"'
    for attributes, allowed in (
        ({"verb": "get", "resource": "pods"}, True),
        ({"verb": "get", "resource": "pods", "subresource": "log"}, True),
        ({"verb": "get", "resource": "configmaps", "name": "one"}, True),
        ({"verb": "get", "resource": "configmaps", "name": "two"}, False),
        ({"verb": "get", "resource": "configmaps"}, False),
        ({"verb": "delete", "resource": "pods"}, False),
        ({"verb": "get", "resource": "pods", "group": "apps"}, False),
    ):
        expected = {"allowed": True, "reason": reason} if allowed else {"allowed": False}
        asked = {"resourceAttributes": {"namespace": space, **attributes}}
        assert access(server.admin, "SubjectAccessReview", user=reader, **asked).body["status"] == expected
        own = access(server.client(user=reader), "SelfSubjectAccessReview", **asked)
        assert (own.status, own.body["status"]) == (201, expected)


def test_access_to_paths(server: Server, reader: str) -> None:
    """Rights on URLs come by groups; the masters have them all."""
    asked = {"nonResourceAttributes": {"path": "/version", "verb": "get"}}
    answer = access(server.admin, "SubjectAccessReview", user=reader, groups=["system:authenticated"], **asked)
    assert answer.body["status"]["allowed"]
    assert "ClusterRoleBinding" in answer.body["status"]["reason"]
    assert access(server.admin, "SubjectAccessReview", user=reader, **asked).body["status"] == {"allowed": False}
    asked = {"nonResourceAttributes": {"path": "/metrics", "verb": "get"}}
    masters = access(server.admin, "SubjectAccessReview", groups=["system:masters"], **asked)
    assert masters.body["status"]["allowed"]


def test_access_reviews_that_ask_nothing(server: Server) -> None:
    """A review is of somebody and of one thing."""
    resource = {"resourceAttributes": {"verb": "get", "resource": "pods"}}
    url = {"nonResourceAttributes": {"path": "/version", "verb": "get"}}
    for spec, complaint in (
        ({"user": "x"}, "exactly one of nonResourceAttributes or resourceAttributes must be specified"),
        ({"user": "x", **resource, **url}, "cannot be specified in combination with resourceAttributes"),
        (resource, "at least one of user or group must be specified"),
    ):
        answer = access(server.admin, "SubjectAccessReview", **spec)
        assert (answer.status, complaint in answer.message) == (422, True)


def test_rules_reviews(server: Server, space: str, reader: str) -> None:
    """Everything one may do in a namespace, as ``kubectl auth can-i --list`` asks."""
    answer = access(server.client(user=reader), "SelfSubjectRulesReview", namespace=space)
    assert answer.status == 201
    rules = answer.body["status"]["resourceRules"]
    assert {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]} in rules
    assert {"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["one"]} in rules
    assert any("/version" in rule["nonResourceURLs"] for rule in answer.body["status"]["nonResourceRules"])
    elsewhere = access(server.client(user=reader), "SelfSubjectRulesReview", namespace="default")
    assert not [rule for rule in elsewhere.body["status"]["resourceRules"] if "pods" in rule["resources"]]
    assert access(server.client(user=reader), "SelfSubjectRulesReview").status == 400


def test_oneself(server: Server, reader: str) -> None:
    """``kubectl auth whoami``."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = server.client(user=reader).post(f"{AUTHENTICATION}/selfsubjectreviews", body)
    assert answer.body["status"]["userInfo"]["username"] == reader
    assert "spec" not in answer.body
