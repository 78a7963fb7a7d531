"""Scheduling, garbage collection, namespaces."""

from __future__ import annotations

from typing import Any

from tests.lab.controllers.conftest import (
    DEPLOYMENTS,
    PODS,
    REPLICA_SETS,
    Cluster,
    controllers,
    kubelet,
    running_pods,
    workload,
)
from tests.lab.kube.wire import CONFIG_MAPS, CRDS, THINGS, config_map, pod, thing, thing_crd


async def test_pods_spread_over_nodes(cluster: Cluster) -> None:
    """Replicas of one owner go to different nodes."""
    for name in ("n1", "n2", "n3"):
        await cluster.node(name)
    await cluster.api.post(DEPLOYMENTS, workload("web", replicas=6))
    pods = await cluster.until(PODS, lambda found: len(running_pods(found)) == 6)
    nodes = [one["spec"]["nodeName"] for one in pods]
    assert {name: nodes.count(name) for name in nodes} == {"n1": 2, "n2": 2, "n3": 2}


async def test_pod_that_fits_nowhere_says_why_and_waits(cluster: Cluster) -> None:
    """FailedScheduling names each reason; the pod is placed as soon as a node fits."""
    await cluster.node("n1", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}])
    await cluster.node("n2", ready=False)
    await cluster.api.post(PODS, pod("p", nodeSelector={"kubernetes.io/os": "linux"}))
    found = await cluster.until(PODS, lambda pods: bool(pods[0]["status"].get("conditions")))
    condition = found[0]["status"]["conditions"][0]
    assert (condition["reason"], condition["status"]) == ("Unschedulable", "False")
    assert "0/2 nodes are available: " in condition["message"]
    assert "1 node(s) had untolerated taint {k: v}" in condition["message"]
    events = await cluster.until("/api/v1/namespaces/default/events", bool)
    assert events[0]["reason"] == "FailedScheduling"
    assert events[0]["involvedObject"]["kind"] == "Pod"
    await cluster.node("n3")
    await cluster.until(PODS, lambda pods: pods[0]["spec"].get("nodeName") == "n3")


async def test_host_ports_keep_pods_apart(cluster: Cluster) -> None:
    """Two pods that take the same host port never share a node."""
    await cluster.node("n1")
    ports = [{"name": "c", "image": "x", "ports": [{"containerPort": 80, "hostPort": 80}]}]
    for name in ("a", "b"):
        await cluster.api.post(PODS, pod(name, containers=ports))
    await cluster.until(PODS, lambda pods: len(running_pods(pods)) == 1)
    await cluster.node("n2")
    pods = await cluster.until(PODS, lambda found: len(running_pods(found)) == 2)
    assert {one["spec"]["nodeName"] for one in pods} == {"n1", "n2"}


async def test_what_is_owned_goes_with_its_owner(cluster: Cluster) -> None:
    """Deleting a Deployment takes ReplicaSet and pods with it."""
    await cluster.node("n1")
    await cluster.api.post(DEPLOYMENTS, workload("web", replicas=2))
    await cluster.until(PODS, lambda pods: len(running_pods(pods)) == 2)
    await cluster.api.delete(f"{DEPLOYMENTS}/web", {"propagationPolicy": "Background"})
    await cluster.until(REPLICA_SETS, lambda found: not found)
    await cluster.until(PODS, lambda found: not found)


async def test_orphans_stay_and_are_adopted_again(cluster: Cluster) -> None:
    """--cascade=orphan leaves the pods; a Deployment of the same selector takes them over."""
    await cluster.node("n1")
    await cluster.api.post(DEPLOYMENTS, workload("web", replicas=2))
    before = await cluster.until(PODS, lambda pods: len(running_pods(pods)) == 2)
    await cluster.api.delete(f"{DEPLOYMENTS}/web", {"propagationPolicy": "Orphan"})
    await cluster.until(DEPLOYMENTS, lambda found: not found)
    sets = await cluster.items(REPLICA_SETS)
    assert "ownerReferences" not in sets[0]["metadata"]
    await cluster.api.post(DEPLOYMENTS, workload("web", replicas=2))
    await cluster.until(
        REPLICA_SETS, lambda found: len(found) == 1 and bool(found[0]["metadata"].get("ownerReferences"))
    )
    after = await cluster.items()
    assert {one["metadata"]["uid"] for one in after} == {one["metadata"]["uid"] for one in before}


