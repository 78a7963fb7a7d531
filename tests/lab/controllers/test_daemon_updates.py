"""How an update replaces a DaemonSet's pods: after the old ones, or beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.lab.controllers.conftest import DAEMON_SETS, PODS, Cluster, running_pods, workload
from tests.lab.controllers.test_rules import node, pod, thing
from tests.lab.controllers.test_workloads import MERGE_IMAGE, count

from podidentity.lab.controllers.daemonplan import plan
from podidentity.lab.controllers.things import Thing, template_hash

NODES = [node(name) for name in ("n1", "n2", "n3")]
LATE = 200.0
NEW = template_hash({"spec": {}})


def daemon(kind: str = "RollingUpdate", **rolling: Any) -> Thing:
    """A DaemonSet with this strategy."""
    return thing("d", {"template": {"spec": {}}, "updateStrategy": {"type": kind, "rollingUpdate": rolling}})


def of(words: Sequence[str]) -> list[Thing]:
    """Pods on n1, n2 and n3 in turn: ``old`` and ``new`` ones, with ``!`` when they are not ready, ``+`` for two."""
    found = []
    for number, word in enumerate(words, 1):
        for one in filter(None, word.split("+")):
            name = one.rstrip("!")
            labels = {"controller-revision-hash": NEW if name.startswith("new") else "older"}
            stamp = f"2026-01-01T00:00:0{len(found)}Z"
            ready = not one.endswith("!")
            found.append(pod(f"{name}{number}", f"n{number}", ready=ready, labels=labels, creationTimestamp=stamp))
    return found


SURGE = {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize(
    ("rolling", "pods", "create", "delete"),
    [
        (SURGE, ("old", "old", "old"), ["n1"], []),
        (SURGE, ("old+new!", "old", "old"), [], []),
        (SURGE, ("old+new", "old", "old"), ["n2"], ["old1"]),
        (SURGE, ("new", "old", "old"), ["n2"], []),
        (SURGE, ("old!+new!", "old", "old"), [], ["old1"]),
        (SURGE, ("old!", "old", "old!"), ["n1", "n2", "n3"], []),
        (SURGE, ("old+oldest", "new+newer", "new"), [], ["newer2", "oldest1"]),
        (SURGE, ("new", "new", "new"), [], []),
        (SURGE, ("", "new", "new"), ["n1"], []),
        ({"maxSurge": "50%", "maxUnavailable": 0}, ("old", "old", "old"), ["n1", "n2"], []),
        ({"maxSurge": 0, "maxUnavailable": 2}, ("old", "old", "old"), [], ["old1", "old2"]),
        ({"maxSurge": 0, "maxUnavailable": "34%"}, ("new!", "old", "old"), [], ["old2"]),
        ({"maxSurge": 0, "maxUnavailable": 0}, ("old", "old", "old"), [], ["old1"]),
        ({}, ("old", "old!", "old"), [], ["old2"]),
        ({}, ("old+new", "new", "new"), [], ["new1"]),
    ],
)
def test_an_updates_next_step(
    rolling: dict[str, Any], pods: Sequence[str], create: list[str], delete: list[str]
) -> None:
    """Surge makes new pods beside old ones and ends an old one for an available new one; else old ones go first."""
    found = plan(daemon(**rolling), NODES, of(pods), LATE)
    assert (sorted(found.create), sorted(one.name for one in found.delete)) == (create, delete)


def test_on_delete_replaces_nothing() -> None:
    """With OnDelete old pods stay, whatever `rollingUpdate` still says."""
    found = plan(daemon("OnDelete", **SURGE), NODES, of(("old", "old", "old")), LATE)
    assert (found.create, found.delete) == ((), ())


async def test_daemon_set_update_with_surge_never_lacks_a_pod(cluster: Cluster) -> None:
    """With maxSurge 1 every node has a ready pod at any time, and at most one node has two."""
    for name in ("n1", "n2", "n3"):
        await cluster.node(name)
    strategy = {"type": "RollingUpdate", "rollingUpdate": SURGE}
    await cluster.api.post(DAEMON_SETS, workload("d", updateStrategy=strategy))
    await cluster.until(PODS, count(3))
    await cluster.until(DAEMON_SETS, lambda found: found[0]["status"].get("numberAvailable") == 3)
    most = [3]

    def done(pods: list[dict[str, Any]]) -> bool:
        ready = running_pods(pods)
        assert {pod["spec"]["nodeName"] for pod in ready} == {"n1", "n2", "n3"}
        most.append(len([pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]))
        return {pod["spec"]["containers"][0]["image"] for pod in pods} == {"x:2"} and count(3)(pods)

    await cluster.api.patch(f"{DAEMON_SETS}/d", MERGE_IMAGE, "application/strategic-merge-patch+json")
    await cluster.until(PODS, done)
    assert max(most) <= 4
    await cluster.until(DAEMON_SETS, lambda found: found[0]["status"].get("updatedNumberScheduled") == 3)
