"""kubectl on nodes: read, describe, cordon, label, taint, drain; both servers answer alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.kubectl.clusters import Pair, Step
from tests.kubectl.objects import NODE, POD

Play = Callable[..., None]
STATUS = """
{"status": {
  "addresses": [{"type": "InternalIP", "address": "10.240.0.4"}, {"type": "Hostname", "address": "n1"}],
  "capacity": {"cpu": "4", "memory": "8Gi", "pods": "30"},
  "allocatable": {"cpu": "3900m", "memory": "7Gi", "pods": "30"},
  "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "it is",
    "lastHeartbeatTime": "2020-01-01T00:00:00Z", "lastTransitionTime": "2020-01-01T00:00:00Z"}],
  "nodeInfo": {"machineID": "m", "systemUUID": "s", "bootID": "b", "kernelVersion": "6.1", "osImage": "Debian",
    "containerRuntimeVersion": "lab://1", "kubeletVersion": "v1.34.4", "kubeProxyVersion": "",
    "operatingSystem": "linux", "architecture": "amd64"}
}}
"""


@contextmanager
def node(pair: Pair, name: str) -> Iterator[str]:
    """A node on both servers, and its status as a kubelet writes it."""
    pair.say("create", "-f", "-", stdin=NODE.replace("NAME", name))
    try:
        yield name
    finally:
        pair.say("delete", "node", name, "--wait=false")


def test_reading_nodes(pair: Pair, play: Play) -> None:
    """A node has the columns, the roles and the description of the real server, before and after its kubelet speaks."""
    with node(pair, "reading1") as name:
        status = STATUS.replace("\n", "")
        play(
            Step(f"get node {name}", says="Unknown"),
            Step(f"get node {name} -o yaml"),
            Step(f"patch node {name} --subresource=status --type=merge -p '{status}'", says="patched"),
            Step(f"get node {name} -o wide", says="10.240.0.4"),
            Step(f"get node {name} --show-labels", says="kubernetes.io/os=linux"),
            Step(f"label node {name} node-role.kubernetes.io/agent-", says="unlabeled"),
            Step(f"label node {name} kubernetes.io/role=agent", says="labeled"),
            Step(f"get no {name}", says="agent"),
            Step("get nodes -l kubernetes.io/role=agent -o name", says="node/reading1"),
            Step(f"get nodes --field-selector metadata.name={name},spec.unschedulable=false -o name"),
            Step("apply -f -", POD.replace("spec:", f"spec:\n  nodeName: {name}"), says="created"),
            Step(f"describe node {name}", says="Non-terminated Pods:"),
            Step(f"get node {name} -o jsonpath={{.status.nodeInfo.osImage}}", says="Debian"),
            Step("describe node nope", code=1, says='nodes "nope" not found'),
            Step("top nodes", code=1, says="Metrics API not available"),
        )


def test_taking_a_node_out(pair: Pair, play: Play) -> None:
    """cordon, taint and drain do and say what they do on the real server."""
    with node(pair, "out1") as name:
        play(
            Step(f"cordon {name}", says="node/out1 cordoned"),
            Step(f"cordon {name}", says="already cordoned"),
            Step(f"get node {name}", says="SchedulingDisabled"),
            Step(f"get nodes --field-selector metadata.name={name},spec.unschedulable=true -o name", says="node/out1"),
            Step(f"get node {name} -o jsonpath={{.spec.unschedulable}}", says="true"),
            Step(f"uncordon {name}", says="node/out1 uncordoned"),
            Step(f"taint node {name} gpu=yes:NoSchedule", says="tainted"),
            Step(f"taint node {name} gpu=no:NoSchedule", code=1, says="already has"),
            Step(f"taint node {name} gpu=no:NoSchedule --overwrite", says="modified"),
            Step(f"taint node {name} gpu=yes:Nope", code=1, says="invalid taint effect"),
            Step(f"taint node {name} gpu-", says="untainted"),
            Step(f"get node {name} -o jsonpath={{.spec.taints}}"),
            Step("apply -f -", POD.replace("spec:", f"spec:\n  nodeName: {name}"), says="created"),
            Step(f"drain {name} --timeout=5s", code=1, says="use --force to override"),
            Step(f"drain {name} --force --grace-period=0 --timeout=20s", says="node/out1 drained"),
            Step("get pods", says="No resources found"),
            Step(f"delete node {name}", says='node "out1" deleted'),
        )
