"""Our manifests on the real API server with the real kubectl: new, over the original's objects, and back."""

from __future__ import annotations

import json
import re
import urllib.request
from base64 import b64encode

import pytest
from tests.deploy import original
from tests.deploy.conftest import DEPLOY, Cluster, whole_manifests
from tests.deploy.original import INSTALLATIONS, Obj

from podidentity.lab.scenarios.walkthrough import APPLIED
from podidentity.manifests.installation import FILES, Mode, Wish, installation

LINE = re.compile(r"(?P<object>\S+/\S+) (?P<word>created|configured|unchanged)")
IDENTITY = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/rg/providers"
    "/Microsoft.ManagedIdentity/userAssignedIdentities/app"
)
RECORD = "control-plane.alpha.kubernetes.io/leader"


def words(lines: list[str]) -> dict[str, str]:
    """Object -> what kubectl says it did."""
    found = {}
    for line in lines:
        match = LINE.fullmatch(line)
        assert match, line
        found[match["object"]] = match["word"]
    return found


def resource(kind: str, name: str, spec: Obj, **more: Obj) -> Obj:
    """A custom resource of the original."""
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": f"{original.GROUP}/v1", "kind": kind, "metadata": metadata, "spec": spec, **more}


def custom_resources(kinds: set[str]) -> list[Obj]:
    """One of each kind, as users and mic write them."""
    identity = resource("AzureIdentity", "app", {"type": 0, "resourceID": IDENTITY, "clientID": "c-1"})
    binding = resource("AzureIdentityBinding", "app-binding", {"azureIdentity": "app", "selector": "app"})
    refs = {"azureIdentityRef": identity, "azureBindingRef": binding}
    spec = {**refs, "pod": "p", "podNamespace": "default", "nodename": "n1"}
    status = {"status": "Assigned", "availableReplicas": 1}
    assigned = resource("AzureAssignedIdentity", "p-default-app", spec, status=status)
    assigned["metadata"] |= {
        "labels": {"nodename": "n1"},
        "finalizers": ["azureassignedidentity.finalizers.aadpodidentity.k8s.io"],
    }
    return [one for one in (identity, binding, *original.exceptions(), assigned) if one["kind"] in kinds]


