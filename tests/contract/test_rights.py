"""The shipped roles of mic and nmi: each verb they grant is allowed, each they do not is denied in known words."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from tests.contract.objects import GROUP, RBAC, path, shipped
from tests.contract.servers import Answer, Client, Server

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
ROLES = {role["metadata"]["name"]: role["rules"] for role in shipped("ClusterRole")}
RESOURCES = (
    *("pods", "pods/status", "nodes", "secrets", "configmaps", "endpoints", "events", "serviceaccounts", "namespaces"),
    *("leases.coordination.k8s.io", "daemonsets.apps", "deployments.apps"),
    *(f"{kind}.{GROUP}" for kind in ("azureidentities", "azureidentitybindings")),
    *(f"{kind}.{GROUP}" for kind in ("azureassignedidentities", "azurepodidentityexceptions")),
    *("customresourcedefinitions.apiextensions.k8s.io", "clusterroles.rbac.authorization.k8s.io"),
)
CLUSTER_WIDE = frozenset(["nodes", "namespaces", *RESOURCES[-2:]])


def granted(rules: list[dict[str, Any]], resource: str, verb: str) -> bool:
    """Whether the rules, none of which names an object, cover a request."""
    plural, _, group = resource.partition(".")
    return any(
        verb in rule["verbs"] and group in rule["apiGroups"] and plural in rule["resources"]
        for rule in rules
        if not rule.get("resourceNames")
    )


@pytest.fixture(scope="module", params=sorted(ROLES))
def role(server: Server, space: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A shipped role, bound to a user of its name for as long as the tests take."""
    name = f"contract-{request.param}"
    server.make(f"{RBAC}/clusterroles", {"metadata": {"name": name}, "rules": ROLES[request.param]})
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    server.make(
        f"{RBAC}/clusterrolebindings", {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
    )
    server.eventually(lambda: server.client(user=name).get(path("pods", space)).status == 200)
    yield request.param
    for plural in ("clusterrolebindings", "clusterroles"):
        server.admin.delete(f"{RBAC}/{plural}/{name}")


def ask(client: Client, verb: str, resource: str, namespace: str) -> Answer:  # noqa: PLR0911 - one a verb
    """A request that changes nothing, whatever it is answered: about an object that does not exist."""
    plural, _, subresource = resource.partition("/")
    collection = path(plural, "" if resource in CLUSTER_WIDE else namespace)
    one = f"{collection}/none{'/' if subresource else ''}{subresource}"
    match verb:
        case "get":
            return client.get(one)
        case "list":
            return client.get(collection, labelSelector="none=here")
        case "watch":
            with client.watch(collection, labelSelector="none=here", resourceVersion="0") as watch:
                return watch.answer()
        case "create":
            return client.post(collection, {"metadata": {"name": "none"}}, dryRun="All")
        case "update":
            return client.put(one, {"metadata": {"name": "none"}}, dryRun="All")
        case "patch":
            return client.patch(one, {}, dryRun="All")
        case "delete":
            return client.delete(one, dryRun="All")
        case _:
            return client.delete(collection, labelSelector="none=here", dryRun="All")


def words(user: str, verb: str, resource: str, namespace: str) -> str:
    """How a denial ends."""
    group = resource.partition(".")[2]
    if resource == "namespaces" and verb in {"get", "update", "patch", "delete"}:
        namespace = "none"  # a namespace is in itself
    elif resource in CLUSTER_WIDE:
        namespace = ""
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    short = resource.partition(".")[0]
    return f'is forbidden: User "{user}" cannot {verb} resource "{short}" in API group "{group}" {where}'


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_of_each_resource(server: Server, space: str, role: str, verb: str) -> None:
    """What the role grants is not forbidden; all else is, and the message names user, verb, resource and place."""
    user = f"contract-{role}"
    client = server.client(user=user)
    wrong = []
    for resource in RESOURCES:
        if "/" in resource and verb in {"list", "watch", "create", "delete", "deletecollection"}:
            continue
        if resource == "namespaces" and verb == "deletecollection":
            continue
        answer = ask(client, verb, resource, space)
        if granted(ROLES[role], resource, verb):
            good = answer.status not in {401, 403}
        else:
            good = (answer.status, answer.reason) == (403, "Forbidden")
            good = good and answer.message.endswith(words(user, verb, resource, space))
        if not good:
            wrong.append((resource, answer.status, answer.body))
    assert not wrong


@pytest.mark.parametrize("path_", ["/metrics", "/logs", "/debug/pprof"])
def test_other_paths(server: Server, role: str, path_: str) -> None:
    """No role of ours reaches the server's own pages."""
    answer = server.client(user=f"contract-{role}").get(path_)
    assert (answer.status, answer.message) == (403, f'forbidden: User "contract-{role}" cannot get path "{path_}"')


def test_both_roles_grant_something() -> None:
    """The table has both answers in it, so that the test above proves something."""
    for rules in ROLES.values():
        answers = {granted(rules, *pair) for pair in itertools.product(RESOURCES, VERBS)}
        assert answers == {True, False}


def test_impersonation(server: Server, space: str, role: str) -> None:
    """Nobody of ours may be somebody else."""
    account = path("serviceaccounts", space, "default")
    text = server.make(f"{account}/token", {"spec": {}})["status"]["token"]
    client = server.client(token=text, user=f"contract-{role}")
    answer = client.get(path("pods", space))
    assert answer.status == 403
    assert 'cannot impersonate resource "users" in API group "" at the cluster scope' in answer.message


def test_a_role_nobody_made(server: Server, space: str, name: str) -> None:
    """A binding to a role that does not exist grants nothing, and the denial says which role is missing."""
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"{name}-none"}
    bindings = f"{RBAC}/namespaces/{space}/rolebindings"
    server.make(bindings, {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]})
    end = f': RBAC: clusterrole.rbac.authorization.k8s.io "{name}-none" not found'
    client = server.client(user=name)
    server.eventually(lambda: client.get(path("pods", space)).message.endswith(end))


def test_a_right_on_one_object(server: Server, space: str, name: str) -> None:
    """A rule with names allows requests about them, a list by that name too, and no other."""
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["one"], "verbs": ["get", "list"]}]
    server.make(f"{RBAC}/namespaces/{space}/roles", {"metadata": {"name": name}, "rules": rules})
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    bindings = f"{RBAC}/namespaces/{space}/rolebindings"
    server.make(bindings, {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]})
    client = server.client(user=name)
    server.eventually(lambda: client.get(path("configmaps", space, "one")).status == 404)
    assert client.get(path("configmaps", space, "two")).status == 403
    assert client.get(path("configmaps", space)).status == 403
    assert client.get(path("configmaps", space), fieldSelector="metadata.name=one").status == 200
