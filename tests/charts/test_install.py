"""The chart on a real API server: install, upgrade, rollback, uninstall, and over the original's chart."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.charts import goldens, original_chart
from tests.charts.chart import CHART, Helm, Obj, container
from tests.deploy import original
from tests.real_server import RealServer

RELEASE = "aad-pod-identity"
OF_THE_CHART = f"app.kubernetes.io/name={RELEASE}"
NOT_SERVED = {"PodMonitor", "PrometheusRule", "PodSecurityPolicy"}  # of the Prometheus operator, and of before 1.25
WORKLOADS = {"mic": "deployment", "nmi": "daemonset"}
CRDS = [f"{crd['metadata']['name']}" for crd in (original.ASSIGNED_CRD, *original.CRDS)]


class Cluster:
    """The API server with helm and kubectl, and a namespace for the release."""

    def __init__(self, server: RealServer, helm: Helm, namespace: str) -> None:
        self.server = server
        self.helm = helm
        self.namespace = namespace

    def kubectl(self, *words: str, succeeds: bool = True) -> str:
        """Run kubectl in the release's namespace; return stdout, or stderr of what must fail."""
        done = self.server.kubectl("-n", self.namespace, *words)
        assert (done.returncode == 0) == succeeds, f"kubectl {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout if succeeds else done.stderr

    def release(self, verb: str, *words: str, values: dict[str, object] | None = None) -> str:
        """A helm command on the release."""
        return self.helm(verb, RELEASE, *words, "-n", self.namespace, values=values)

    def upgrade(self, chart: Path, *words: str, values: dict[str, object] | None = None) -> str:
        """`helm upgrade --install` with exactly these values; return what is said."""
        return self.release(
            "upgrade", str(chart), "--install", "--reset-values", *words, values={} if values is None else values
        )

    def get(self, kind: str, name: str) -> Obj:
        """One object."""
        found: Obj = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return found

    def image(self, component: str) -> str:
        """The image that a component's workload asks for."""
        found: str = container(self.get(WORKLOADS[component], f"{RELEASE}-{component}"))["image"]
        return found

    def leftovers(self) -> list[str]:
        """What of a release is there, CRDs aside."""
        kinds = "pod,serviceaccount,secret,deployment,daemonset,poddisruptionbudget"
        kinds += ",role,rolebinding,clusterrole,clusterrolebinding"
        found = self.kubectl("get", kinds, "-o", "name", "-l", OF_THE_CHART).split()
        served = self.kubectl("get", "crd", "-o", "name").split()
        if f"customresourcedefinition.apiextensions.k8s.io/{CRDS[-1]}" in served:
            found += self.kubectl("get", ",".join(CRDS), "-A", "-o", "name").split()
        return found

    def uninstall_without_nodes(self, *pods: str) -> None:
        """`helm uninstall`, its hooks included; what the kubelet would say of ``pods`` that are waited for, we say."""
        with ThreadPoolExecutor(1) as pool:
            uninstalled = pool.submit(self.release, "uninstall", "--timeout=50s")
            for pod in (*pods, "nmi-cleanup-wait"):
                self.kubectl("wait", "--for=create", f"pod/{RELEASE}-{pod}", "--timeout=30s")
                self.end(pod, "Succeeded")
            uninstalled.result()

    def end(self, pod: str, phase: str) -> None:
        """Say that a pod of the release has ended."""
        status = json.dumps({"status": {"phase": phase}})
        self.kubectl("patch", "pod", f"{RELEASE}-{pod}", "--subresource=status", "--type=merge", "-p", status)

    def clean(self) -> None:
        """Remove the release, what its hooks left, and the CRDs."""
        self.helm.run("uninstall", RELEASE, "-n", self.namespace, "--ignore-not-found", "--no-hooks")
        for crd in CRDS:
            if self.kubectl("get", "crd", crd, "--ignore-not-found"):
                assert self.server.kubectl("delete", crd, "--all", "-A").returncode == 0
        self.kubectl("delete", "crd", "--ignore-not-found", *CRDS)
        self.kubectl("delete", "daemonset,pod,serviceaccount,role,rolebinding", "-l", OF_THE_CHART, "--now")


