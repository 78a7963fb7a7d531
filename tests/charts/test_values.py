"""Every value of the original's chart: what it renders, and what is said of a wrong one."""

from __future__ import annotations

import pytest
import yaml
from tests.charts import goldens
from tests.charts.chart import CHART, Helm, container, one

IDENTITY = {
    "type": 0,
    "resourceID": "/subscriptions/s/resourcegroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i",
    "clientID": "66666666-6666-6666-6666-666666666666",
    "binding": {"name": "b", "selector": "x"},
}
PRINCIPAL = {
    "type": 1,
    "tenantID": "t",
    "clientID": "c",
    "clientPassword": '{"name":"n","namespace":"m"}',
    "binding": {"selector": "x"},
}
SECRET = {
    "cloud": "AzurePublicCloud",
    "subscriptionID": "s",
    "resourceGroup": "g",
    "vmType": "vmss",
    "tenantID": "t",
    "clientID": "c",
    "clientSecret": "p",
}


def without(mapping: dict[str, object], key: str) -> dict[str, object]:
    """All of it but one key."""
    return {name: value for name, value in mapping.items() if name != key}


@pytest.mark.parametrize("name", goldens.NAMES)
def test_golden(helm: Helm, name: str) -> None:
    """A change of the chart shows what it does to each value set before it is shipped."""
    assert goldens.rendered(helm, name) == goldens.golden(name).read_text(), "`make goldens`, then read the difference"


def test_no_golden_file_is_left_over() -> None:
    """Each golden file has its value set."""
    assert sorted(path.stem for path in (goldens.HERE / "golden").glob("*.yaml")) == list(goldens.NAMES)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"operationMode": "manged"}, "/operationMode"),
        ({"operationmode": "managed"}, "operationmode"),
        ({"mic": {"replicas": "two"}}, "/mic/replicas"),
        ({"mic": {"replica": 3}}, "replica"),
        ({"mic": {"probePort": 70000}}, "/mic/probePort"),
        ({"mic": {"syncRetryDuration": "1 hour"}}, "/mic/syncRetryDuration"),
        ({"mic": {"clientQps": 0}}, "/mic/clientQps"),
        ({"mic": {"loggingFormat": "xml"}}, "/mic/loggingFormat"),
        ({"mic": {"immutableUserMSIs": "id"}}, "/mic/immutableUserMSIs"),
        ({"mic": {"leaderElection": {"lock": "configmaps"}}}, "/mic/leaderElection/lock"),
        ({"nmi": {"probePort": "http"}}, "/nmi/probePort"),
        ({"nmi": {"metadataHeaderRequired": "maybe"}}, "/nmi/metadataHeaderRequired"),
        ({"nmi": {"ipTableUpdateTimeIntervalInSeconds": 0}}, "/nmi/ipTableUpdateTimeIntervalInSeconds"),
        ({"nmi": {"kubeletConfig": "kubelet"}}, "/nmi/kubeletConfig"),
        ({"rbac": {"allowAccessToSecrets": "no"}}, "/rbac/allowAccessToSecrets"),
        ({"image": {"imagePullPolicy": "Sometimes"}}, "/image/imagePullPolicy"),
        ({"adminsecret": {**SECRET, "clientId": "c"}}, "clientId"),
        ({"azureIdentities": {"a": {**IDENTITY, "type": 3}}}, "/azureIdentities/a/type"),
        ({"azureIdentities": {"a": {**IDENTITY, "resourceId": "x"}}}, "resourceId"),
        ({"azureIdentities": [IDENTITY]}, "/azureIdentities/0"),
    ],
)
def test_a_wrong_value_is_named(helm: Helm, values: dict[str, object], named: str) -> None:
    """A misspelled or impossible value stops helm with its place, before anything of the cluster is touched."""
    said = helm.refusal(values)
    assert "values don't meet the specifications of the schema" in said
    assert named in said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        *(
            ({"azureIdentities": {"a": without(IDENTITY, key)}}, f"{key} is required!")
            for key in ("clientID", "resourceID")
        ),
        *(
            ({"azureIdentities": {"a": without(PRINCIPAL, key)}}, f"{key} is required!")
            for key in ("clientID", "tenantID", "clientPassword")
        ),
        ({"azureIdentities": {"a": without(IDENTITY, "binding")}}, "binding.selector is required!"),
        ({"azureIdentities": {"a": {**IDENTITY, "binding": {"name": "b"}}}}, "binding.selector is required!"),
        ({"adminsecret": without(SECRET, "cloud")}, "A valid cloud environment name is required"),
        ({"adminsecret": without(SECRET, "subscriptionID")}, "A valid subscription id is required"),
        ({"adminsecret": without(SECRET, "resourceGroup")}, "A valid resource group is required"),
        ({"adminsecret": without(SECRET, "vmType")}, "A valid vm type is required"),
        ({"adminsecret": without(SECRET, "tenantID")}, "A valid cloud tenant id is required"),
        ({"adminsecret": without(SECRET, "clientID")}, "A valid client id is required"),
        ({"adminsecret": without(SECRET, "clientSecret")}, "A valid client secret is required"),
        (
            {"image": {"repository": "mirror.example.com"}, "nmi": {"tag": "v1.8.17"}},
            "nmi.tag: v1.8.17 is a version of the original; set it to the tag that mirror.example.com has",
        ),
    ],
)
def test_a_missing_value_is_named(helm: Helm, values: dict[str, object], said: str) -> None:
    """What a value set lacks is said in the original chart's words."""
    assert said in helm.refusal(values)


