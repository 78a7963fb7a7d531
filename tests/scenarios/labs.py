"""The lab that scenarios share: both components as shipped, but for flags that make them act within seconds."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import yaml
from tests.e2e.conftest import new_lab
from tests.e2e.stage import QUICK_NMI, Stage
from tests.scenarios.scene import Site

from podidentity.lab import access
from podidentity.lab.running import RunningLab
from podidentity.lab.scenarios import objects
from podidentity.manifests.shipped import shipped

NODES = 4
OTHER_WAY = 2
"""The node whose nmi has the other flags; the last node is for the scenario that hangs nmi."""
GRACE = 10
"""Seconds until a process that hangs is killed, once its probe has failed."""
MIC = ("--identity-removal-linger=0s", "--identity-assignment-reconcile-interval=3s")
OTHER_NMI = ("--set-retry-after-header", "--block-instance-metadata", "--retry-attempts-for-created=1")
OTHER_NMI += ("--retry-attempts-for-assigned=1", "--find-identity-retry-interval=1")


def _affinity(operator: str, *nodes: str) -> dict[str, Any]:
    """Affinity to nodes, or to all others."""
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": operator, "values": list(nodes)}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


def _daemon_sets(shipped_one: dict[str, Any], other_node: str) -> list[Mapping[str, Any]]:
    """The shipped DaemonSet for all nodes but one, and one of its kind for that node."""
    found: list[Mapping[str, Any]] = []
    for name, operator, flags in (("nmi", "NotIn", QUICK_NMI), ("nmi-other", "In", OTHER_NMI)):
        document = copy.deepcopy(shipped_one)
        template, labels = document["spec"]["template"], {"set": name}
        template["spec"] |= {"terminationGracePeriodSeconds": GRACE}
        template["spec"]["affinity"] = _affinity(operator, other_node)
        template["spec"]["containers"][0]["args"] += flags
        template["metadata"]["labels"] |= labels
        document["spec"]["selector"]["matchLabels"] |= labels
        document["metadata"]["name"] = name
        found.append(document)
    return found


async def _install(stage: Stage, kept: str) -> None:
    """Apply the shipped manifests with the flags above and wait until all is ready."""
    spec, documents = stage.lab.spec, []
    for document in yaml.safe_load_all(shipped("podidentityforkubenet.yaml").read_text()):
        if document["kind"] == "DaemonSet":
            documents += _daemon_sets(document, spec.nodes[OTHER_WAY].name)
            continue
        if document["kind"] == "Deployment":
            document["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = GRACE
            document["spec"]["template"]["spec"]["containers"][0]["args"] += [*MIC, f"--immutable-user-msis={kept}"]
        documents.append(document)
    path = objects.write_yaml(stage.lab.layout.root / "manifests" / "infrastructure.yaml", *documents)
    for file in (path, shipped("podidentityexception.yaml"), shipped("csi-provider.yaml")):
        async for _line in access.apply(stage.lab.cluster.client, file):
            pass
    await stage.installed()


async def _site_in(lab: RunningLab, server: str) -> Site:
    """A lab with the roles that mic needs."""
    stage = Stage(lab)
    await stage.lift_limits()
    await stage.assign_roles()
    kept = await lab.azure.create_identity("kept", lab.spec.resource_group)
    return Site(stage, server, kept, _affinity("NotIn", *(node.name for node in lab.spec.nodes[OTHER_WAY:])))


@asynccontextmanager
async def shared_lab(server: str) -> AsyncIterator[Site]:
    """The lab on that API server with both components while the block runs; skips where it cannot be."""
    async with new_lab(nodes=NODES, api_server=server) as lab:
        site = await _site_in(lab, server)
        await _install(site.stage, site.kept.properties.client_id)
        yield site


@asynccontextmanager
async def empty_lab(server: str) -> AsyncIterator[Site]:
    """A lab of one node in which nothing is installed."""
    async with new_lab(nodes=1, api_server=server) as lab:
        yield await _site_in(lab, server)