@pytest.fixture(scope="module")
def namespace(real_server: RealServer) -> Iterator[str]:
    """One for all tests here; gone at the end, for others compare what there is on this server."""
    name = "chart-tests"
    assert real_server.kubectl("create", "namespace", name).returncode == 0
    yield name
    assert real_server.kubectl("delete", "namespace", name, "--timeout=50s").returncode == 0


@pytest.fixture
def cluster(real_server: RealServer, helm: Helm, namespace: str, tmp_path: Path) -> Iterator[Cluster]:
    """Nothing of a release is there before and after."""
    found = Cluster(real_server, Helm(helm.program, tmp_path, str(real_server.kubeconfig)), namespace)
    yield found
    found.clean()


def test_install_upgrade_rollback_uninstall(cluster: Cluster) -> None:
    """The whole life of a release: replaced in place, rights as the values say, and nothing but the CRDs at the end."""
    said = cluster.upgrade(CHART)
    assert "standard mode" in said
    assert f'kubectl --namespace={cluster.namespace} get pods -l "app.kubernetes.io/component=mic"' in said
    uid = cluster.get("deployment", f"{RELEASE}-mic")["metadata"]["uid"]

    said = cluster.upgrade(CHART, values={"mic": {"logVerbosity": 5}, "rbac": {"allowAccessToSecrets": False}})
    assert "helm show crds" in said
    assert "every Secret" not in said
    mic = cluster.get("deployment", f"{RELEASE}-mic")
    assert "-v=5" in container(mic)["args"]
    assert mic["metadata"]["uid"] == uid
    rights = ("auth", "can-i", "get", "secrets", f"--as=system:serviceaccount:{cluster.namespace}:{RELEASE}-nmi")
    assert cluster.server.kubectl(*rights).stdout.strip() == "no"

    cluster.release("rollback", "1")
    assert "-v=5" not in container(cluster.get("deployment", f"{RELEASE}-mic"))["args"]
    assert cluster.server.kubectl(*rights).stdout.strip() == "yes"

    cluster.uninstall_without_nodes()
    assert cluster.leftovers() == []
    assert cluster.kubectl("get", "crd", "-o", "name", *CRDS).count("\n") == len(CRDS)


def test_identities_are_taken_off_first(cluster: Cluster) -> None:
    """With the switch, nothing is deleted before mic has drained, and nothing at all while that fails."""
    cluster.upgrade(CHART, values=goldens.given("drain"))
    with ThreadPoolExecutor(1) as pool:
        words = ("uninstall", RELEASE, "-n", cluster.namespace, "--timeout=50s")
        refused = pool.submit(cluster.helm.run, *words)
        cluster.kubectl("wait", "--for=create", f"pod/{RELEASE}-mic-drain", "--timeout=30s")
        cluster.end("mic-drain", "Failed")
        assert f"pod {RELEASE}-mic-drain failed" in refused.result().stderr
    cluster.get("deployment", f"{RELEASE}-mic")
    cluster.kubectl("delete", "pod", f"{RELEASE}-mic-drain")  # it was left for its log
    cluster.uninstall_without_nodes("mic-drain")
    assert cluster.leftovers() == []


def test_instead_of_the_raw_manifests(cluster: Cluster) -> None:
    """The documented switch keeps identities and bindings: only workloads and rights are replaced."""
    page = (CHART.parents[2] / "docs" / "howto" / "install-with-helm.md").read_text()
    section = page.partition("## Switch from the raw manifests")[2].partition("## ")[0]
    deletions = [line.split()[1:] for line in section.splitlines() if line.startswith("kubectl delete ")]
    kubectl = cluster.server.kubectl
    assert kubectl("apply", "-f", str(CHART.parents[1] / "deployment-rbac.yaml")).returncode == 0
    cluster.kubectl("wait", "--for=condition=established", "--timeout=20s", *(f"crd/{crd}" for crd in CRDS))
    identity = '{"apiVersion": "aadpodidentity.k8s.io/v1", "kind": "AzureIdentity", "metadata": {"name": "app"}}'
    assert cluster.server.kubectl("-n", cluster.namespace, "create", "-f", "-", input=identity).returncode == 0
    for deletion in deletions:
        assert kubectl(*deletion).returncode == 0
    cluster.upgrade(CHART)
    cluster.get("azureidentity", "app")
    raw = "daemonset,deployment,serviceaccount,clusterrole,clusterrolebinding"
    left = kubectl("get", raw, "-A", "-o", "name").stdout.split()
    assert [name for name in left if "aad-pod-id-" in name or name.endswith(("/mic", "/nmi"))] == []


