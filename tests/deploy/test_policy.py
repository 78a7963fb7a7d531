"""The admission policies on the real API server: they warn, refuse with ``deny.yaml``, and spare what is right."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
import yaml
from tests.deploy import original
from tests.deploy.conftest import DEPLOY, Cluster, whole_manifests
from tests.deploy.mic_stage import MicStage
from tests.deploy.original import GROUP, Obj
from tests.deploy.rights import account, forget_accounts, rights
from tests.deploy.stages import NODE, NODE_OF_POOL
from tests.real_server import RealServer

from podidentity.api.identity import AzureIdentity
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import Invalid
from podidentity.manifests.rendering import IdentityValues, render_binding, render_identity
from podidentity.rules.identity_problem import identity_problem

SCOPE = "/subscriptions/00000000-0000-0000-0000-000000000000"
PROVIDER = "providers/Microsoft.ManagedIdentity/userAssignedIdentities"
ID = f"{SCOPE}/resourceGroups/rg/{PROVIDER}/app"
CLIENT = "ae950000-0000-0000-0000-000000005f1d"
SOUND = {"type": 0, "resourceID": ID, "clientID": CLIENT}
PRINCIPAL = {"type": 1, "clientID": CLIENT, "tenantID": "t", "clientPassword": {"name": "sp", "namespace": "default"}}
MIC = "system:serviceaccount:default:aad-pod-id-mic-service-account"
AUDITED = "validation.policy.admission.k8s.io/validation_failure"


def without(spec: Obj, *names: str) -> Obj:
    """The spec without these fields."""
    return {name: value for name, value in spec.items() if name not in names}


IDS = (
    ID.lower(),
    ID.upper(),
    f"{SCOPE}/resourceGroups/Grüße_(1).x/{PROVIDER}/a_b.c-d",
    f"{SCOPE}/resourceGroups/rg./{PROVIDER}/app",
    f"{SCOPE}/resourceGroups/rg/{PROVIDER}/app.",
    f"{SCOPE}/resourceGroups/rg/{PROVIDER}/",
    f"{SCOPE}/resourceGroups/rg/{PROVIDER}/app/more",
    f"{SCOPE}/resourceGroups//{PROVIDER}/app",
    f"https://management.azure.com{ID}",
    f" {ID}",
    f"{ID} ",
    ID.removeprefix("/"),
    ID.replace("userAssignedIdentities", "systemAssignedIdentities"),
    ID.replace("Microsoft.ManagedIdentity", "MicrosoftxManagedIdentity"),
    "app",
)
SPECS: tuple[Obj, ...] = (
    SOUND,
    without(SOUND, "type"),
    without(SOUND, "resourceID"),
    without(SOUND, "clientID"),
    {**SOUND, "resourceID": ""},
    {},
    {"type": 3},
    {**SOUND, "type": -1},
    PRINCIPAL,
    {**PRINCIPAL, "type": 2},
    without(PRINCIPAL, "tenantID"),
    without(PRINCIPAL, "clientID", "clientPassword"),
    {**PRINCIPAL, "type": 2, "clientPassword": {"namespace": "default"}},
    *({**SOUND, "resourceID": one} for one in IDS),
)


def identity(name: str, spec: Obj) -> Obj:
    """An AzureIdentity in ``default``."""
    return {"apiVersion": f"{GROUP}/v1", "kind": "AzureIdentity", "metadata": {"name": name}, "spec": spec}


def record(name: str) -> Obj:
    """An AzureAssignedIdentity in ``default``."""
    found = {"apiVersion": f"{GROUP}/v1", "kind": "AzureAssignedIdentity", "spec": {"pod": "p"}}
    return {**found, "metadata": {"name": name, "namespace": "default"}}


class Policies:
    """The cluster with the policies; ``apply`` waits until the API server goes by them."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def apply(self, file: str) -> None:
        """Apply a file of ``deploy/policy``."""
        self.cluster.apply(f"policy/{file}")
        wanted = "denied request" if file == "deny.yaml" else "Warning: "
        for probe in (identity("probe", {"type": 9}), binding("probe", {}), record("probe")):
            deadline = time.monotonic() + 30
            while True:
                code, _, said = self.create(probe, "--dry-run=server")
                if wanted in said and (code != 0) == (file == "deny.yaml"):
                    break
                assert time.monotonic() < deadline, said
                time.sleep(0.05)

    def create(self, obj: Obj, *words: str) -> tuple[int, str, str]:
        """Create an object with kubectl; exit code, stdout, stderr."""
        done = self.cluster.server.kubectl("create", "-f", "-", *words, input=yaml.safe_dump(obj))
        return done.returncode, done.stdout, done.stderr

    def audited(self, name: str) -> list[Obj]:
        """What the policies noted in the audit log about requests for objects of this name."""
        lines = (self.cluster.server.folder / "audit.log").read_text().splitlines()
        entries = [json.loads(line) for line in lines]
        notes = [
            entry["annotations"][AUDITED]
            for entry in entries
            if entry.get("objectRef", {}).get("name") == name and AUDITED in entry.get("annotations", {})
        ]
        return [found for note in notes for found in json.loads(note)]


