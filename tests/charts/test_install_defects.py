"""The numbered defects of the original's installation: what ours does instead (docs/reference/install-defects.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.charts.chart import CHART, Helm, container, one
from tests.charts.test_values import IDENTITY, SECRET, without

from podidentity.cli.entry import run
from podidentity.config.errors import ConfigError
from podidentity.manifests.installation import EXCEPTIONS, FILES, Mode, Wish, exceptions, installation
from podidentity.manifests.role_facts import from_terraform
from podidentity.manifests.shipped import shipped
from podidentity.nmi.datapath.kubenet import check
from podidentity.rules.resource_id import ResourceId
from podidentity.rules.role_check import Grant, State, judged
from podidentity.rules.role_needs import Facts, Principal, needed
from podidentity.rules.roles import IDENTITY_OPERATOR

DEPLOY = shipped(EXCEPTIONS).parent
CLUSTER_WIDE = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}
CRDS = ["azureassignedidentities", "azureidentitybindings", "azureidentities", "azurepodidentityexceptions"]


def objects(mode: Mode, **wish: Any) -> list[dict[str, Any]]:
    """The objects of an installation, its exceptions too."""
    made = Wish(mode, **wish)
    texts = (installation(shipped(FILES[mode]).read_text(), made), exceptions(shipped(EXCEPTIONS).read_text(), made))
    return [found for text in texts for found in yaml.safe_load_all(text)]


def test_i1_a_namespace_moves_everything_together() -> None:
    """One switch moves accounts, subjects, workloads, the leader's record, what nmi asks, and mic's exception."""
    found = objects(Mode.STANDARD, namespace="ids")
    placed = {item["metadata"]["name"]: item["metadata"].get("namespace") for item in found}
    assert {where for name, where in placed.items() if name != "aks-addon-exception"} == {"ids", None}
    assert all(item["kind"] in CLUSTER_WIDE for item in found if item["metadata"].get("namespace") is None)
    subjects = [subject["namespace"] for item in found for subject in item.get("subjects", [])]
    assert subjects == ["ids", "ids"]
    assert "--MICNamespace=ids" in container(one(found, "DaemonSet", "nmi"))["args"]
    assert "--leader-election-namespace=ids" in container(one(found, "Deployment", "mic"))["args"]


@pytest.mark.parametrize("mode", Mode)
def test_i2_rights_hold_what_is_used(mode: Mode) -> None:
    """No verb Kubernetes does not know, nothing on CRDs, writes of mic's records by name, Secrets on demand only."""
    rules = [rule for item in objects(mode) if item["kind"] == "ClusterRole" for rule in item["rules"]]
    known = {"get", "list", "watch", "create", "update", "patch", "delete"}
    assert {verb for rule in rules for verb in rule["verbs"]} <= known
    assert not any("customresourcedefinitions" in rule["resources"] for rule in rules)
    for rule in rules:
        if {"configmaps", "endpoints", "leases"} & set(rule["resources"]) and rule["verbs"] != ["create"]:
            assert rule["resourceNames"]
    narrow = [rule for item in objects(mode, secrets=False) for rule in item.get("rules", [])]
    assert not any("secrets" in rule["resources"] for rule in narrow)


@pytest.mark.parametrize("mode", Mode)
def test_i3_ready_is_more_than_alive(mode: Mode) -> None:
    """Each workload says when it does not serve, apart from being alive."""
    for item in objects(mode):
        if item["kind"] in {"DaemonSet", "Deployment"}:
            probes = container(item)
            assert probes["readinessProbe"]["httpGet"]["path"] == "/readyz"
            assert probes["livenessProbe"]["httpGet"]["path"] == "/healthz"


def test_i4_kubenet_is_told_by_what_is_there(tmp_path: Path) -> None:
    """The empty file that FileOrCreate makes says nothing: the CNI configuration and the bridge itself do."""
    kubelet, cni = tmp_path / "kubelet", tmp_path / "cni"
    kubelet.touch()
    cni.mkdir()
    assert check(str(kubelet), allowed=False, sys=tmp_path, cni=cni) == ""
    (cni / "10-kubenet.conf").write_text(json.dumps({"type": "bridge", "name": "kubenet"}))
    with pytest.raises(ConfigError, match="not supported for Kubenet"):
        check(str(kubelet), allowed=False, sys=tmp_path, cni=cni)


