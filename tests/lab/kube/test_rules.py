"""The rules of pods and plain objects, each fault with its path; their words are compared in tests/kubectl."""

from __future__ import annotations

from typing import Any

import pytest

from podidentity.lab.kube import plainrules, podrules, wrong

CONTAINER = {"name": "c", "image": "x", "imagePullPolicy": "Always"}
GOOD = {"containers": [CONTAINER], "restartPolicy": "Always", "dnsPolicy": "ClusterFirst"}
PROBE = {"httpGet": {"port": 80}}


def container(**more: Any) -> dict[str, Any]:
    """A spec whose one container has something more."""
    return {**GOOD, "containers": [{**CONTAINER, **more}]}


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        (GOOD, []),
        ({**GOOD, "containers": []}, ["s.containers"]),
        ({**GOOD, "initContainers": [CONTAINER]}, ["s.initContainers[0].name"]),
        ({**GOOD, "nodeName": "a.b"}, []),
        ({**GOOD, "nodeName": "A"}, ["s.nodeName"]),
        ({**GOOD, "volumes": [{"name": "v", "hostPath": {"path": "/x"}}, {"name": "w", "emptyDir": {}}]}, []),
        ({**GOOD, "volumes": [{"name": "v", "secret": {}}]}, ["s.volumes[0].secret.secretName"]),
        ({**GOOD, "volumes": [{"emptyDir": {}}]}, ["s.volumes[0].name"]),
        (container(ports=[{"protocol": "TCP"}]), ["s.containers[0].ports[0].containerPort"]),
        (
            container(ports=[{"containerPort": 1, "hostPort": 70000, "protocol": "TCP"}]),
            ["s.containers[0].ports[0].hostPort"],
        ),
        (container(env=[{"name": "a.b-c d"}]), []),
        (container(env=[{"name": "ä"}]), ["s.containers[0].env[0].name"]),
        (container(volumeMounts=[{"mountPath": "/a"}]), ["s.containers[0].volumeMounts[0].name"]),
        (
            {
                **container(volumeMounts=[{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/a"}]),
                "volumes": [{"name": "v", "emptyDir": {}}],
            },
            ["s.containers[0].volumeMounts[1].mountPath"],
        ),
        (container(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "1000m", "memory": "1Gi"}}), []),
        (container(livenessProbe=PROBE, readinessProbe={"tcpSocket": {"port": "web"}}), []),
        (container(livenessProbe={**PROBE, "exec": {"command": ["x"]}}), ["s.containers[0].livenessProbe.httpGet"]),
        (container(startupProbe={"exec": {}}), ["s.containers[0].startupProbe.exec.command"]),
        (container(lifecycle={"preStop": {"sleep": 5}, "stopSignal": "SIGTERM"}), []),
    ],
)
def test_pod_specs(spec: dict[str, Any], fields: list[str]) -> None:
    """Each fault is found where it is, and nothing else."""
    assert [cause.field for cause in podrules.faults(spec, "s")] == fields


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("100m", 0.1), ("2k", 2000), ("1Gi", 2**30), ("1.5", 1.5), ("1e3", 1000), ("2E2", 200), ("3u", 3e-6)],
)
def test_quantities(text: str, value: float) -> None:
    """Suffixes of ten and of two, fractions and exponents have the value Kubernetes gives them."""
    assert wrong.quantity(text) == pytest.approx(value)


def test_workloads() -> None:
    """A selector of expressions alone is no empty one; what matches nothing is named once."""
    template = {"metadata": {"labels": {"a": "b"}}, "spec": GOOD}
    expressions = [{"key": "a", "operator": "Exists"}]
    good = {"spec": {"selector": {"matchExpressions": expressions}, "template": template, "replicas": 0}}
    assert not list(plainrules.workload(good, "deployment"))
    bad = {"spec": {"selector": {"matchLabels": {"a": "c"}}, "template": template, "strategy": {"type": "Recreate"}}}
    assert [cause.field for cause in plainrules.workload(bad, "deployment")] == ["spec.template.metadata.labels"]


def test_services_and_rules() -> None:
    """A headless service and one of another name need no port; a rule about URLs needs no kind."""
    assert not list(plainrules.service({"spec": {"type": "ExternalName"}}))
    assert not list(plainrules.service({"spec": {"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"]}}))
    named = {"spec": {"type": "ClusterIP", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 1, "targetPort": "web"}]}}
    assert not list(plainrules.service(named))
    assert not list(plainrules.role({"rules": [{"nonResourceURLs": ["/x"], "verbs": ["get"]}]}, None))
    assert [cause.field for cause in plainrules.binding({}, "Role")] == ["roleRef.kind", "roleRef.name"]