def binding(name: str, spec: Obj) -> Obj:
    """An AzureIdentityBinding in ``default``."""
    return {"apiVersion": f"{GROUP}/v1", "kind": "AzureIdentityBinding", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def installed(deploy_server: RealServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Policies]:
    """The CRDs, and the policies as they are shipped."""
    cluster = Cluster(deploy_server, tmp_path_factory.mktemp("policy"))
    cluster.apply_kinds("CustomResourceDefinition")
    policies = Policies(cluster)
    policies.apply("policies.yaml")
    yield policies
    cluster.kubectl("delete", "-f", str(DEPLOY / "policy" / "policies.yaml"))
    cluster.clean()


@pytest.fixture
def denying(installed: Policies) -> Iterator[Policies]:
    """The same, refusing; warning again afterwards."""
    installed.apply("deny.yaml")
    yield installed
    installed.apply("policies.yaml")


@pytest.fixture
async def admin(installed: Policies) -> AsyncIterator[KubeClient]:
    """An administrator."""
    async with KubeClient(installed.cluster.server.settings(), user_agent="tests") as client:
        yield client


def test_the_server_finds_nothing_to_say_about_the_policies(installed: Policies) -> None:
    """The expressions of the policies fit the types of our CRDs, as far as the API server checks that."""
    for policy in installed.cluster.get("validatingadmissionpolicies")["items"]:
        if policy["metadata"]["name"].startswith("aad-pod-id"):
            assert not policy.get("status", {}).get("typeChecking", {}).get("expressionWarnings"), policy["status"]


def test_id_format_policy_warns(installed: Policies) -> None:
    """id-format-policy: a malformed resource id is written, kubectl prints what is wrong, the audit log has it."""
    code, said, warned = installed.create(identity("odd-id", {**SOUND, "resourceID": f"{ID}/more"}))
    assert (code, said) == (0, f"azureidentity.{GROUP}/odd-id created\n")
    assert "Warning: Validation failed for ValidatingAdmissionPolicy 'aad-pod-id-identities'" in warned
    assert f"spec.resourceID '{ID}/more' is not a user-assigned identity; it must be /subscriptions/<s>/" in warned
    (note,) = installed.audited("odd-id")
    assert (note["policy"], note["validationActions"]) == ("aad-pod-id-identities", ["Warn", "Audit"])
    installed.cluster.kubectl("label", "azureidentity", "odd-id", "a=b")
    installed.cluster.kubectl("delete", "azureidentity", "odd-id")


def test_id_format_policy_denies(denying: Policies) -> None:
    """id-format-policy: with the Deny bindings it is refused, in the same words."""
    code, _, said = denying.create(identity("odd-id", {**SOUND, "resourceID": "app"}))
    assert code != 0
    assert "spec.resourceID 'app' is not a user-assigned identity; it must be /subscriptions/<s>/" in said


def test_what_is_there_already_can_go(installed: Policies) -> None:
    """An odd object from before the Deny bindings can be labelled, mended and deleted, but not made odd anew."""
    code, _, said = installed.create(identity("old", {"type": 0, "resourceID": "app", "clientID": CLIENT}))
    assert code == 0, said
    kubectl = installed.cluster.kubectl
    installed.apply("deny.yaml")
    try:
        kubectl("label", "azureidentity", "old", "a=b")
        patch = json.dumps({"spec": {"resourceID": "other"}})
        refused = kubectl("patch", "azureidentity", "old", "--type=merge", "-p", patch, succeeds=False)
        assert "spec.resourceID 'other' is not a user-assigned identity" in refused
        kubectl("patch", "azureidentity", "old", "--type=merge", "-p", json.dumps({"spec": {"resourceID": ID}}))
        kubectl("delete", "azureidentity", "old")
    finally:
        installed.apply("policies.yaml")


async def refusal(admin: KubeClient, spec: Obj) -> str:
    """Why an identity is refused; empty when it is taken."""
    path = f"/apis/{GROUP}/v1/namespaces/default/azureidentities"
    try:
        await admin.raw("POST", path, params={"dryRun": "All"}, body=identity("tried", spec))
    except Invalid as refused:
        return str(refused)
    return ""


async def test_the_policies_say_what_mic_says(denying: Policies, admin: KubeClient) -> None:
    """Under Deny exactly those identities are refused that mic ignores, and in the same words."""
    assert denying
    for spec in SPECS:
        problem = identity_problem(msgspec.convert(identity("tried", spec), AzureIdentity))
        found = await refusal(admin, spec)
        assert bool(found) == bool(problem), (spec, found)
        assert (problem or "") in found, spec


async def test_nothing_is_refused_by_default(installed: Policies, admin: KubeClient) -> None:
    """As shipped the policies refuse nothing, however odd: what works today goes on."""
    assert installed
    for spec in SPECS:
        assert not await refusal(admin, spec)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"azureIdentity": "app"}, "spec.selector is missing; set it to the value of the pods' label aadpodidbinding"),
        ({"selector": "app"}, "spec.azureIdentity is missing; set it to the name of an AzureIdentity"),
        ({"azureIdentity": "app", "selector": "a b"}, "spec.selector is no value a label can have"),
        ({"azureIdentity": "app", "selector": "a" * 64}, "spec.selector is no value a label can have"),
        ({"azureIdentity": "app", "selector": "A.b_c-9"}, ""),
    ],
)
def test_bindings(installed: Policies, spec: Obj, why: str) -> None:
    """A binding that can select no pod is warned of when it is written."""
    code, _, warned = installed.create(binding("tried", spec), "--dry-run=server")
    assert code == 0
    assert why in warned if why else not warned


