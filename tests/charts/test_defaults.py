"""The chart with default values installs what ``deployment-rbac.yaml`` does, under the original chart's names."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml
from tests.charts.chart import CHART, Helm, Obj, container, one

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RAW = {"nmi": ("DaemonSet", "nmi"), "mic": ("Deployment", "mic")}
CHART_ONLY = {
    "nmi": ["--operation-mode=standard", "--kubelet-config=/etc/default/kubelet"],
    "mic": [],
}


def raw(file: str = "deployment-rbac.yaml") -> list[Obj]:
    """The objects of a shipped manifest."""
    return list(yaml.safe_load_all((DEPLOY / file).read_text()))


def selector(component: str) -> Obj:
    """What selects one component's pods, in the original's chart and in this one."""
    return {
        "app.kubernetes.io/name": "aad-pod-identity",
        "app.kubernetes.io/instance": "aad-pod-identity",
        "app.kubernetes.io/component": component,
    }


def test_lint(helm: Helm) -> None:
    """`helm lint --strict` finds nothing, with the defaults and in managed mode."""
    for values in ({}, {"operationMode": "managed"}):
        assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART), values=values)


def test_the_versions_agree() -> None:
    """The chart installs the images of the release it is shipped with, and is above every chart of the original."""
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    assert about["appVersion"] == project["version"]
    assert {values[part]["tag"] for part in ("mic", "nmi")} == {f"v{about['appVersion']}"}
    assert int(about["version"].partition(".")[0]) > 4


@pytest.mark.parametrize("component", ["nmi", "mic"])
def test_the_pods_are_those_of_the_manifest(helm: Helm, component: str) -> None:
    """Whoever moves between the two ways to install meets the same container, but for the CPU limit."""
    kind, name = RAW[component]
    ours = one(helm.objects({}), kind, f"aad-pod-identity-{component}")
    theirs = one(raw(), kind, name)
    pod, raw_pod = ours["spec"]["template"]["spec"], theirs["spec"]["template"]["spec"]
    found, expected = container(ours), container(theirs)
    assert [arg for arg in found["args"] if arg not in CHART_ONLY[component]] == expected["args"]
    assert {*(arg for arg in found["args"])} - {*expected["args"]} == {*CHART_ONLY[component]}
    for field in ("image", "securityContext", "volumeMounts", "livenessProbe", "readinessProbe"):
        assert found[field] == expected[field], field
    namespaced = {"name": "FORCENAMESPACED", "value": "false"}
    assert [entry for entry in found["env"] if entry != namespaced] == expected["env"]
    assert namespaced in found["env"]
    limits = {**expected["resources"]["limits"]}
    assert limits.pop("cpu") == "200m"
    assert found["resources"] == {"requests": expected["resources"]["requests"], "limits": limits}
    for field in ("volumes", "nodeSelector", "hostNetwork", "dnsPolicy"):
        assert pod.get(field) == raw_pod.get(field), field
    assert pod.get("tolerations", []) == raw_pod.get("tolerations", [])


@pytest.mark.parametrize("component", ["nmi", "mic"])
def test_names_and_labels_are_the_original_charts(helm: Helm, component: str) -> None:
    """`helm upgrade` over the original replaces its objects in place: names, and the selectors that cannot change."""
    kind, _ = RAW[component]
    workload = one(helm.objects({}), kind, f"aad-pod-identity-{component}")
    labels = workload["spec"]["template"]["metadata"]["labels"]
    tier = {"tier": "node"} if component == "nmi" else {}
    chart = {"app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "aad-pod-identity-5.0.0"}
    assert workload["spec"]["selector"]["matchLabels"] == selector(component)
    assert labels == workload["metadata"]["labels"] == {**selector(component), **chart, **tier}
    assert workload["metadata"]["annotations"]["description"]
    assert workload["spec"]["template"]["spec"]["serviceAccountName"] == f"aad-pod-identity-{component}"


@pytest.mark.parametrize("component", ["nmi", "mic"])
@pytest.mark.parametrize("mode", ["standard", "managed"])
def test_the_rights_are_those_of_the_manifest(helm: Helm, component: str, mode: str) -> None:
    """No way to install gives more rights than the other."""
    if (mode, component) == ("managed", "mic"):
        return
    file = {"standard": "deployment-rbac.yaml", "managed": "managed-mode-deployment.yaml"}[mode]
    objects, name = helm.objects({"operationMode": mode}), f"aad-pod-identity-{component}"
    expected = one(raw(file), "ClusterRole", f"aad-pod-id-{component}-role")["rules"]
    assert one(objects, "ClusterRole", name)["rules"] == expected
    binding = one(objects, "ClusterRoleBinding", name)
    assert binding["roleRef"]["name"] == name
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": "default"}]
    one(objects, "ServiceAccount", name)


def test_the_exceptions_are_those_of_the_manifest(helm: Helm) -> None:
    """Pods of mic under all its labels, and the add-ons of AKS, keep the node's metadata endpoint."""
    objects = helm.objects({})
    mic, addon = (one(objects, "AzurePodIdentityException", name) for name in ("mic", "aks-addon-exception"))
    assert addon == one(raw("mic-exception.yaml"), "AzurePodIdentityException", "aks-addon-exception")
    labels = one(raw("mic-exception.yaml"), "AzurePodIdentityException", "mic-exception")["spec"]["podLabels"]
    assert mic["spec"]["podLabels"] == {**labels, "app.kubernetes.io/component": "mic"}


