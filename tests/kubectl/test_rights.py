"""kubectl auth and --as: who may do what, and the words of a refusal; both servers answer alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml
from tests.kubectl.clusters import Pair, Step

Play = Callable[..., None]
ROLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: r, namespace: SPACE}
rules:
- {apiGroups: [""], resources: [pods, pods/log], verbs: [get, list, watch]}
- {apiGroups: [""], resources: [configmaps], verbs: [get], resourceNames: [c1]}
- {apiGroups: [apps], resources: [deployments], verbs: [create, update, patch]}
"""
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
RESOURCES = {
    "": [
        "configmaps",
        "endpoints",
        "events",
        "namespaces",
        "nodes",
        "pods",
        "pods/log",
        "pods/exec",
        "pods/eviction",
        "pods/status",
        "pods/binding",
        "secrets",
        "serviceaccounts",
        "serviceaccounts/token",
        "services",
    ],
    "apps": ["daemonsets", "deployments", "deployments/scale", "deployments/status", "replicasets"],
    "coordination.k8s.io": ["leases"],
    "rbac.authorization.k8s.io": ["roles", "rolebindings", "clusterroles"],
    "aadpodidentity.k8s.io": ["azureidentities", "azureassignedidentities"],
    "authorization.k8s.io": ["localsubjectaccessreviews"],
}
ROBOT = "system:serviceaccount:auth-can-i:robot"


def test_auth_can_i(play: Play) -> None:
    """What a ServiceAccount may do is answered yes or no, and listed, from its roles."""
    play(
        Step("create sa robot"),
        Step("apply -f -", ROLE.replace("SPACE", "auth-can-i")),
        Step("create rolebinding r --role=r --serviceaccount=auth-can-i:robot"),
        Step("create clusterrole k-can-i --verb=get,list --resource=nodes"),
        Step("create clusterrole k-can-i2 --verb=get --non-resource-url=/metrics"),
        Step("create clusterrolebinding k-can-i --clusterrole=k-can-i --serviceaccount=auth-can-i:robot"),
        Step("create clusterrolebinding k-can-i2 --clusterrole=k-can-i2 --serviceaccount=auth-can-i:robot"),
        Step("auth can-i '*' '*'", says="yes"),
        Step(f"auth can-i get pods --as={ROBOT}", says="yes"),
        Step(f"auth can-i get pods/log --as={ROBOT}", says="yes"),
        Step(f"auth can-i get pods --subresource=log --as={ROBOT}", says="yes"),
        Step(f"auth can-i create pods/exec --as={ROBOT}", code=1, says="no"),
        Step(f"auth can-i delete pods --as={ROBOT}", code=1, says="no"),
        Step(f"auth can-i get pods -A --as={ROBOT}", code=1, says="no"),
        Step(f"auth can-i get pods -n default --as={ROBOT}", code=1, says="no"),
        Step(f"auth can-i get cm/c1 --as={ROBOT}", says="yes"),
        Step(f"auth can-i get cm/c2 --as={ROBOT}", code=1, says="no"),
        Step(f"auth can-i patch deployments.apps --as={ROBOT}", says="yes"),
        Step(f"auth can-i list nodes --as={ROBOT}", says="yes"),
        Step(f"auth can-i get /metrics --as={ROBOT}", says="yes"),
        Step(f"auth can-i get /healthz --as={ROBOT}"),
        Step(f"auth can-i get /logs --as={ROBOT}", code=1, says="no"),
        Step(f"auth can-i get pods -q --as={ROBOT}"),
        Step("auth can-i frobnicate pods", says="Warning: verb 'frobnicate' is not a known verb"),
        Step("auth can-i get foos", says="Warning: the server doesn't have a resource type 'foos'"),
        Step(f"auth can-i --list --as={ROBOT}", says="pods/log", alike="among"),
        Step(f"auth can-i --list --as={ROBOT} -n default", says="nodes", alike="among"),
        Step("auth can-i --list", says="[*]"),
        Step("auth can-i --list --as=nobody --as-group=nothing", alike="among"),
        Step("auth whoami", says="system:masters"),
        Step(f"auth whoami --as={ROBOT} --as-group=system:authenticated", says=ROBOT),
        Step("auth whoami -o yaml", says="SelfSubjectReview"),
        Step("delete clusterrolebinding k-can-i k-can-i2"),
        Step("delete clusterrole k-can-i k-can-i2"),
    )