def test_i5_root_only_where_azure_json_asks_for_it() -> None:
    """Without azure.json mic is nobody; with it, root on a read-only root file system."""
    plain = container(one(objects(Mode.NO_AZURE_JSON), "Deployment", "mic"))["securityContext"]
    assert (plain["runAsNonRoot"], plain["readOnlyRootFilesystem"]) == (True, True)
    assert container(one(objects(Mode.STANDARD), "Deployment", "mic"))["securityContext"]["readOnlyRootFilesystem"]


def test_i6_no_file_without_rbac() -> None:
    """Every file has its accounts, and none mounts the kubelet's folder or its certificates."""
    for mode in Mode:
        found = objects(mode)
        workloads = [item for item in found if item["kind"] in {"DaemonSet", "Deployment"}]
        assert all(item["spec"]["template"]["spec"]["serviceAccountName"] for item in workloads)
        paths = {
            volume["hostPath"]["path"]
            for item in workloads
            for volume in item["spec"]["template"]["spec"].get("volumes", [])
            if "hostPath" in volume
        }
        assert paths <= {"/run/xtables.lock", "/etc/default/kubelet", "/etc/kubernetes/azure.json"}


def test_i7_no_placeholder_is_shipped() -> None:
    """The file can be applied as it is: it ships no Secret, says how to make it, and knows managed identities."""
    text = shipped(FILES[Mode.NO_AZURE_JSON]).read_text()
    found = list(yaml.safe_load_all(text))
    assert "Secret" not in {item["kind"] for item in found}
    assert "base64-encoded" not in text
    assert "kubectl create secret generic aadpodidentity-admin-secret" in text
    variables = {entry["name"] for entry in container(one(found, "Deployment", "mic"))["env"]}
    assert {"USE_MSI", "USER_ASSIGNED_MSI_CLIENT_ID"} <= variables


def test_i8_managed_mode_has_no_exception_for_mic() -> None:
    """Where there is no mic no pod is let through for it; nothing of the installation is in default."""
    found = objects(Mode.MANAGED)
    names = [item["metadata"]["name"] for item in found if item["kind"] == "AzurePodIdentityException"]
    assert names == ["aks-addon-exception"]
    assert {item["metadata"].get("namespace", "kube-system") for item in found} == {"kube-system"}


def test_i9_the_walkthroughs_order_and_a_page_of_all_values() -> None:
    """CRDs come in the order people see; every value of the chart is on its page, with its default."""
    for mode in (Mode.STANDARD, Mode.KUBENET, Mode.NO_AZURE_JSON):
        found = [
            item["spec"]["names"]["plural"] for item in objects(mode) if item["kind"] == "CustomResourceDefinition"
        ]
        assert found == CRDS
    page = (DEPLOY.parent / "docs" / "reference" / "chart-values.md").read_text()
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    keys = [f"{part}.{key}" for part in ("mic", "nmi") for key in values[part]]
    assert [key for key in keys if f"`{key}" not in page] == []


def test_i10_the_text_false_is_false(helm: Helm) -> None:
    """The exceptions can be left out by any spelling of no, also where one was applied by hand."""
    assert "AzurePodIdentityException" not in {item["kind"] for item in helm.objects({"installMICException": "false"})}


def test_i11_wrong_values_are_named(helm: Helm) -> None:
    """A mode that does not exist, a missing binding and a wrong type stop helm; a digest is a tag like any other."""
    assert "/operationMode" in helm.refusal({"operationMode": "manged"})
    assert "binding.selector is required!" in helm.refusal({"azureIdentities": {"a": without(IDENTITY, "binding")}})
    assert "/azureIdentities/a/type" in helm.refusal({"azureIdentities": {"a": {**IDENTITY, "type": 3}}})
    image = container(one(helm.objects({"nmi": {"tag": "latest"}}), "DaemonSet", "aad-pod-identity-nmi"))["image"]
    assert image.endswith(":latest")


