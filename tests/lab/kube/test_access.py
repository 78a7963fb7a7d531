"""Who is let in, and to what."""

from __future__ import annotations

import base64
import json
import re
import ssl
from pathlib import Path

import aiohttp
import pytest
from tests.lab.kube.certificates import Authority
from tests.lab.kube.wire import PODS, Client, client_session, config_map, pod

from podidentity.lab.kube import ApiConfig, Running, Tls, User, serve

RBAC = "/apis/rbac.authorization.k8s.io/v1"
TOKEN = "/api/v1/namespaces/default/serviceaccounts/robot/token"
SELF = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


class Wall:
    """A clock the test moves."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return self.now


@pytest.fixture
def wall() -> Wall:
    """The server's clock."""
    return Wall()


@pytest.fixture
def api_config(wall: Wall) -> ApiConfig:
    """A server with one ordinary user."""
    return ApiConfig(tokens={"alice-token": User("alice", ("staff",))}, now=wall)


async def robot(api: Client, **spec: object) -> str:
    """A token of the ServiceAccount ``robot``."""
    await api.post("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "robot"}})
    answer = await api.post(TOKEN, {"spec": spec})
    assert answer.status == 201, answer.body
    return str(answer.body["status"]["token"])


async def grant(api: Client, subject: dict[str, str], *rules: dict[str, list[str]]) -> None:
    """Give a subject a ClusterRole in all namespaces."""
    await api.post(f"{RBAC}/clusterroles", {"metadata": {"name": "r"}, "rules": list(rules)})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"}
    body = {"metadata": {"name": "r"}, "roleRef": reference, "subjects": [subject]}
    assert (await api.post(f"{RBAC}/clusterrolebindings", body)).status == 201


READ_PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}


async def test_nobody_and_a_wrong_token(api: Client) -> None:
    """A wrong token is 401; no credentials at all are anonymous: version and health, nothing else."""
    wrong = await api.get(PODS, headers={"Authorization": "Bearer nope"})
    assert (wrong.status, wrong.message) == (401, "Unauthorized")
    nobody = {"Authorization": ""}
    assert (await api.get("/version", headers=nobody)).status == 200
    assert (await api.get("/readyz", headers=nobody)).body == "ok"
    refused = await api.get(PODS, headers=nobody)
    assert refused.status == 403
    assert 'User "system:anonymous" cannot list resource "pods"' in refused.message
    assert (await api.get("/apis", headers=nobody)).status == 403


async def test_rbac_grants_exactly_what_is_bound(api: Client) -> None:
    """Verbs, groups and resources of a role decide; the texts are the real ones; changes count at once."""
    api.token = "alice-token"
    refused = await api.get(PODS)
    expected = 'pods is forbidden: User "alice" cannot list resource "pods" in API group "" in the namespace "default"'
    assert (refused.status, refused.message) == (403, expected)
    api.token = api.running.admin_token
    await grant(api, {"kind": "Group", "name": "staff"}, READ_PODS)
    await api.post(PODS, pod("p1"))
    api.token = "alice-token"
    assert (await api.get(PODS)).status == 200
    assert (await api.get("/api/v1/pods")).status == 200
    deleted = await api.delete(f"{PODS}/p1")
    assert deleted.message.startswith('pods "p1" is forbidden: User "alice" cannot delete resource "pods"')
    watched = await api.get(PODS, params={"watch": "true"})
    assert watched.status == 403
    api.token = api.running.admin_token
    await api.delete(f"{RBAC}/clusterrolebindings/r")
    api.token = "alice-token"
    assert (await api.get(PODS)).status == 403


async def test_role_bindings_hold_in_their_namespace_only(api: Client) -> None:
    """A RoleBinding to a ClusterRole grants nothing outside its namespace."""
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    body = {"metadata": {"name": "v"}, "roleRef": reference, "subjects": [{"kind": "User", "name": "alice"}]}
    await api.post(f"{RBAC}/namespaces/default/rolebindings", body)
    api.token = "alice-token"
    assert (await api.get(PODS)).status == 200
    assert (await api.get("/api/v1/namespaces/kube-system/pods")).status == 403
    assert (await api.get("/api/v1/pods")).status == 403


async def test_resource_names_limit_a_rule(api: Client) -> None:
    """A rule with resourceNames covers these objects only, also through a metadata.name field selector."""
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"], "resourceNames": ["mine"]}
    await grant(api, {"kind": "User", "name": "alice"}, rule)
    for name in ("mine", "other"):
        await api.post("/api/v1/namespaces/default/configmaps", config_map(name))
    api.token = "alice-token"
    path = "/api/v1/namespaces/default/configmaps"
    assert (await api.get(f"{path}/mine")).status == 200
    assert (await api.get(f"{path}/other")).status == 403
    assert (await api.get(path)).status == 403
    assert (await api.get(path, params={"fieldSelector": "metadata.name=mine"})).status == 200