def test_as_somebody_else(play: Play) -> None:
    """What a user may not do is refused in the same words, for each verb and form."""
    play(
        Step("create sa robot"),
        Step("apply -f -", ROLE.replace("SPACE", "as-somebody-else")),
        Step("create rolebinding r --role=r --user=joe"),
        Step("create cm c1 --from-literal=a=1"),
        Step("get pods --as=joe", says="No resources found"),
        Step("get pods p1 --as=joe", code=1, says='pods "p1" not found'),
        Step("get cm c1 --as=joe", says="c1"),
        Step("get cm --as=joe", code=1, says='User "joe" cannot list resource "configmaps" in API group ""'),
        Step("get cm c2 --as=joe", code=1, says="is forbidden"),
        Step("get pods -A --as=joe", code=1, says="at the cluster scope"),
        Step("get nodes --as=joe", code=1, says="at the cluster scope"),
        Step("get deploy --as=joe", code=1, says='API group "apps"'),
        Step("create cm c3 --from-literal=a=1 --as=joe", code=1, says="cannot create resource"),
        Step("delete cm c1 --as=joe", code=1, says="cannot delete resource"),
        Step("delete pod --all --as=joe", says="No resources found"),
        Step("label cm c1 a=b --as=joe", code=1, says="cannot patch resource"),
        Step("""patch cm c1 -p '{"data":{"a":"2"}}' --as=joe""", code=1, says="cannot patch resource"),
        Step("create token robot --as=joe", code=1, says="cannot create resource"),
        Step("exec p1 --as=joe -- true", code=1),
        Step("get --raw /metrics --as=joe", code=1, says="forbidden"),
        Step("get --raw /api/v1/nodes --as=joe", code=1, says="cannot list resource"),
        Step("get pods --as=joe --as-group=g --as-uid=7", says="No resources found"),
        Step("get pods --as=joe --as-uid=7 --as-group=system:masters -A --field-selector metadata.name=p --no-headers"),
        Step("auth whoami --as=joe --as-uid=7", says="7"),
        Step("create rolebinding more --clusterrole=cluster-admin --user=joe --as=joe", code=1, says="forbidden"),
    )


def reviews(namespace: str, user: str) -> str:
    """A review of each verb on each kind that namespaces have."""
    wanted = [(group, resource, verb) for group, names in RESOURCES.items() for resource in names for verb in VERBS]
    return "---\n".join(
        yaml.safe_dump(
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": user,
                    "resourceAttributes": {
                        "namespace": namespace,
                        "group": group,
                        "resource": resource.partition("/")[0],
                        "subresource": resource.partition("/")[2],
                        "verb": verb,
                    },
                },
            }
        )
        for group, resource, verb in wanted
    )


@pytest.mark.parametrize("role", ["view", "edit", "admin"])
def test_the_roles_every_cluster_has(pair: Pair, play: Play, role: str) -> None:
    """Who has the role view, edit or admin in a namespace may do the same there on both servers."""
    namespace = f"the-roles-every-cluster-has-{role}"
    play(Step(f"create rolebinding r --clusterrole={role} --user=joe", says="created"))
    spec = "{.spec.resourceAttributes"
    shown = "".join(f"{spec}.{part}}} " for part in ("group", "resource", "subresource", "verb"))
    words = ("create", "--validate=false", "-f", "-", "-o", f'jsonpath={shown}{{.status.allowed}}{{"\\n"}}')
    real, embedded = pair.say(*words, stdin=reviews(namespace, "joe"))
    assert real.code == 0, real
    assert "true" in real.out
    wrong = sorted({*real.out.splitlines()} - {*embedded.out.splitlines()})
    assert not wrong, "the real server says:\n" + "\n".join(wrong)


def test_auth_reconcile(play: Play) -> None:
    """Reconciling adds the rules that are missing and says which."""
    wider = ROLE.replace("SPACE", "auth-reconcile").replace("verbs: [get], ", "verbs: [get, delete], ")
    play(
        Step("auth reconcile -f -", ROLE.replace("SPACE", "auth-reconcile"), says="reconciled"),
        Step("auth reconcile -f -", ROLE.replace("SPACE", "auth-reconcile")),
        Step("auth reconcile -f -", wider, says="missing rules added"),
        Step("get role r -o yaml", says="delete"),
    )
