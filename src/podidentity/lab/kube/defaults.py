"""The defaults kube-apiserver fills into pod specs and workloads, in place (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from podidentity.lab.kube.objects import Obj

_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")


def _fill(obj: Obj, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if obj.get(key) is None:
            obj[key] = value


def pod_template(template: Obj) -> None:
    """``spec.template`` of a workload."""
    template.setdefault("metadata", {})
    pod_spec(template.setdefault("spec", {}))


def pod_spec(spec: Obj) -> None:
    """A PodSpec."""
    _fill(
        spec,
        {
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "securityContext": {},
            "schedulerName": "default-scheduler",
        },
    )
    if name := spec.get("serviceAccountName") or spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"] = name
    for group in ("initContainers", "containers"):
        for container in spec.get(group) or ():
            _container(container, host_network=bool(spec.get("hostNetwork")))
    for volume in spec.get("volumes") or ():
        _volume(volume)


def _container(container: Obj, *, host_network: bool) -> None:
    image = str(container.get("image") or "")
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    fresh = "@" not in image and tag in {"", "latest"}
    _fill(
        container,
        {
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": "Always" if fresh else "IfNotPresent",
        },
    )
    for port in container.get("ports") or ():
        _fill(port, {"protocol": "TCP"})
        if host_network and "containerPort" in port:
            _fill(port, {"hostPort": port["containerPort"]})
    for probe in filter(None, map(container.get, _PROBES)):
        _fill(probe, {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3})
        if isinstance(probe.get("httpGet"), dict):
            _fill(probe["httpGet"], {"path": "/", "scheme": "HTTP"})
    for variable in container.get("env") or ():
        reference = (variable.get("valueFrom") or {}).get("fieldRef")
        if isinstance(reference, dict):
            _fill(reference, {"apiVersion": "v1"})


def _volume(volume: Obj) -> None:
    if not set(volume) - {"name"}:
        volume["emptyDir"] = {}
    if isinstance(host := volume.get("hostPath"), dict):
        _fill(host, {"type": ""})
    for source in ("secret", "configMap", "projected", "downwardAPI"):
        if isinstance(found := volume.get(source), dict):
            _fill(found, {"defaultMode": 0o644})
    for source in (volume.get("projected") or {}).get("sources") or ():
        if isinstance(token := source.get("serviceAccountToken"), dict):
            _fill(token, {"expirationSeconds": 3600})


def node_status() -> Obj:
    """``status`` of a node whose kubelet has said nothing yet."""
    names = "machineID systemUUID bootID kernelVersion osImage containerRuntimeVersion kubeletVersion kubeProxyVersion"
    info = dict.fromkeys((*names.split(), "operatingSystem", "architecture"), "")
    return {"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}, "nodeInfo": info}


def qos_class(spec: Obj) -> str:
    """``status.qosClass`` of a pod."""
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    resources = [container.get("resources") or {} for container in containers]
    if not any(found.get("requests") or found.get("limits") for found in resources):
        return "BestEffort"
    for found in resources:
        limits, requests = found.get("limits") or {}, found.get("requests") or {}
        for name in ("cpu", "memory"):
            if not limits.get(name) or requests.get(name, limits[name]) != limits[name]:
                return "Burstable"
    return "Guaranteed"


def deployment_spec(spec: Obj) -> None:
    """``spec`` of a Deployment."""
    _fill(spec, {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600})
    strategy = spec.setdefault("strategy", {})
    _fill(strategy, {"type": "RollingUpdate"})
    if strategy["type"] == "RollingUpdate":
        _fill(strategy, {"rollingUpdate": {}})
        _fill(strategy["rollingUpdate"], {"maxUnavailable": "25%", "maxSurge": "25%"})


def daemon_set_spec(spec: Obj) -> None:
    """``spec`` of a DaemonSet."""
    _fill(spec, {"revisionHistoryLimit": 10})
    strategy = spec.setdefault("updateStrategy", {})
    _fill(strategy, {"type": "RollingUpdate"})
    if strategy["type"] == "RollingUpdate":
        _fill(strategy, {"rollingUpdate": {}})
        _fill(strategy["rollingUpdate"], {"maxUnavailable": 1, "maxSurge": 0})