def test_i12_budgets_and_policies_where_they_belong(helm: Helm) -> None:
    """MaxUnavailable counts, the budget is this release's, and managed mode has neither it nor mic's policy."""
    values = {"mic": {"podDisruptionBudget": {"maxUnavailable": 1}}, "rbac": {"pspEnabled": True}}
    budget = one(helm.objects(values), "PodDisruptionBudget", "mic-pdb")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"]["app.kubernetes.io/instance"] == "aad-pod-identity"
    managed = helm.objects({**values, "operationMode": "managed"}, "--api-versions=policy/v1beta1/PodSecurityPolicy")
    kinds = [(item["kind"], item["metadata"]["name"]) for item in managed]
    assert not any(kind == "PodDisruptionBudget" or name.endswith("-psp-mic") for kind, name in kinds)


def test_i13_a_managed_identity_needs_no_password(helm: Helm) -> None:
    """A boolean useMSI is enough; the text "false" is no."""
    bare = without(without(SECRET, "clientID"), "clientSecret")
    yes = container(one(helm.objects({"adminsecret": {**bare, "useMSI": True}}), "Deployment", "aad-pod-identity-mic"))
    assert "USE_MSI" in {entry["name"] for entry in yes["env"]}
    no = container(
        one(helm.objects({"adminsecret": {**SECRET, "useMSI": "false"}}), "Deployment", "aad-pod-identity-mic")
    )
    assert "USE_MSI" not in {entry["name"] for entry in no["env"]}


def test_i14_the_releases_namespace_is_nmis_too(helm: Helm) -> None:
    """Nmi looks for mic where the release is."""
    nmi = container(one(helm.objects({}, namespace="ids"), "DaemonSet", "aad-pod-identity-nmi"))
    assert "--MICNamespace=ids" in nmi["args"]


def test_i15_roles_by_object_id_for_any_group(capsys: pytest.CaptureFixture[str]) -> None:
    """No directory look-up, no login, several identities in several groups and subscriptions at once."""
    scope = "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/x"
    principal, subscription = "e5c1d2b8-7a1f-4a7d-b4d3-8a2d3c0f6b31", "5a1c6b5e-3f57-4f0e-9c5e-0b7a8f1f2d01"
    scopes = [scope.format(subscription, "a"), scope.format("another", "b c")]
    words = [f"--subscription={subscription}", "--node-group=n", f"--principal-id={principal}"]
    assert run(["podidentity", "roles", "plan", *words, f"--identity={scopes[0]}", "--output=az"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(f"--assignee-object-id {principal} --assignee-principal-type ServicePrincipal" in line for line in lines)
    facts = Facts(
        (Principal(principal, "mic"),), subscription, "n", (ResourceId("a", "b", "c"), ResourceId("d", "e", "f"))
    )
    assert len({need.scope for need in needed(facts)}) == 3


def test_i16_the_policy_for_ids_is_anchored() -> None:
    """The admission policy takes an id whole, and asks for a type; no file opens privileged pods to everybody."""
    text = (DEPLOY / "policy" / "policies.yaml").read_text()
    assert "(?i)^/subscriptions/" in text
    assert "variables.type in [0, 1, 2]" in text
    assert not any("system:authenticated" in path.read_text() for path in DEPLOY.rglob("*.yaml"))


def test_i17_the_walkthroughs_way_is_taken_and_told() -> None:
    """Its wide grants are enough and said to be wide; outputs are found whatever they are called."""
    found = from_terraform(shipped("terraform/sample-output.json").read_bytes())
    assert found.sign_in is not None
    need = needed(Facts((Principal("o", "mic"),), "s", "n", (ResourceId("s", "g", "uai1"),)))[1]
    (finding,) = judged([need], [Grant("o", IDENTITY_OPERATOR, "/subscriptions/s")])
    assert finding.state is State.WIDE
    renamed = (
        b'{"AKSFullOutput": {"value": {"kubelet_identity": [%s]}}}'
        % json.dumps({"client_id": "c", "object_id": "o", "user_assigned_identity_id": need.scope}).encode()
    )
    sign_in = from_terraform(renamed).sign_in
    assert sign_in is not None
    assert sign_in.object_id == "o"