def test_switch_to_managed_mode_and_back(cluster: Cluster) -> None:
    """Managed mode takes mic and its rights away, and the rights on assignments from nmi."""
    cluster.upgrade(CHART)
    said = cluster.upgrade(CHART, values={"operationMode": "managed"})
    assert "component=mic" not in said
    assert "not found" in cluster.kubectl("get", "deployment", f"{RELEASE}-mic", succeeds=False)
    assert "not found" in cluster.kubectl("get", "clusterrole", f"{RELEASE}-mic", succeeds=False)
    rules = cluster.get("clusterrole", f"{RELEASE}-nmi")["rules"]
    assert not any("azureassignedidentities" in rule["resources"] for rule in rules)
    cluster.upgrade(CHART)
    cluster.get("deployment", f"{RELEASE}-mic")


def test_the_api_server_takes_every_value_set(cluster: Cluster) -> None:
    """Every field that a value renders exists, has the right type and comes once: the API server judges."""
    cluster.server.kubectl("create", "-f", str(CHART / "crds" / "crd.yaml"))
    cluster.kubectl("wait", "--for=condition=established", "--timeout=20s", *(f"crd/{crd}" for crd in CRDS))
    files = []
    # A hook's pod needs its account to be there: test_install_upgrade_rollback_uninstall has it made.
    left_out = re.compile(rf"^kind: ({'|'.join({*NOT_SERVED, 'Pod'})})$", re.MULTILINE)
    for name in goldens.NAMES:
        documents = goldens.golden(name).read_text().split("---\n")
        files.append(cluster.helm.home / f"{name}.yaml")
        files[-1].write_text("---\n".join(one for one in documents if not left_out.search(one)))
    words = [word for file in files for word in ("-f", str(file))]
    done = cluster.server.kubectl("apply", "--dry-run=server", "--validate=strict", *words)
    assert done.returncode == 0, done.stderr
    expected = sum(file.read_text().count("\nkind: ") for file in files)
    assert done.stdout.count("(server dry run)") == expected


def test_an_exception_applied_by_hand_is_left_alone(cluster: Cluster) -> None:
    """Helm would refuse the whole release because of an object that is there already and is not its own."""
    cluster.server.kubectl("create", "-f", str(CHART / "crds" / "crd.yaml"))
    cluster.kubectl("wait", "--for=condition=established", "--timeout=20s", *(f"crd/{crd}" for crd in CRDS))
    file = CHART.parents[1] / "mic-exception.yaml"
    assert cluster.server.kubectl("apply", "-f", str(file)).returncode == 0
    cluster.upgrade(CHART)
    cluster.upgrade(CHART, values={"mic": {"logVerbosity": 5}})
    cluster.uninstall_without_nodes()
    left = cluster.server.kubectl("get", "azurepodidentityexceptions", "-A", "-o", "name").stdout.split()
    assert [name.partition("/")[2] for name in left] == ["mic-exception", "aks-addon-exception"]


