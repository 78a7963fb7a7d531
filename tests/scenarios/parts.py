"""Steps about mic and nmi themselves: which pods they are, hung, deleted."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from typing import Any

from tests.e2e.processes import component
from tests.e2e.stage import DEFAULT, Object, is_ready
from tests.scenarios.scene import Scene
from tests.scenarios.steps import Condition, Step

LEASE = "/apis/coordination.k8s.io/v1/namespaces/default/leases/aad-pod-identity-mic"
PORTS = {"mic": 8080, "nmi": 8085}
PROBE = """
import sys, urllib.request
with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/healthz", timeout=20) as answer:
    print(answer.status, answer.read().decode())
"""


async def leader(scene: Scene) -> str:
    """The mic pod that leads."""
    return str((await scene.call("GET", LEASE))["spec"].get("holderIdentity", ""))


async def pod_of(scene: Scene, part: str) -> Object:
    """The pod that a scenario about a part is about: the mic that waits, or nmi on the lab's last node."""
    pods: list[Any] = list((await scene.call("GET", f"{DEFAULT}/pods"))["items"])
    found = [pod for pod in pods if pod["metadata"]["name"].startswith(f"{part}-")]
    if part == "mic":
        leads = await leader(scene)
        return next(pod for pod in found if pod["metadata"]["name"] != leads)
    last = scene.site.stage.lab.spec.nodes[-1].name
    return next(pod for pod in found if pod["spec"].get("nodeName") == last)


@dataclass(frozen=True)
class Healthy(Condition):
    """A part answers its liveness probe with 200 and a word."""

    part: str
    word: str

    async def lacks(self, scene: Scene) -> str:
        """What it answered."""
        pod = await pod_of(scene, self.part)
        heard = bytearray()
        words = (sys.executable, "-SEc", PROBE, str(PORTS[self.part]))
        await scene.site.stage.lab.cluster.execute(
            "default", pod["metadata"]["name"], words, lambda _, data: heard.extend(data)
        )
        text = heard.decode().strip()
        return "" if text == f"200 {self.word}" else f"it answered {text[-300:]!r}"


@dataclass(frozen=True)
class Hang(Step):
    """The process of a part stops doing anything; it does not end."""

    part: str

    async def play(self, scene: Scene) -> None:
        """SIGSTOP."""
        pod = await pod_of(scene, self.part)
        name = pod["metadata"]["name"]
        host = pod["spec"]["nodeName"] if pod["spec"].get("hostNetwork") else name
        (process,) = component(os.getpid(), self.part, host)
        scene.memory[self.part] = name
        os.kill(process.pid, signal.SIGSTOP)


@dataclass(frozen=True)
class Restarted(Condition):
    """The kubelet has restarted the part that hung, once, and it is ready."""

    part: str
    within: float = 120

    async def lacks(self, scene: Scene) -> str:
        """Its status."""
        pod = await scene.call("GET", f"{DEFAULT}/pods/{scene.memory[self.part]}")
        (status,) = pod["status"]["containerStatuses"]
        return "" if status["restartCount"] == 1 and is_ready(pod) else f"{status}"


@dataclass(frozen=True)
class LeaderDeleted(Step):
    """The mic pod that leads is deleted."""

    async def play(self, scene: Scene) -> None:
        """Delete it as kubectl does."""
        scene.memory["leader"] = await leader(scene)
        await scene.call("DELETE", f"{DEFAULT}/pods/{scene.memory['leader']}")


@dataclass(frozen=True)
class OtherLeader(Condition):
    """Another mic leads."""

    async def lacks(self, scene: Scene) -> str:
        """Who leads."""
        now = await leader(scene)
        return "" if now not in {"", scene.memory["leader"]} else f"{now!r} leads"
