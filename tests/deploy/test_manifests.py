"""The shipped manifests: what users' clusters and scripts rely on."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import pytest
import yaml

from podidentity.api import constants
from podidentity.api.resources import (
    AZURE_ASSIGNED_IDENTITIES,
    AZURE_IDENTITIES,
    AZURE_IDENTITY_BINDINGS,
    AZURE_POD_IDENTITY_EXCEPTIONS,
    Resource,
)
from podidentity.config.csi import csi_settings
from podidentity.config.mic import mic_settings
from podidentity.config.nmi import nmi_settings
from podidentity.lab.scenarios.walkthrough import APPLIED

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
KINDS = (AZURE_ASSIGNED_IDENTITIES, AZURE_IDENTITY_BINDINGS, AZURE_IDENTITIES, AZURE_POD_IDENTITY_EXCEPTIONS)


def load(name: str) -> list[dict[str, object]]:
    """The objects of a file, in order."""
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def one(name: str, kind: str, called: str) -> Mapping[str, object]:
    """One object of a file."""
    return next(item for item in load(name) if item["kind"] == kind and item["metadata"]["name"] == called)


def test_the_objects_come_in_the_walkthroughs_order() -> None:
    """W5: `kubectl apply` prints in file order, and people compare."""
    names = [(item["kind"].lower(), item["metadata"]["name"]) for item in load("podidentityforkubenet.yaml")]
    assert names == [(line.split(".")[0].split("/")[0], line.split("/", 1)[1]) for line in APPLIED]


def test_the_kubenet_manifest_only_adds_the_switch() -> None:
    """Whoever compares the two sees what kubenet needs and nothing else."""
    standard, kubenet = (
        (DEPLOY / name).read_text().splitlines() for name in ("deployment-rbac.yaml", "podidentityforkubenet.yaml")
    )
    changes = [line for line in difflib.ndiff(standard, kubenet) if line[0] in "+-?"]
    assert changes == ['+             - "--allow-network-plugin-kubenet=true"']


def test_an_nmi_that_hangs_is_replaced_within_half_a_minute() -> None:
    """Protects the node's pods: until then they get no token. Kubernetes' own 30 s of grace would come on top."""
    spec = one("deployment-rbac.yaml", "DaemonSet", "nmi")["spec"]["template"]["spec"]
    probe = spec["containers"][0]["livenessProbe"]
    assert probe["periodSeconds"] * probe.get("failureThreshold", 3) + spec["terminationGracePeriodSeconds"] <= 30


def test_a9_nmi_may_only_read() -> None:
    """A lost node gives its finder no write verb anywhere."""
    rules = one("deployment-rbac.yaml", "ClusterRole", "aad-pod-id-nmi-role")["rules"]
    verbs = {verb for rule in rules for verb in rule["verbs"]}
    assert verbs <= {"get", "list", "watch"}
    assert not any("nodes" in rule["resources"] for rule in rules)


@pytest.mark.parametrize(
    "file", ["deployment-rbac.yaml", "podidentityforkubenet.yaml", "noazurejson/deployment-rbac.yaml"]
)
def test_a3_only_mic_may_write_assigned_identities(file: str) -> None:
    """What nmi believes is written by mic alone: no other role of ours gives the right to."""
    writers = {
        role["metadata"]["name"]
        for role in load(file)
        if role["kind"] in ("ClusterRole", "Role")
        for rule in role["rules"]
        if {"azureassignedidentities", "*"} & set(rule["resources"]) and set(rule["verbs"]) - {"get", "list", "watch"}
    }
    assert writers == {"aad-pod-id-mic-role"}


def test_d30_the_right_on_all_secrets_can_be_taken_away() -> None:
    """The restricted role replaces nmi's by one without Secrets, and shows the Role that names those in use."""
    roles = [item for item in load("nmi-secrets-restricted.yaml") if item["kind"] in ("ClusterRole", "Role")]
    wide = [role for role in roles if role["kind"] == "ClusterRole"]
    assert [role["metadata"]["name"] for role in wide] == ["aad-pod-id-nmi-role"]
    assert not any("secrets" in rule["resources"] for role in wide for rule in role["rules"])
    narrow = [rule for role in roles if role["kind"] == "Role" for rule in role["rules"]]
    assert [(rule["resources"], rule["verbs"]) for rule in narrow if rule["resourceNames"]] == [(["secrets"], ["get"])]


@pytest.mark.parametrize(
    ("file", "kind", "name"),
    [
        ("deployment-rbac.yaml", "DaemonSet", "nmi"),
        ("podidentityforkubenet.yaml", "DaemonSet", "nmi"),
        ("managed-mode-deployment.yaml", "DaemonSet", "nmi"),
        ("deployment-rbac.yaml", "Deployment", "mic"),
        ("noazurejson/deployment-rbac.yaml", "Deployment", "mic"),
        ("csi-provider.yaml", "DaemonSet", "csi-secrets-store-provider-azure"),
    ],
)
def test_the_arguments_are_understood(file: str, kind: str, name: str) -> None:
    """What a manifest passes, the component's own grammar takes."""
    container = one(file, kind, name)["spec"]["template"]["spec"]["containers"][0]
    args = [arg.replace("$(NODE_NAME)", "node-1") for arg in container["args"]]
    if name == "mic":
        file_of_the_node = "" if "noazurejson" in file else "/etc/kubernetes/azure.json"
        assert mic_settings(args, {"MIC_POD_NAMESPACE": "default"}, "host").cloudconfig == file_of_the_node
    elif name == "nmi":
        settings = nmi_settings(args, {"HOST_IP": "10.0.0.4"})
        assert (settings.node, settings.http_probe_port) == ("node-1", 8085)
        assert settings.allow_network_plugin_kubenet == ("kubenet" in file)
        assert (settings.operation_mode == "managed", settings.force_namespaced) == (("managed" in file),) * 2
    else:
        assert csi_settings(args, {}).endpoint == "unix:///provider/azure.sock"


def wire_fields(kind: type[msgspec.Struct]) -> Iterable[str]:
    """The names a struct has on the wire."""
    return (item.encode_name for item in msgspec.structs.fields(kind))


@pytest.mark.parametrize("resource", KINDS, ids=lambda resource: resource.kind)
def test_every_field_we_write_is_in_the_schema(resource: Resource[object]) -> None:
    """A field the schema lacks would be pruned without a word."""
    crd = one("deployment-rbac.yaml", "CustomResourceDefinition", f"{resource.plural}.{resource.group}")
    version = crd["spec"]["versions"][0]
    assert (version["name"], crd["spec"]["scope"], crd["spec"]["group"]) == ("v1", "Namespaced", constants.GROUP)
    properties = version["schema"]["openAPIV3Schema"]["properties"]
    spec = next(item.type for item in msgspec.structs.fields(resource.type) if item.name == "spec")
    assert set(wire_fields(spec)) <= set(properties["spec"]["properties"])
    assert not version.get("subresources"), "status is written through the main resource"


def test_the_variants_are_fresh() -> None:
    """`make manifests` was run after the last change: five files share four CRDs, and one is edited by hand."""
    spec = importlib.util.spec_from_file_location("manifest_variants", DEPLOY.parent / "tools" / "manifest_variants.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, text in module.rendered(DEPLOY).items():
        assert (DEPLOY / name).read_text() == text, f"deploy/{name} is not what `make manifests` writes"
