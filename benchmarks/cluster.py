"""A lab with the walkthrough's installation in it, for benchmarks that need the real path."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from podidentity.lab import access
from podidentity.lab.outer import Wish, running_lab
from podidentity.lab.running import RunningLab
from podidentity.lab.scenarios.objects import write_yaml
from podidentity.lab.scenarios.walkthrough import Walkthrough
from podidentity.lab.story import Story

PODS = "/api/v1/namespaces/default/pods"
LIMITS = "--pod-connection"
NMI = "/apis/apps/v1/namespaces/default/daemonsets/nmi"


@asynccontextmanager
async def new_lab(nodes: int = 1) -> AsyncIterator[Walkthrough]:
    """A lab in which nothing of the walkthrough has been played yet."""
    with tempfile.TemporaryDirectory(prefix="podidentity-bench-") as folder:
        async with running_lab(Wish(Path(folder) / "lab", nodes=nodes)) as lab:
            yield Walkthrough(lab, Story(None))


async def is_ready(lab: RunningLab, name: str) -> bool:
    """Whether the pod's condition Ready holds."""
    status = await access.status_of(lab.cluster.client, "default", name)
    conditions = status.get("conditions")
    if not isinstance(conditions, Sequence):
        return False
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions if isinstance(c, Mapping))


async def start_pod(
    lab: RunningLab, name: str, program: str, *args: str, label: str = "", host_network: bool = False
) -> None:
    """Run a Python program (its source) in a pod, and wait until it runs."""
    metadata: dict[str, object] = {"name": name, "namespace": "default"}
    if label:
        metadata["labels"] = {"aadpodidbinding": label}
    container = {"name": "main", "image": "podidentity/azure-sdk", "args": ["-c", program, *args]}
    spec = {"restartPolicy": "Never", "hostNetwork": host_network, "containers": [container]}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    await lab.cluster.apply(write_yaml(lab.layout.root / "manifests" / f"{name}.yaml", manifest))
    await lab.cluster.until(f"pod {name} is ready", lambda: is_ready(lab, name))


async def restart_nmi(lab: RunningLab, *flags: str) -> None:
    """Run nmi with the shipped flags and these, which begin with ``LIMITS``; wait until every node has it."""
    client = lab.cluster.client
    daemon = json.loads(await client.raw("GET", NMI))
    container = daemon["spec"]["template"]["spec"]["containers"][0]
    container["args"] = [*(arg for arg in container["args"] if not arg.startswith(LIMITS)), *flags]
    await client.raw("PUT", NMI, body=daemon)

    async def replaced() -> bool:
        found = json.loads(await client.raw("GET", NMI))
        status, wanted = found["status"], found["status"]["desiredNumberScheduled"]
        seen = status.get("observedGeneration") == found["metadata"]["generation"]
        return seen and status.get("updatedNumberScheduled") == status.get("numberReady") == wanted

    await lab.cluster.until("nmi runs with other flags", replaced, within=120)


async def run_json(lab: RunningLab, pod: str, *command: str) -> dict[str, float]:
    """The JSON object that a command in a pod prints."""
    answer = await lab.cluster.run(pod, *command)
    if answer.code:
        raise RuntimeError(f"the load generator failed: {answer.text.strip()}")
    found = json.loads(answer.text)
    return {str(key): float(value) for key, value in found.items()}