@pytest.mark.parametrize("off", [False, "", "false", "False"])
def test_the_exceptions_can_be_left_out(helm: Helm, off: object) -> None:
    """Also by the text "false", which the original took for true."""
    kinds = {item["kind"] for item in helm.objects({"installMICException": off})}
    assert "AzurePodIdentityException" not in kinds


@pytest.mark.parametrize("use_msi", [True, "true"])
def test_a_boolean_use_msi_works(helm: Helm, use_msi: object) -> None:
    """`--set` gives a boolean, with which the original could not be rendered; its client id may be absent."""
    values = {"adminsecret": {**without(without(SECRET, "clientID"), "clientSecret"), "useMSI": use_msi}}
    mic = one(helm.objects(values), "Deployment", "aad-pod-identity-mic")
    names = {entry["name"] for entry in container(mic)["env"]}
    assert {"USE_MSI", "USER_ASSIGNED_MSI_CLIENT_ID", "CLIENT_ID"} <= names


@pytest.mark.parametrize("use_msi", [False, "false", ""])
def test_use_msi_that_is_false_changes_nothing(helm: Helm, use_msi: object) -> None:
    """The text "false" does not make mic believe that it has a managed identity."""
    mic = one(helm.objects({"adminsecret": {**SECRET, "useMSI": use_msi}}), "Deployment", "aad-pod-identity-mic")
    assert "USE_MSI" not in {entry["name"] for entry in container(mic)["env"]}


def test_images_of_the_original_are_replaced(helm: Helm) -> None:
    """Values kept from the original install this product, not the original beside its rights."""
    values = {
        "image": {"repository": "mcr.microsoft.com/oss/azure/aad-pod-identity"},
        "mic": {"tag": "v1.8.17"},
        "nmi": {"tag": "v1.7.4"},
    }
    app = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    for kind, part in (("Deployment", "mic"), ("DaemonSet", "nmi")):
        image = container(one(helm.objects(values), kind, f"aad-pod-identity-{part}"))["image"]
        assert image == f"podidentity/{part}:v{app}"


def test_an_image_by_digest(helm: Helm) -> None:
    """A tag need not be a version, which the original's templates asked for."""
    values = {"nmi": {"tag": f"sha256:{'0' * 64}"}}
    image = container(one(helm.objects(values), "DaemonSet", "aad-pod-identity-nmi"))["image"]
    assert image == f"podidentity/nmi@sha256:{'0' * 64}"


def test_values_that_know_none_of_ours(helm: Helm) -> None:
    """`--reuse-values` brings the old chart's values along, and ours are not added: no template relies on one."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    bare = {**dict.fromkeys(defaults), **{part: dict.fromkeys(defaults[part]) for part in ("mic", "nmi")}}
    objects, usual = helm.objects(bare), helm.objects({})
    same = [
        item for item in usual if item["kind"] not in {"Deployment", "DaemonSet", "Pod", "AzurePodIdentityException"}
    ]
    assert [item for item in objects if item in same] == same
    for kind, part in (("Deployment", "mic"), ("DaemonSet", "nmi")):
        found, expected = (container(one(all_of, kind, f"aad-pod-identity-{part}")) for all_of in (objects, usual))
        assert found["image"] == expected["image"]
        assert {*found["args"]} <= {*expected["args"], "--http-probe-port=8080"}
        assert found["volumeMounts"] == expected["volumeMounts"]
    assert one(objects, "Deployment", "aad-pod-identity-mic")["spec"]["replicas"] == 2
