"""kubectl on the product's own kinds: read, explain, write, and every wrong manifest; both servers answer alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.kubectl.clusters import Pair, Step

from podidentity.manifests.shipped import shipped

Play = Callable[..., None]
IDENTITY = """
apiVersion: aadpodidentity.k8s.io/v1
kind: AzureIdentity
metadata: {name: id1}
spec:
  type: 0
  resourceID: /subscriptions/s/resourcegroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id1
  clientID: 11111111-1111-1111-1111-111111111111
"""
BINDING = """
apiVersion: aadpodidentity.k8s.io/v1
kind: AzureIdentityBinding
metadata: {name: b1}
spec: {azureIdentity: id1, selector: demo}
"""
EXCEPTION = """
apiVersion: aadpodidentity.k8s.io/v1
kind: AzurePodIdentityException
metadata: {name: e1}
spec: {podLabels: {app: a}}
"""
ASSIGNED = """
apiVersion: aadpodidentity.k8s.io/v1
kind: AzureAssignedIdentity
metadata: {name: p1-default-id1}
spec:
  nodename: n1
  pod: p1
  podNamespace: default
  replicas: 1
  azureIdentityRef: {apiVersion: aadpodidentity.k8s.io/v1, kind: AzureIdentity, metadata: {name: id1}}
  azureBindingRef: {apiVersion: aadpodidentity.k8s.io/v1, kind: AzureIdentityBinding, metadata: {name: b1}}
