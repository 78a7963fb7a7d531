"""Deployments, ReplicaSets and DaemonSets against the embedded API."""

from __future__ import annotations

from typing import Any

from tests.lab.controllers.conftest import (
    DAEMON_SETS,
    DEPLOYMENTS,
    PODS,
    REPLICA_SETS,
    Cluster,
    controllers,
    kubelet,
    running_pods,
    workload,
)

MERGE_IMAGE: dict[str, Any] = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "x:2"}]}}}}


def count(number: int) -> Any:
    """As many running pods, and no other."""
    return lambda pods: len(pods) == len(running_pods(pods)) == number


def complete(number: int) -> Any:
    """A Deployment rolled out to as many pods."""

    def done(found: list[dict[str, Any]]) -> bool:
        one = found[0]
        status = one["status"]
        return (
            status.get("observedGeneration") == one["metadata"]["generation"]
            and status.get("replicas", 0)
            == status.get("updatedReplicas", 0)
            == status.get("availableReplicas", 0)
            == number
        )

    return done


async def test_deployment_runs_scales_and_reports(cluster: Cluster) -> None:
    """Two replicas come up under a hashed ReplicaSet, scale up and down, and status says so."""
    await cluster.node("n1")
    await cluster.api.post(DEPLOYMENTS, workload("web", replicas=2))
    pods = await cluster.until(PODS, count(2))
    found = (await cluster.until(DEPLOYMENTS, complete(2)))[0]
    digest = pods[0]["metadata"]["labels"]["pod-template-hash"]
    assert [one["metadata"]["name"] for one in await cluster.items(REPLICA_SETS)] == [f"web-{digest}"]
    assert pods[0]["metadata"]["name"].startswith(f"web-{digest}-")
    assert {item["type"]: item["status"] for item in found["status"]["conditions"]} == {
        "Available": "True",
        "Progressing": "True",
    }
    for size in (5, 1, 0):
        await cluster.api.patch(f"{DEPLOYMENTS}/web/scale", {"spec": {"replicas": size}})
        await cluster.until(PODS, count(size))
        await cluster.until(DEPLOYMENTS, complete(size))


async def test_lost_pod_is_replaced(cluster: Cluster) -> None:
    """A deleted or failed pod is replaced by one of another name."""
    await cluster.node("n1")
    await cluster.api.post(DEPLOYMENTS, workload("web", replicas=1))
    first = (await cluster.until(PODS, count(1)))[0]["metadata"]["name"]
    await cluster.api.delete(f"{PODS}/{first}")
    await cluster.until(PODS, lambda pods: count(1)(pods) and pods[0]["metadata"]["name"] != first)
    second = (await cluster.items())[0]["metadata"]["name"]
    await cluster.api.patch(f"{PODS}/{second}/status", {"status": {"phase": "Failed"}})
    await cluster.until(PODS, lambda pods: len(running_pods(pods)) == 1)


async def test_rolling_update_keeps_enough_pods(cluster: Cluster) -> None:
    """During an update never fewer than allowed are ready nor more than allowed there; old pods end last."""
    await cluster.node("n1")
    limits = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    await cluster.api.post(DEPLOYMENTS, workload("web", replicas=3, strategy=limits))
    await cluster.until(PODS, count(3))
    await cluster.until(DEPLOYMENTS, complete(3))
    seen: list[tuple[int, int]] = []

    def done(pods: list[dict[str, Any]]) -> bool:
        alive = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
        seen.append((len(alive), len(running_pods(pods))))
        images = {pod["spec"]["containers"][0]["image"] for pod in pods}
        return images == {"x:2"} and count(3)(pods)

    await cluster.api.patch(f"{DEPLOYMENTS}/web", MERGE_IMAGE, "application/strategic-merge-patch+json")
    await cluster.until(PODS, done)
    assert max(there for there, _ in seen) <= 4
    assert min(ready for _, ready in seen) >= 3
    found = (await cluster.until(DEPLOYMENTS, complete(3)))[0]
    assert found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    sizes = sorted(one["spec"]["replicas"] for one in await cluster.items(REPLICA_SETS))
    assert sizes == [0, 3]


async def test_update_that_never_gets_ready_keeps_the_old_pods(cluster: Cluster) -> None:
    """A broken image does not take the working pods away; rolling back uses the old ReplicaSet."""
    await cluster.node("n1")
    await cluster.api.post(DEPLOYMENTS, workload("web", replicas=4))
    old = {pod["metadata"]["name"] for pod in await cluster.until(PODS, count(4))}
    await cluster.until(DEPLOYMENTS, complete(4))
    cluster.healthy = False
    await cluster.api.patch(f"{DEPLOYMENTS}/web", MERGE_IMAGE, "application/strategic-merge-patch+json")
    await cluster.until(PODS, lambda pods: len(pods) == 5 and len(running_pods(pods)) == 3)
    back = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "x:1"}]}}}}
    cluster.healthy = True
    await cluster.api.patch(f"{DEPLOYMENTS}/web", back, "application/strategic-merge-patch+json")
    pods = await cluster.until(PODS, count(4))
    assert len(old & {pod["metadata"]["name"] for pod in pods}) >= 3
    assert len(await cluster.items(REPLICA_SETS)) == 2