@pytest.mark.parametrize("version", ["2.1.0", "3.0.3", "4.1.18"])
def test_over_the_originals_chart_and_back(cluster: Cluster, version: str, tmp_path: Path) -> None:
    """`helm upgrade` with values kept from that chart replaces the original in place; a rollback brings it back."""
    values = goldens.given(f"original-{version[0]}")
    cluster.upgrade(original_chart.write(tmp_path, version))
    before = {part: cluster.get(kind, f"{RELEASE}-{part}") for part, kind in WORKLOADS.items()}
    crds = [cluster.get("crd", crd)["spec"] for crd in CRDS]
    said = cluster.upgrade(CHART, values=values)
    for part, kind in WORKLOADS.items():
        after = cluster.get(kind, f"{RELEASE}-{part}")
        assert after["metadata"]["uid"] == before[part]["metadata"]["uid"]
        assert after["spec"]["selector"] == before[part]["spec"]["selector"]
        assert container(after)["image"] == f"podidentity/{part}:v0.1.0"
        assert f"This chart runs podidentity/{part}:v0.1.0 instead" in said
    assert [cluster.get("crd", crd)["spec"] for crd in CRDS] == crds
    if "azureIdentities" in values:
        namespace = "default" if version == "3.0.3" else cluster.namespace
        found = cluster.server.kubectl(
            "get", "azureidentitybinding", "azure-identity-binding", "-n", namespace, "-o", "json"
        )
        binding = json.loads(found.stdout)
        assert binding["spec"] == {"azureIdentity": "azure-identity", "selector": "app"}

    cluster.release("rollback", "1")
    assert cluster.image("nmi") == container(before["nmi"])["image"]
    assert "readinessProbe" not in container(cluster.get("daemonset", f"{RELEASE}-nmi"))


def test_over_the_originals_chart_with_reused_values(cluster: Cluster, tmp_path: Path) -> None:
    """`--reuse-values` brings the original's defaults along, images and CPU limit too: ours are its images still."""
    cluster.upgrade(original_chart.write(tmp_path, "4.1.18"), values={"mic": {"replicas": 3}})
    cluster.release("upgrade", str(CHART), "--reuse-values")
    assert cluster.get("deployment", f"{RELEASE}-mic")["spec"]["replicas"] == 3
    assert cluster.image("mic") == "podidentity/mic:v0.1.0"
    assert container(cluster.get("daemonset", f"{RELEASE}-nmi"))["resources"]["limits"]["cpu"] == "200m"


NODE: Obj = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "chart-taint"},
    "spec": {"taints": [{"key": "aadpodidentity.k8s.io/agent-not-ready", "effect": "NoSchedule"}]},
}


def test_mic_takes_the_startup_taint_off_and_changes_nothing_else(cluster: Cluster, tmp_path: Path) -> None:
    """With the switch mic's account may do that one thing to a node; the policy goes with the release."""
    cluster.upgrade(CHART, values={"mic": {"manageStartupTaint": True}})
    (tmp_path / "node.json").write_text(json.dumps(NODE))
    cluster.kubectl("create", "-f", str(tmp_path / "node.json"))
    account = f"{cluster.namespace}:{RELEASE}-mic"
    look = ("clusterrole,clusterrolebinding", "chart-taint")  # kubectl reads what it patches, mic does not
    cluster.kubectl("create", "clusterrole", "chart-taint", "--verb=get", "--resource=nodes")
    bound = ("--clusterrole=chart-taint", f"--serviceaccount={account}")
    cluster.kubectl("create", "clusterrolebinding", "chart-taint", *bound)
    try:
        mic = f"--as=system:serviceaccount:{account}"
        patch = ("patch", "node", "chart-taint", mic, "--type=merge", "-p")
        until = time.monotonic() + 30
        taint = NODE["spec"]["taints"][0]["key"]
        taints = cluster.get("node", "chart-taint")["spec"]["taints"]  # the API server adds one of its own
        kept = [one for one in taints if one["key"] != taint]
        label = json.dumps({"metadata": {"labels": {"mic": "was-here"}}, "spec": {"taints": kept}})
        while (done := cluster.server.kubectl(*patch, label, "--dry-run=server")).returncode == 0:
            assert time.monotonic() < until, "the policy has no effect"
            time.sleep(0.2)
        assert "mic may change nothing of a node but its taints" in done.stderr
        cluster.kubectl(*patch, json.dumps({"spec": {"taints": kept}}))
        assert cluster.get("node", "chart-taint")["spec"].get("taints", []) == kept
        cluster.upgrade(CHART)
        assert "cannot patch" in cluster.kubectl(*patch, label, succeeds=False)
        left = cluster.kubectl("get", "validatingadmissionpolicy,validatingadmissionpolicybinding", "-l", OF_THE_CHART)
        assert left == ""
    finally:
        cluster.kubectl("delete", "node", "chart-taint")
        cluster.kubectl("delete", *look)