status: {status: Created, availableReplicas: 1}
"""
KINDS = ("azureidentities", "azureidentitybindings", "azureassignedidentities", "azurepodidentityexceptions")
APPROVAL = '{.status.conditions[?(@.type=="KubernetesAPIApprovalPolicyConformant")]}'
MANIFEST = shipped("deployment-rbac.yaml")


@pytest.fixture(scope="module", autouse=True)
def _definitions(pair: Pair) -> None:
    """The shipped definitions stand on both servers."""
    kinds = [
        document for document in MANIFEST.read_text().split("\n---\n") if "kind: CustomResourceDefinition" in document
    ]
    pair.say("apply", "-f", "-", stdin="\n---\n".join(kinds))
    for said in pair.say(
        "wait", "--for=condition=Established", "--timeout=20s", *(f"crd/{kind}.aadpodidentity.k8s.io" for kind in KINDS)
    ):
        assert said.code == 0, said


def test_reading_identities(play: Play) -> None:
    """Each kind has its columns, its description and its explanation, and is found by every way to print."""
    play(
        Step("apply -f -", f"{IDENTITY}---{BINDING}---{EXCEPTION}---{ASSIGNED}", says="created"),
        Step("get azureidentity", says="CLIENTID"),
        Step("get azureidentitybinding", says="SELECTOR"),
        Step("get azureassignedidentity,azurepodidentityexception", says="AGE"),
        Step("get azureidentity -A -o wide", says="NAMESPACE"),
        Step("get azureidentity id1 -o yaml", says="clientID: 11111111"),
        Step("get azureidentity id1 -o json", says="clientID"),
        Step("get azureidentity -o jsonpath={.items[*].spec.clientID}", says="1111"),
        Step("get azureidentity -o custom-columns=N:.metadata.name,T:.spec.type,R:.spec.resourceID", says="Microsoft"),
        Step("get azureidentity -o name", says="azureidentity.aadpodidentity.k8s.io/id1"),
        Step("get azureidentities.aadpodidentity.k8s.io id1", says="id1"),
        Step("get azureidentities.v1.aadpodidentity.k8s.io id1", says="id1"),
        Step("get azureassignedidentity -o yaml", says="nodename: n1"),
        Step("get azureassignedidentity -o jsonpath={.items[0].status.status}", says="Created"),
        Step("get azureassignedidentity --field-selector spec.nodename=n1", code=1, says="field label not supported"),
        Step("get AzureIdentity/id1 AzureIdentityBinding/b1", says="b1"),
        Step("describe azureidentity id1", says="Resource ID:"),
        Step("describe azureidentitybinding", says="Azure Identity:  id1"),
        Step("describe azureassignedidentity", says="Pod Namespace:"),
        Step(f"get crd azureidentities.aadpodidentity.k8s.io -o jsonpath='{APPROVAL}'", says="UnapprovedAnnotation"),
        Step("api-resources --api-group=aadpodidentity.k8s.io", says="AzurePodIdentityException"),
        Step("api-resources --api-group=aadpodidentity.k8s.io -o name --sort-by=name", says="azureidentities"),
        *(Step(f"explain {kind}", says="VERSION:    v1") for kind in KINDS),
        *(Step(f"explain {kind}.spec", says="FIELDS:") for kind in KINDS),
        Step("explain azureidentity --recursive", says="clientID"),
        Step("explain azureidentity.spec.clientID", says="<string>"),
        Step("explain azureassignedidentity.spec.azureIdentityRef", says="spec"),
        Step("explain azureidentity.spec.clientid", code=1, says='field "clientid" does not exist'),
        Step("explain azureidentity --api-version=aadpodidentity.k8s.io/v1", says="AzureIdentity"),
        Step("explain azureidentity --api-version=aadpodidentity.k8s.io/v2", code=1),
    )


def test_writing_identities(play: Play) -> None:
    """An identity is applied, changed, labelled and deleted as on the real server."""
    play(
        Step("diff -f -", IDENTITY, code=1, says="+kind: AzureIdentity"),
        Step("apply -f - --dry-run=server", IDENTITY, says="created (server dry run)"),
        Step("apply -f -", IDENTITY, says="azureidentity.aadpodidentity.k8s.io/id1 created"),
        Step("apply -f -", IDENTITY, says="azureidentity.aadpodidentity.k8s.io/id1 unchanged"),
        Step("apply -f -", IDENTITY.replace("type: 0", "type: 1"), says="configured"),
        Step("diff -f -", IDENTITY, code=1, says="+  type: 0"),
        Step("edit azureidentity id1", editor="sed -i 's/type: 1/type: 2/'", says="edited"),
        Step("edit azureidentity id1", editor="sed -i 's/clientID/clientid/'", code=1, says="is invalid"),
        Step("""patch azureidentity id1 --type=merge -p '{"spec":{"type":0}}'""", says="patched"),
        Step("""patch azureidentity id1 --type=merge -p '{"spec":{"clientid":"x"}}'""", says="unknown field"),
        Step("""patch azureidentity id1 -p '{"spec":{"type":0}}'""", code=1, says="is not supported by"),
        Step("label azureidentity id1 a=b", says="labeled"),
        Step("annotate azureidentity id1 aadpodidentity.k8s.io/Behavior=namespaced", says="annotated"),
        Step("get azureidentity id1 --show-labels", says="a=b"),
        Step("create -f -", IDENTITY, code=1, says='azureidentities.aadpodidentity.k8s.io "id1" already exists'),
        Step("replace -f -", IDENTITY, says="replaced"),
        Step("apply -f -", BINDING, says="created"),
        Step("delete azureidentity,azureidentitybinding --all", says="b1"),
        Step("delete azureidentity id1", code=1, says='azureidentities.aadpodidentity.k8s.io "id1" not found'),
    )


def test_wrong_identities(play: Play) -> None:
    """A wrong manifest is refused in the real server's words; what only mic can judge passes the schema."""

    def wrong(old: str, new: str, says: str, manifest: str = IDENTITY) -> Step:
        return Step("apply -f -", manifest.replace(old, new), code=1, says=says)

    play(
        wrong("aadpodidentity.k8s.io/v1", "aadpodidentity.k8s.io/v9", "no matches for kind"),
        wrong("aadpodidentity.k8s.io/v1", "aadpodidentity.io/v1", "no matches for kind"),
        wrong("apiVersion: aadpodidentity.k8s.io/v1", "a: b", "apiVersion not set"),
        wrong("kind: AzureIdentity", "kind: azureIdentity", "no matches for kind"),
        wrong("kind: AzureIdentity", "kind: AzureIdentities", "no matches for kind"),
        wrong("clientID:", "clientid:", 'unknown field "spec.clientid"'),
        wrong("resourceID:", "resourceId:", 'unknown field "spec.resourceId"'),
        wrong("type: 0", "Type: 0", 'unknown field "spec.Type"'),
        wrong("type: 0", "type: '0'", "must be of type integer"),
        wrong("clientID: 11111111-1111-1111-1111-111111111111", "clientID: 7", "must be of type string"),
        wrong("spec:", "specs:", 'unknown field "specs"'),
        wrong("name: id1", "name: Id_1", "a lowercase RFC 1123 subdomain"),
        wrong("name: id1", f"name: {'a' * 254}", "must be no more than 253"),
        wrong("name: id1", "Name: id1", "resource name may not be empty"),
        wrong("name: id1", "name: id1, namespace: elsewhere", "does not match the namespace"),
        wrong("azureIdentity:", "azureidentity:", 'unknown field "spec.azureidentity"', BINDING),
        wrong("selector: demo", "selector: [demo]", "must be of type string", BINDING),
        wrong("podLabels: {app: a}", "podLabels: {app: 1}", "must be of type string", EXCEPTION),
        wrong("podLabels:", "podlabels:", 'unknown field "spec.podlabels"', EXCEPTION),
        wrong("kind: AzureIdentity, ", "", "azureIdentityRef.kind", ASSIGNED),
        wrong("nodename:", "nodeName:", 'unknown field "spec.nodeName"', ASSIGNED),
        wrong("availableReplicas: 1", "availableReplicas: x", "must be of type integer", ASSIGNED),
        wrong("spec:", "spec: [", "error converting YAML to JSON"),
        wrong("kind: AzureIdentity, ", "kind: '', ", "azureIdentityRef.kind", ASSIGNED),
        Step("apply -f -", BINDING.replace("id1", "nobody"), says="created"),
        Step("apply -f -", IDENTITY, says="created"),
        Step("apply -f -", IDENTITY.replace("type: 0", "type: 7"), says="configured"),
        Step("apply -f -", IDENTITY.replace("  clientID: 11111111-1111-1111-1111-111111111111", ""), says="configured"),
        Step(
            "apply -f - --validate=warn",
            IDENTITY.replace("type: 0", "typ: 0"),
            says='Warning: unknown field "spec.typ"',
        ),
        Step("apply -f -", IDENTITY.replace("/subscriptions/s", "nonsense"), says="configured"),
        Step("get azureidentity,azureidentitybinding -o yaml", says="nonsense"),
        Step("apply -f /nonexistent.yaml", code=1, says="does not exist"),
        Step("apply -f -", "a: b", code=1, says="kind not set"),
        Step("apply -f -", "", code=1, says="no objects passed to apply"),
    )


def test_the_shipped_manifests_pretend_alike(pair: Pair) -> None:
    """A dry run of every shipped manifest says the same of each object on both servers.

    The embedded one has no admission policies: it names the server that has, and says the same of all other objects.
    """
    for path in sorted(Path(MANIFEST).parent.glob("*.yaml")):
        real, embedded = pair.say("apply", "--dry-run=server", "-f", str(path))
        policies = [line for line in real.out.splitlines() if line.startswith("validatingadmissionpolic")]
        if not policies:
            assert real.normal() == embedded.normal(), path
            continue
        assert embedded.err.count("start the lab with --api-server=real") == len(policies)
        assert [line for line in real.out.splitlines() if line not in policies] == embedded.out.splitlines(), path