def test_only_mic_writes_records(denying: Policies) -> None:
    """Under Deny no person makes, changes or deletes a record; mic does, and a namespace takes its own along."""
    kubectl = denying.cluster.kubectl
    code, _, said = denying.create(record("forged"))
    assert code != 0
    assert "an AzureAssignedIdentity is mic's record of what it did, and " in said
    role = {"kind": "ClusterRole", "metadata": {"name": "records-of-mic"}, "apiVersion": "rbac.authorization.k8s.io/v1"}
    rules = [{"apiGroups": [GROUP], "resources": ["azureassignedidentities"], "verbs": ["*"]}]
    denying.cluster.apply_objects({**role, "rules": rules})
    kubectl("create", "clusterrolebinding", "records-of-mic", "--clusterrole=records-of-mic", f"--user={MIC}")
    kubectl("create", "namespace", "records-go")
    try:
        mine = record("mine")
        kubectl("create", "-f", "-", f"--as={MIC}", input=yaml.safe_dump(mine))
        kubectl("annotate", "azureassignedidentity", "mine", "a=b", f"--as={MIC}")
        name = ("azureassignedidentity", "mine")
        assert "is not mic" in kubectl("annotate", *name, "c=d", succeeds=False)
        assert "is not mic" in kubectl("delete", *name, succeeds=False)
        kubectl("delete", *name, f"--as={MIC}")
        mine["metadata"]["namespace"] = "records-go"
        kubectl("create", "-f", "-", f"--as={MIC}", input=yaml.safe_dump(mine))
        kubectl("delete", "namespace", "records-go", "--timeout=50s")
    finally:
        kubectl("delete", "clusterrole/records-of-mic", "clusterrolebinding/records-of-mic")


async def test_mic_works_as_before(denying: Policies, admin: KubeClient) -> None:
    """Under Deny mic does all it does, from a pod's record to its removal, as its account and with its rights."""
    denying.cluster.apply_objects(NODE_OF_POOL)
    played = MicStage(admin, await account(admin, "mic", "default", rights("mic")), "default", meddled=False)
    await played.prepare()
    try:
        async with played.started(), played.within(30):
            await played.play()
        assert "denied" not in played.log
        assert "failed" not in played.log
    finally:
        await played.clean()
        await forget_accounts(admin, "default")
        denying.cluster.kubectl("delete", "node", NODE)


def test_what_we_ship_passes_in_silence(denying: Policies) -> None:
    """Every manifest of deploy/ and the walkthrough's identity and binding pass the Deny bindings without a word."""
    values = IdentityValues("uaitest1", ID, CLIENT)
    texts = [render_identity(values), render_binding("uaitest1")]
    denying.cluster.apply_kinds("ServiceAccount")
    for text in [*texts, *(path.read_text() for path in whole_manifests())]:
        done = denying.cluster.server.kubectl("apply", "--dry-run=server", "-f", "-", input=text)
        assert (done.returncode, done.stderr) == (0, ""), text[:200]
    for one in original.exceptions():
        done = denying.cluster.server.kubectl("apply", "--dry-run=server", "-f", "-", input=yaml.safe_dump(one))
        assert (done.returncode, done.stderr) == (0, "")
