"""Alerts and dashboard speak of metrics that exist."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from tests.charts import goldens
from tests.charts.chart import CHART, Helm, container, one

from podidentity.csi.metrics import _COMMON, CsiMetrics
from podidentity.telemetry.metrics import _CONTRACT, _OURS, PREFIX

NAME = re.compile(rf"\b(?:{PREFIX}|keyvault_|grpc_)\w+")
SELECTED = re.compile(r"(\w+)(?:=|!=|=~|!~)\"")
LABELS = re.compile(r"by \(([^)]*)\)|\{\{ ?(?:\$labels\.)?(\w+) ?\}\}")
DEPLOY = CHART.parents[1]
FROM_THE_SCRAPE = {"instance", "pod", "container", "le"}
DECLARED: dict[str, tuple[str, set[str]]] = {
    **{f"{PREFIX}{row[0]}": (row[1], set(row[3])) for row in (*_CONTRACT, *_OURS)},
    "keyvault_request": ("histogram", {*_COMMON, "object_type", "object_name", "error"}),
    "grpc_request": ("histogram", {*_COMMON, "grpc_method", "grpc_code", "grpc_message"}),
}
"""Kind and labels of each metric."""


def alerts() -> list[dict[str, object]]:
    """The rules of the one group."""
    (group,) = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    found: list[dict[str, object]] = group["rules"]
    return found


def panels() -> list[dict[str, object]]:
    """What the dashboard draws."""
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def metric(text: str) -> tuple[str, str]:
    """The declared name a query's name belongs to, and its suffix."""
    for suffix in ("_bucket", "_sum", "_count", ""):
        name = text.removesuffix(suffix)
        if name in DECLARED and (not suffix or DECLARED[name][0] == "histogram"):
            return name, suffix
    raise AssertionError(f"no metric is named {text}")


def check(expr: str, shown: str) -> None:
    """Its metrics are declared, histograms have their suffix, and labels in use are theirs."""
    names = [metric(name) for name in NAME.findall(expr)]
    assert names or expr.startswith("up{"), f"{expr} asks for nothing of ours"
    labels = set(FROM_THE_SCRAPE)
    for name, suffix in names:
        kind = DECLARED[name][0]
        assert bool(suffix) == (kind == "histogram"), f"{name} is a {kind}"
        assert kind == "gauge" or re.search(r"(rate|increase)\($", expr[: expr.index(name)]), f"{name} only grows"
        labels |= DECLARED[name][1]
    used = set(SELECTED.findall(expr))
    used |= {label.strip() for found in LABELS.findall(f"{expr} {shown}") for label in ",".join(found).split(",")}
    assert used - {""} <= labels, expr
    assert expr.count("(") == expr.count(")")


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_a_metric_that_exists(rule: dict[str, object]) -> None:
    """A renamed metric would silence its alert for good."""
    annotations = rule["annotations"]
    check(rule["expr"], annotations["summary"])
    assert set(annotations) == {"summary", "description"}
    assert rule["labels"]["severity"] in {"warning", "critical"}


def test_the_providers_metrics_are_declared_as_it_writes_them() -> None:
    """What the alerts are checked against is what csi-provider serves, labels included."""
    metrics = CsiMetrics()
    metrics.vault_request("secret", 0.1, "403")
    metrics.grpc_call("Mount", 0.1, "OK")
    served = dict(re.findall(r"^(\w+)_count\{(.*)\} 1\.0$", metrics.render().decode(), re.MULTILINE))
    assert {name: set(re.findall(r'(\w+)="', labels)) for name, labels in served.items()} == {
        name: DECLARED[name][1] for name in ("keyvault_request", "grpc_request")
    }


@pytest.mark.parametrize("workload", ["Deployment/mic", "DaemonSet/nmi", "DaemonSet/csi-secrets-store-provider-azure"])
def test_an_agent_that_is_down_is_noticed_however_it_was_installed(workload: str) -> None:
    """The alert selects the pods of the manifests, and of the chart under any name, by pod and container."""
    kind, name = workload.split("/")
    documents = [
        document
        for file in ("deployment-rbac.yaml", "csi-provider.yaml")
        for document in yaml.safe_load_all((DEPLOY / file).read_text())
    ]
    names = {container(one(documents, kind, name))["name"]}
    (expr,) = [str(rule["expr"]) for rule in alerts() if rule["alert"] == "PodIdentityDown"]
    containers, pods = re.findall(r'=~"([^"]*)"', expr)
    assert all(re.fullmatch(containers, each) for each in names)
    for prefix in ("", "aad-pod-identity-", "my-own-name-"):
        assert re.fullmatch(pods, f"{prefix}{name}-x7k2p")
    assert not re.fullmatch(pods, "dynamic-x7k2p")


def test_the_alerts_without_the_chart_are_the_charts() -> None:
    """deploy/alerts.yaml is an object with the same rules."""
    rule = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    (group,) = rule["spec"]["groups"]
    assert group["rules"] == alerts()


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_asks_for_metrics_that_exist(panel: dict[str, object]) -> None:
    """A renamed metric would leave an empty panel."""
    for target in panel["targets"]:
        check(target["expr"], target["legendFormat"])
    assert panel["description"]


def test_the_page_lists_every_alert() -> None:
    """With its severity."""
    listed = re.findall(
        r"^\| `(PodIdentity\w+)` \| (\w+) \|$", (DEPLOY.parent / "docs/howto/alerts.md").read_text(), re.MULTILINE
    )
    assert listed == [(rule["alert"], rule["labels"]["severity"]) for rule in alerts()]


def test_the_files_reach_the_cluster_as_they_are(helm: Helm) -> None:
    """Helm evaluates neither the alerts' templates nor the dashboard's legends."""
    objects = helm.objects(goldens.given("monitoring"))
    (group,) = one(objects, "PrometheusRule", "aad-pod-identity")["spec"]["groups"]
    assert group["rules"] == alerts()
    dashboard = one(objects, "ConfigMap", "aad-pod-identity-dashboard")
    assert dashboard["metadata"]["namespace"] == "kube-public"
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(dashboard["data"]["aad-pod-identity.json"])["uid"] == "aad-pod-identity"


def test_a_pod_monitor_finds_its_port(helm: Helm) -> None:
    """The port it names is declared in the pods, also where no value names one."""
    objects = helm.objects(goldens.given("monitoring"))
    for kind, part, port in (("Deployment", "mic", 8888), ("DaemonSet", "nmi", 9090)):
        name = f"aad-pod-identity-{part}"
        monitor, workload = one(objects, "PodMonitor", name), one(objects, kind, name)
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert container(workload)["ports"] == [{"name": endpoint["port"], "containerPort": port}]
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