def leader_record() -> Obj:
    """The Endpoints object that the original's leader renews."""
    text = json.dumps({"holderIdentity": "mic-old", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00Z"})
    metadata = {"name": "aad-pod-identity-mic", "namespace": "default", "annotations": {RECORD: text}}
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata}


def test_the_walkthroughs_twelve_lines(cluster: Cluster) -> None:
    """W5, W6: `kubectl apply` prints what the walkthrough shows, the exceptions right after, no error again."""
    assert cluster.apply("podidentityforkubenet.yaml") == [f"{line} created" for line in APPLIED]
    assert words(cluster.apply("podidentityexception.yaml")) == {
        "azurepodidentityexception.aadpodidentity.k8s.io/mic-exception": "created",
        "azurepodidentityexception.aadpodidentity.k8s.io/aks-addon-exception": "created",
    }
    again = words(cluster.apply("podidentityforkubenet.yaml"))
    assert {word for name, word in again.items() if not name.startswith("customresource")} == {"unchanged"}
    assert set(again.values()) <= {"unchanged", "configured"}
    assert not cluster.kubectl("diff", "-f", str(DEPLOY / "podidentityforkubenet.yaml"))
    assert set(words(cluster.apply("mic-exception.yaml")).values()) == {"unchanged"}
    assert set(words(cluster.apply("deployment-rbac.yaml")).values()) <= {"unchanged", "configured"}


@pytest.mark.parametrize("file", INSTALLATIONS)
def test_ours_over_the_originals_and_back(cluster: Cluster, file: str) -> None:
    """Every object is replaced in place, none is new, what users and mic wrote stays; and back again."""
    before = INSTALLATIONS[file]
    assert set(words(cluster.apply_objects(*before)).values()) == {"created"}
    kinds = {one["spec"]["names"]["kind"] for one in before if one["kind"] == "CustomResourceDefinition"}
    cluster.until_served(*(one["spec"]["names"]["plural"] for one in before if "names" in one.get("spec", {})))
    users = custom_resources(kinds)
    cluster.apply_objects(*users, leader_record())
    stored = [cluster.get(one["kind"], one["metadata"]["name"], "-n", one["metadata"]["namespace"]) for one in users]

    ours = words(cluster.apply(file))
    assert set(ours.values()) <= {"configured", "unchanged"}
    theirs = {f"{one['kind'].lower()}/{one['metadata']['name']}" for one in before if one["kind"] != "Secret"}
    assert {re.sub(r"\..*?/", "/", name) for name in ours} == theirs
    again = [cluster.get(one["kind"], one["metadata"]["name"], "-n", one["metadata"]["namespace"]) for one in users]
    assert again == stored
    endpoints = cluster.get("endpoints", "aad-pod-identity-mic")
    assert json.loads(endpoints["metadata"]["annotations"][RECORD])["holderIdentity"] == "mic-old"
    for one in users:
        cluster.kubectl("annotate", one["kind"], one["metadata"]["name"], "-n", one["metadata"]["namespace"], "a=b")

    assert set(words(cluster.apply_objects(*before)).values()) <= {"configured", "unchanged"}
    for kind, name in (("daemonset", "nmi"), ("deployment", "mic")):
        for one in before:
            if (one["kind"].lower(), one["metadata"]["name"]) == (kind, name):
                found = cluster.get(kind, name, "-n", one["metadata"]["namespace"])
                container = found["spec"]["template"]["spec"]["containers"][0]
                assert "readinessProbe" not in container
                assert container["args"] == one["spec"]["template"]["spec"]["containers"][0]["args"]


def test_over_crds_that_were_v1beta1_once(cluster: Cluster) -> None:
    """The walkthrough's installation, on a cluster upgraded since: its CRDs stop keeping unknown fields."""
    for crd in (original.ASSIGNED_CRD, *original.CRDS):
        spec = {**crd["spec"], "preserveUnknownFields": True}
        version = {**spec["versions"][0], "schema": {"openAPIV3Schema": {"type": "object"}}}
        old = {**crd, "spec": {**spec, "versions": [version], "conversion": {"strategy": "None"}}}
        old["metadata"] = {
            **crd["metadata"],
            "uid": crd["metadata"]["name"],
            "creationTimestamp": "2021-02-07T02:00:00Z",
        }
        _store(cluster, f"apiextensions.k8s.io/customresourcedefinitions/{crd['metadata']['name']}", old)
    cluster.until_served()
    ours = words(cluster.apply("podidentityforkubenet.yaml"))
    assert {word for name, word in ours.items() if name.startswith("customresource")} == {"configured"}
    for crd in cluster.get("crd")["items"]:
        assert not crd["spec"].get("preserveUnknownFields")


def _store(cluster: Cluster, key: str, value: Obj) -> None:
    """Put an object into etcd, past the API server that would not take it today."""
    pair = {"key": f"/registry/{key}", "value": json.dumps(value)}
    body = json.dumps({name: b64encode(text.encode()).decode() for name, text in pair.items()}).encode()
    url = f"http://127.0.0.1:{cluster.server.plane.etcd_port}/v3/kv/put"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, body), timeout=10) as answer:
        assert answer.status == 200


def test_what_the_manifests_say_is_understood_by_the_server(cluster: Cluster) -> None:
    """No file has a field that Kubernetes would drop without a word."""
    cluster.apply_kinds("CustomResourceDefinition", "ServiceAccount")
    for path in whole_manifests():
        done = cluster.server.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(path))
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mode", tuple(Mode))
def test_moved_to_a_namespace_of_ones_own(cluster: Cluster, mode: Mode) -> None:
    """What `podidentity manifests install --namespace` prints is taken as a whole, and nothing of it is elsewhere."""
    cluster.kubectl("create", "namespace", "ids")
    try:
        text = installation((DEPLOY / FILES[mode]).read_text(), Wish(mode, "ids", "registry.example.org/p", "v9"))
        cluster.kubectl("apply", "--validate=strict", "-f", "-", input=text)
        for kind in ("daemonset", "deployment", "serviceaccount"):
            names = {one["metadata"]["name"] for one in cluster.get(kind, "-n", "default")["items"]} - {"default"}
            assert not names
        assert cluster.get("daemonset", "nmi", "-n", "ids")
        account = "--as=system:serviceaccount:ids:aad-pod-id-nmi-service-account"
        assert cluster.kubectl("auth", "can-i", "list", "pods", "-A", account).strip() == "yes"
    finally:
        cluster.kubectl("delete", "namespace", "ids", "--wait=true")