async def test_subresources_need_their_own_right(api: Client) -> None:
    """`pods` does not include `pods/log`."""
    await grant(api, {"kind": "User", "name": "alice"}, READ_PODS)
    await api.post(PODS, pod("p1", nodeName="n1"))
    api.token = "alice-token"
    answer = await api.get(f"{PODS}/p1/log")
    assert 'cannot get resource "pods/log"' in answer.message


async def test_service_account_tokens(api: Client, wall: Wall) -> None:
    """A token is its ServiceAccount until it expires."""
    token = await robot(api, expirationSeconds=600)
    await grant(api, {"kind": "ServiceAccount", "name": "robot", "namespace": "default"}, READ_PODS)
    api.token = token
    assert (await api.get(PODS)).status == 200
    who = (await api.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", {})).body["status"]["userInfo"]
    assert who["username"] == "system:serviceaccount:default:robot"
    assert "system:serviceaccounts:default" in who["groups"]
    wall.now += 599
    assert (await api.get(PODS)).status == 200
    wall.now += 2
    assert (await api.get(PODS)).status == 401


async def test_tokens_die_with_their_pod_and_account(api: Client) -> None:
    """A token bound to a pod is worth nothing when the pod, or one of the same name, is not that pod."""
    made = (await api.post(PODS, pod("p1", serviceAccountName="robot"))).body
    uid = made["metadata"]["uid"]
    token = await robot(api, boundObjectRef={"kind": "Pod", "apiVersion": "v1", "name": "p1", "uid": uid})
    admin = api.token
    await grant(api, {"kind": "ServiceAccount", "name": "robot", "namespace": "default"}, READ_PODS)
    api.token = token
    assert (await api.get(PODS)).status == 200
    api.token = admin
    await api.delete(f"{PODS}/p1")
    await api.post(PODS, pod("p1"))
    api.token = token
    assert (await api.get(PODS)).status == 401
    api.token = admin
    free = (await api.post(TOKEN, {})).body["status"]["token"]
    await api.delete("/api/v1/namespaces/default/serviceaccounts/robot")
    api.token = free
    assert (await api.get(PODS)).status == 401


async def test_token_requests_are_checked(api: Client) -> None:
    """Too short a life, a bound pod that is another one, an account that does not exist."""
    await robot(api)
    await api.post(PODS, pod("p1"))
    assert (await api.post(TOKEN, {"spec": {"expirationSeconds": 60}})).status == 422
    wrong = await api.post(TOKEN, {"spec": {"boundObjectRef": {"kind": "Pod", "name": "p1", "uid": "x"}}})
    assert wrong.status == 400
    missing = await api.post(TOKEN.replace("robot", "nobody"), {})
    assert (missing.status, missing.message) == (404, 'serviceaccounts "nobody" not found')


async def test_audiences_are_kept_apart(api: Client) -> None:
    """A token for another audience does not open the API, and a review says whom it is for."""
    token = await robot(api, audiences=["api://AzureADTokenExchange"])
    review = {"spec": {"token": token, "audiences": ["api://AzureADTokenExchange", "x"]}}
    answer = (await api.post("/apis/authentication.k8s.io/v1/tokenreviews", review)).body["status"]
    assert answer["authenticated"] is True
    assert answer["audiences"] == ["api://AzureADTokenExchange"]
    plain = (await api.post("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token}})).body["status"]
    assert "authenticated" not in plain
    api.token = token
    assert (await api.get("/version")).status == 401


async def test_forged_tokens_are_refused(api: Client) -> None:
    """Another algorithm, changed claims, another issuer, garbage: 401 each."""
    token = await robot(api)
    head, body, signature = token.split(".")

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    forged = [
        f"{part({'alg': 'none'})}.{body}.",
        f"{head}.{part({**claims, 'sub': 'system:serviceaccount:kube-system:admin'})}.{signature}",
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"{head}.{body}",
        "..",
        "\u00e9.a.b",
    ]
    for one in forged:
        api.token = one.encode("ascii", "replace").decode()
        assert (await api.get("/version")).status == 401, one


async def test_access_reviews(api: Client) -> None:
    """can-i, for oneself and for others, agrees with what the server does."""
    await grant(api, {"kind": "User", "name": "alice"}, READ_PODS)
    attributes = {"verb": "list", "resource": "pods", "namespace": "default"}
    other = {"spec": {"user": "alice", "resourceAttributes": attributes}}
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    assert (await api.post(path, other)).body["status"]["allowed"] is True
    api.token = "alice-token"
    assert (await api.post(SELF, {"spec": {"resourceAttributes": attributes}})).body["status"]["allowed"] is True
    no = {"spec": {"resourceAttributes": {**attributes, "verb": "delete"}}}
    assert (await api.post(SELF, no)).body["status"]["allowed"] is False
    url = {"spec": {"nonResourceAttributes": {"path": "/metrics", "verb": "get"}}}
    assert (await api.post(SELF, url)).body["status"]["allowed"] is False
    rules = await api.post(SELF.replace("access", "rules"), {"spec": {"namespace": "default"}})
    assert READ_PODS in rules.body["status"]["resourceRules"]
    assert (await api.post(path, other)).status == 403


async def test_impersonation_needs_the_right(api: Client) -> None:
    """--as works for those who may, is refused to others, and is never silently ignored."""
    as_alice = {"Impersonate-User": "alice"}
    refused = await api.get(PODS, headers=as_alice)
    assert 'User "alice" cannot list resource "pods"' in refused.message
    await grant(api, {"kind": "Group", "name": "staff"}, READ_PODS)
    assert (await api.get(PODS, headers=as_alice)).status == 403
    assert (await api.get(PODS, headers={**as_alice, "Impersonate-Group": "staff"})).status == 200
    assert (await api.get(PODS, headers={"Impersonate-Group": "staff"})).status == 400
    assert (await api.get(PODS, headers={**as_alice, "Impersonate-Extra-x": "y"})).status == 501
    api.token = "alice-token"
    mighty = await api.get(PODS, headers={"Impersonate-User": "root", "Impersonate-Group": "system:masters"})
    assert mighty.message.startswith('users "root" is forbidden: User "alice" cannot impersonate resource "users"')


async def test_client_certificates(tmp_path: Path) -> None:
    """CN is the user, O the groups; a certificate of another authority is not let in at all."""
    ca, stranger = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    server = ca.issue("server", "apiserver")
    config = ApiConfig(tls=Tls(*server, client_ca=ca.certificate))
    async with serve(config) as running, client_session(running) as session:
        api = Client(session, running)
        admin = ca.issue("admin", "root", "system:masters")
        user = ca.issue("user", "bob", "staff")
        assert await status_with(api, running, ca.certificate, admin) == 200
        assert await status_with(api, running, ca.certificate, user) == 403
        assert await status_with(api, running, ca.certificate, None) == 403
        with pytest.raises((ConnectionError, ssl.SSLError, OSError)):
            await status_with(api, running, ca.certificate, stranger.issue("x", "root", "system:masters"))


async def status_with(api: Client, running: Running, ca: Path, pair: tuple[Path, Path] | None) -> int:
    """Status of a list of pods with a client certificate and no token."""
    context = ssl.create_default_context(cafile=str(ca))
    if pair:
        context.load_cert_chain(*pair)
    async with aiohttp.ClientSession(running.url, connector=aiohttp.TCPConnector(ssl=context)) as session:
        try:
            async with session.get(PODS) as answer:
                return answer.status
        except aiohttp.ClientError as error:
            raise ConnectionError(str(error)) from error


async def test_pods_need_their_account() -> None:
    """With the admission plugin a pod runs as an existing ServiceAccount or not at all."""
    config = ApiConfig(service_accounts=True)
    async with serve(config) as running, client_session(running) as session:
        api = Client(session, running)
        refused = await api.post(PODS, pod("p"))
        why = 'error looking up service account default/default: serviceaccount "default" not found'
        assert (refused.status, refused.message) == (403, f'pods "p" is forbidden: {why}')
        await api.post("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
        made = await api.post(PODS, pod("p"))
        assert made.body["spec"]["serviceAccountName"] == "default"


async def test_pods_get_their_credentials_once_or_not_at_all() -> None:
    """The token, the CA and the namespace are mounted as the real plugin does; pod, then account, may decline."""
    config = ApiConfig(service_accounts=True)
    place = "/var/run/secrets/kubernetes.io/serviceaccount"
    async with serve(config) as running, client_session(running) as session:
        api = Client(session, running)
        accounts = "/api/v1/namespaces/default/serviceaccounts"
        await api.post(accounts, {"metadata": {"name": "default"}})
        await api.post(accounts, {"metadata": {"name": "shy"}, "automountServiceAccountToken": False})
        init = [{"name": "i", "image": "x", "volumeMounts": [{"name": "own", "mountPath": place}]}]
        own = [{"name": "own", "emptyDir": {}}]
        spec = (await api.post(PODS, pod("p", initContainers=init, volumes=own))).body["spec"]
        volume = spec["volumes"][1]
        assert re.fullmatch(r"kube-api-access-[a-z0-9]{5}", volume["name"])
        kinds = [kind for source in volume["projected"]["sources"] for kind in source]
        assert kinds == ["serviceAccountToken", "configMap", "downwardAPI"]
        (mount,) = spec["containers"][0]["volumeMounts"]
        assert mount == {"name": volume["name"], "readOnly": True, "mountPath": place}
        assert spec["initContainers"][0]["volumeMounts"] == init[0]["volumeMounts"]
        for name, says in (("a", {"automountServiceAccountToken": False}), ("b", {"serviceAccountName": "shy"})):
            assert "volumes" not in (await api.post(PODS, pod(name, **says))).body["spec"]
        insists = pod("c", serviceAccountName="shy", automountServiceAccountToken=True)
        assert len((await api.post(PODS, insists)).body["spec"]["volumes"]) == 1


async def test_some_namespaces_stay(api: Client) -> None:
    """default, kube-system and kube-public cannot be deleted."""
    refused = await api.delete("/api/v1/namespaces/kube-system")
    assert (refused.status, refused.message) == (
        403,
        'namespaces "kube-system" is forbidden: this namespace may not be deleted',
    )