async def test_recreate_never_runs_both(cluster: Cluster) -> None:
    """Recreate ends all old pods before it makes a new one."""
    await cluster.node("n1")
    await cluster.api.post(DEPLOYMENTS, workload("web", replicas=2, strategy={"type": "Recreate"}))
    await cluster.until(DEPLOYMENTS, complete(2))

    def done(pods: list[dict[str, Any]]) -> bool:
        images = {pod["spec"]["containers"][0]["image"] for pod in pods}
        assert images != {"x:1", "x:2"}
        return images == {"x:2"} and count(2)(pods)

    await cluster.api.patch(f"{DEPLOYMENTS}/web", MERGE_IMAGE, "application/strategic-merge-patch+json")
    await cluster.until(PODS, done)


async def test_daemon_set_has_one_pod_on_each_eligible_node(cluster: Cluster) -> None:
    """Selectors and taints decide, cordoned nodes are tolerated, late nodes get theirs, status counts."""
    await cluster.node("n1", labels={"on": "yes"})
    await cluster.node("n2", labels={"on": "no"})
    await cluster.node("n3", labels={"on": "yes"}, taints=[{"key": "x", "effect": "NoSchedule"}])
    await cluster.node("n4", labels={"on": "yes"}, unschedulable=True)
    await cluster.api.post(DAEMON_SETS, workload("d", pod={"nodeSelector": {"on": "yes"}}))
    pods = await cluster.until(PODS, count(2))
    assert sorted(pod["spec"]["nodeName"] for pod in pods) == ["n1", "n4"]
    await cluster.node("n5", labels={"on": "yes"})
    await cluster.until(PODS, count(3))
    await cluster.until(DAEMON_SETS, lambda found: found[0]["status"].get("numberAvailable") == 3)
    status = (await cluster.items(DAEMON_SETS))[0]["status"]
    assert (status["desiredNumberScheduled"], status["numberReady"], status["numberMisscheduled"]) == (3, 3, 0)
    await cluster.api.delete("/api/v1/nodes/n1")
    await cluster.until(PODS, count(2))
    await cluster.api.patch("/api/v1/nodes/n5", {"metadata": {"labels": {"on": "no"}}})
    await cluster.until(PODS, count(1))


async def test_daemon_set_update_goes_one_by_one(cluster: Cluster) -> None:
    """With the default maxUnavailable at most one node is without its pod at any time."""
    for name in ("n1", "n2", "n3"):
        await cluster.node(name)
    await cluster.api.post(DAEMON_SETS, workload("d"))
    await cluster.until(PODS, count(3))
    await cluster.until(DAEMON_SETS, lambda found: found[0]["status"].get("numberAvailable") == 3)
    fewest = [3]

    def done(pods: list[dict[str, Any]]) -> bool:
        fewest.append(len(running_pods(pods)))
        return {pod["spec"]["containers"][0]["image"] for pod in pods} == {"x:2"} and count(3)(pods)

    await cluster.api.patch(f"{DAEMON_SETS}/d", MERGE_IMAGE, "application/strategic-merge-patch+json")
    await cluster.until(PODS, done)
    assert min(fewest) >= 2
    await cluster.until(DAEMON_SETS, lambda found: found[0]["status"].get("updatedNumberScheduled") == 3)


async def test_restarted_controllers_make_nothing_twice(bare: Cluster) -> None:
    """Controllers that start over find what is there and change nothing."""
    await bare.node("n1")
    async with kubelet(bare):
        async with controllers(bare.running):
            await bare.api.post(DEPLOYMENTS, workload("web", replicas=2))
            await bare.api.post(DAEMON_SETS, workload("d"))
            await bare.until(PODS, count(3))
            await bare.until(DEPLOYMENTS, complete(2))
            await bare.until(DAEMON_SETS, lambda found: found[0]["status"].get("numberAvailable") == 1)
        before = await bare.items()
        revision = bare.running.api.store.revision
        async with controllers(bare.running):
            await bare.node("n2")
            await bare.until(PODS, count(4))
        assert {pod["metadata"]["uid"] for pod in before} <= {pod["metadata"]["uid"] for pod in await bare.items()}
        assert len(await bare.items(REPLICA_SETS)) == 1
        assert bare.running.api.store.revision - revision < 20