async def test_foreground_deletion_waits_for_dependents(cluster: Cluster) -> None:
    """The owner goes last."""
    await cluster.node("n1")
    await cluster.api.post(DEPLOYMENTS, workload("web", replicas=1))
    await cluster.until(PODS, lambda pods: len(running_pods(pods)) == 1)
    gone = await cluster.api.delete(f"{DEPLOYMENTS}/web", {"propagationPolicy": "Foreground"})
    assert gone.body["metadata"]["finalizers"] == ["foregroundDeletion"]
    await cluster.until(DEPLOYMENTS, lambda found: not found)
    assert await cluster.items() == []


def owned(name: str, uid: str, kind: str = "Thing", version: str = "ex.io/v1") -> dict[str, Any]:
    """A ConfigMap that somebody owns."""
    reference = {"apiVersion": version, "kind": kind, "name": "owner", "uid": uid}
    body = config_map(name)
    body["metadata"]["ownerReferences"] = [reference]
    return body


async def test_custom_owners_count(cluster: Cluster) -> None:
    """Kinds of CRDs made after the start own and are collected; an owner that never existed is none."""
    await cluster.api.post(CRDS, thing_crd())
    uid = (await cluster.api.post(THINGS, thing("owner"))).body["metadata"]["uid"]
    await cluster.api.post(CONFIG_MAPS, owned("kept", uid))
    await cluster.api.post(CONFIG_MAPS, owned("stray", "no-such-uid"))

    def names(found: list[dict[str, Any]]) -> set[str]:
        return {one["metadata"]["name"] for one in found} - {"kube-root-ca.crt"}

    await cluster.until(CONFIG_MAPS, lambda found: names(found) == {"kept"})
    await cluster.api.delete(f"{THINGS}/owner")
    await cluster.until(CONFIG_MAPS, lambda found: names(found) == set())


async def test_owners_lost_while_nobody_looked(bare: Cluster) -> None:
    """What lost its owner while the controllers were down is collected when they start."""
    owner = (await bare.api.post(CONFIG_MAPS, config_map("owner"))).body
    await bare.api.post(CONFIG_MAPS, owned("dependent", owner["metadata"]["uid"], "ConfigMap", "v1"))
    await bare.api.delete(f"{CONFIG_MAPS}/owner")
    async with controllers(bare.running):
        await bare.until(CONFIG_MAPS, lambda found: {one["metadata"]["name"] for one in found} == {"kube-root-ca.crt"})


async def test_housekeeping_is_left_to_another(bare: Cluster) -> None:
    """Beside a kube-controller-manager workloads are still ours; namespaces and what has lost its owner are not."""
    async with controllers(bare.running, housekeeping=False), kubelet(bare):
        await bare.node("n1")
        await bare.api.post(CONFIG_MAPS, owned("stray", "no-such-uid", "ConfigMap", "v1"))
        await bare.api.post(DEPLOYMENTS, workload("web", replicas=2))
        await bare.until(PODS, lambda pods: len(running_pods(pods)) == 2)
        assert [one["metadata"]["name"] for one in await bare.items(CONFIG_MAPS)] == ["stray"]


async def test_namespaces_are_furnished_and_emptied(cluster: Cluster) -> None:
    """A new namespace gets its ServiceAccount and CA; a deleted one goes with all in it, finalizers respected."""
    await cluster.api.post("/api/v1/namespaces", {"metadata": {"name": "shop"}})
    base = "/api/v1/namespaces/shop"
    await cluster.until(f"{base}/serviceaccounts", bool)
    maps = await cluster.until(f"{base}/configmaps", bool)
    assert maps[0]["data"] == {"ca.crt": "CA"}
    await cluster.api.delete(f"{base}/serviceaccounts/default")
    await cluster.until(f"{base}/serviceaccounts", bool)
    held = config_map("held")
    held["metadata"]["finalizers"] = ["ex.io/wait"]
    await cluster.api.post(f"{base}/configmaps", held)
    await cluster.api.delete(base)
    left = await cluster.until(f"{base}/configmaps", lambda found: len(found) == 1)
    assert left[0]["metadata"]["name"] == "held"
    refused = await cluster.api.post(f"{base}/configmaps", config_map("late"))
    assert (refused.status, "being terminated" in refused.message) == (403, True)
    await cluster.api.patch(f"{base}/configmaps/held", {"metadata": {"finalizers": None}})
    await cluster.until("/api/v1/namespaces", lambda found: all(one["metadata"]["name"] != "shop" for one in found))


async def test_pods_of_a_lost_node_go(cluster: Cluster) -> None:
    """A pod whose node is deleted does not stay Terminating for ever."""
    await cluster.node("n1")
    await cluster.api.post(PODS, pod("p"))
    await cluster.until(PODS, lambda pods: len(running_pods(pods)) == 1)
    await cluster.api.delete("/api/v1/nodes/n1")
    await cluster.until(PODS, lambda pods: not pods)