def test_no_other_object_is_rendered_by_default(helm: Helm) -> None:
    """What is optional is off; what is only there while a release is uninstalled is a hook that leaves nothing."""
    objects = helm.objects({})
    hooks = [item for item in objects if "helm.sh/hook" in item["metadata"].get("annotations", {})]
    kinds = [item["kind"] for item in objects if item not in hooks]
    assert sorted(kinds) == sorted(
        [
            *(["ServiceAccount", "ClusterRole", "ClusterRoleBinding"] * 2),
            *("DaemonSet", "Deployment", "AzurePodIdentityException", "AzurePodIdentityException"),
        ]
    )
    assert sorted(item["kind"] for item in hooks) == ["DaemonSet", "Pod", "Role", "RoleBinding", "ServiceAccount"]
    for hook in hooks:
        annotations = hook["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "post-delete"
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    assert not [item for item in helm.objects({"nmi": {"removeDatapathOnUninstall": False}}) if item in hooks]


def test_the_cleanup_runs_where_nmi_ran(helm: Helm) -> None:
    """The same nodes, image and probe port: nothing is removed while the nmi of a node still holds that port."""
    values = {"nmi": {"probePort": 8086, "nodeSelector": {"pool": "a"}, "affinity": {"nodeAffinity": {"x": []}}}}
    objects = helm.objects(values)
    nmi, cleanup = (one(objects, "DaemonSet", f"aad-pod-identity-{name}") for name in ("nmi", "nmi-cleanup"))
    for field in ("nodeSelector", "tolerations", "affinity", "hostNetwork"):
        assert cleanup["spec"]["template"]["spec"][field] == nmi["spec"]["template"]["spec"][field]
    assert container(cleanup)["image"] == container(nmi)["image"]
    assert container(cleanup)["args"] == ["--uninstall-datapath", "--idle", "--http-probe-port=8086"]
    assert container(cleanup)["readinessProbe"]["httpGet"]["port"] == 8086
    selector = nmi["spec"]["selector"]["matchLabels"].items()
    assert not selector <= cleanup["spec"]["template"]["metadata"]["labels"].items()


def test_surge_is_the_shipped_patch(helm: Helm) -> None:
    """An update without a gap needs all of it: strategy, lock, probes of the container's own, and no declared port."""
    (patch,) = raw("nmi-surge-patch.yaml")
    ours = one(helm.objects({"nmi": {"surge": True, "prometheusPort": 9091}}), "DaemonSet", "aad-pod-identity-nmi")
    pod, theirs = ours["spec"]["template"]["spec"], patch["spec"]["template"]["spec"]
    found, (expected,) = container(ours), theirs["containers"]
    assert ours["spec"]["updateStrategy"] == patch["spec"]["updateStrategy"]
    assert {*expected["args"]} <= {*found["args"]}
    for probe in ("livenessProbe", "readinessProbe"):
        assert found[probe] == {key: value for key, value in expected[probe].items() if value is not None}
    assert "ports" not in found
    paths = {volume["hostPath"]["path"]: volume["hostPath"] for volume in pod["volumes"]}
    assert paths["/run/podidentity"] == theirs["volumes"][0]["hostPath"]


def test_the_boot_guard_comes_and_goes(helm: Helm) -> None:
    """Who lets the chart write to the node's root has it removed again with the release."""
    objects = helm.objects({"nmi": {"bootGuard": True}})
    for name, verb in (("nmi", "install"), ("nmi-cleanup", "uninstall")):
        pod = one(objects, "DaemonSet", f"aad-pod-identity-{name}")["spec"]["template"]["spec"]
        (first,) = pod["initContainers"]
        assert first["args"] == [f"--{verb}-boot-guard", "--host-root=/host"]
        assert {"name": "host", "hostPath": {"path": "/", "type": "Directory"}} in pod["volumes"]
        assert "host" not in {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}


def test_the_startup_taints_rights_are_those_of_the_manifest(helm: Helm) -> None:
    """Role and policy are the same ones, but for names, labels and mic's account."""
    objects = helm.objects({"mic": {"manageStartupTaint": True}})
    for theirs in raw("mic-startup-taint.yaml"):
        ours = one(objects, theirs["kind"], "aad-pod-identity-mic-startup-taint")
        text = yaml.safe_dump({key: value for key, value in theirs.items() if key != "metadata"})
        text = text.replace("aad-pod-id-mic-service-account", "aad-pod-identity-mic")
        expected = yaml.safe_load(text.replace("aad-pod-id-mic-startup-taint", "aad-pod-identity-mic-startup-taint"))
        assert {key: value for key, value in ours.items() if key != "metadata"} == expected
    mic = container(one(objects, "Deployment", "aad-pod-identity-mic"))
    wanted = ",".join(f"{label}={value}" for label, value in selector("nmi").items())
    assert {"--manage-startup-taint", f"--nmi-selector={wanted}"} <= set(mic["args"])
    left = [item["metadata"]["name"] for item in helm.objects({}) if "startup-taint" in item["metadata"]["name"]]
    assert left == []
