"""Memory of every part as it runs in a lab, and how long each takes from its start until it works."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from cluster import PODS, new_lab
from podidentity.lab.running import RunningLab
from processes import Usage, descendants, since_boot
from report import Report


@dataclass(frozen=True, slots=True)
class Kind:
    """How the processes of a part are told (words of their command line) and how it is told that they work.

    ``pods`` begins the names of its pods, ``line`` is in their logs then; ``ready`` is a pattern of ready files.
    """

    name: str
    words: tuple[str, ...]
    pods: str = ""
    line: str = ""
    ready: str = ""


KINDS = (
    Kind("mic", ("podidentity", "mic"), "mic-", "sync thread started."),
    Kind("nmi", ("podidentity", "nmi"), "nmi-", "CRD lite informers started"),
    Kind("csi-provider", ("podidentity", "csi-provider"), "csi-", "registered and exported metrics"),
    Kind("lab: Kubernetes API", ("podidentity.lab.kube",), ready="api.ready"),
    Kind("lab: simulated Azure", ("podidentity.lab.cloud",), ready="cloud.ready"),
    Kind("lab: controllers", ("podidentity.lab.controllers",), ready="controllers.ready"),
    Kind("lab: kubelet", ("podidentity.lab.node",), ready="*[0-9].ready"),
    Kind("lab: world", ("podidentity.lab.world",)),
)


async def measure(quick: bool) -> Report:
    """Measure."""
    async with new_lab(nodes=1 if quick else 2) as walkthrough:
        lab = walkthrough.lab
        await walkthrough.roles()
        await walkthrough.infrastructure()
        await walkthrough.identity_and_binding()
        if not quick:
            await walkthrough.vault()
            await walkthrough.secret_in_pod()
        running = list(descendants(os.getpid()))
        rows = [await _row(lab, kind, running) for kind in KINDS]
    return Report(
        title=f"rss: the parts of a lab of {lab.spec.node_count} nodes after the walkthrough",
        compares="the parts with each other, as the shipped manifests run them; of several processes the largest one; "
        "ready s: from the start of a part's first process until the last one says that it works "
        "(its line in the log, or its ready file)",
        columns=("part", "processes", "RSS MiB", "peak MiB", "CPU s", "ready s"),
        rows=rows,
        bound="the libraries a part imports. All of a lab's parts start together on the same cores: alone each is "
        "ready sooner. Pages that processes share are counted in each of them",
    )


async def _row(lab: RunningLab, kind: Kind, running: Sequence[Usage]) -> tuple[str, ...]:
    found = [usage for usage in running if _runs(usage, kind.words)]
    if not found:
        raise RuntimeError(f"no process of {kind.name} runs")
    ready = [stamp async for stamp in ready_times(lab, kind)]
    seconds = max(ready) - min(_wall(usage.start) for usage in found) if ready else None
    return (
        kind.name,
        str(len(found)),
        f"{max(usage.rss for usage in found):.0f}",
        f"{max(usage.peak for usage in found):.0f}",
        f"{max(usage.cpu for usage in found):.2f}",
        "-" if seconds is None else f"{seconds:.2f}",
    )


def _runs(usage: Usage, words: tuple[str, ...]) -> bool:
    """Whether it is ``python -m WORDS...``."""
    command = usage.command
    at = command.index("-m") + 1 if "-m" in command else len(command)
    return command[at : at + len(words)] == words


async def ready_times(lab: RunningLab, kind: Kind) -> AsyncIterator[float]:
    """When each of the processes began to work, in seconds since the epoch."""
    if kind.ready:
        for path in lab.layout.run.glob(kind.ready):
            yield path.stat().st_mtime
    if kind.pods:
        for pod in json.loads(await lab.cluster.client.raw("GET", PODS))["items"]:
            name = pod["metadata"]["name"]
            if name.startswith(kind.pods):
                log = await lab.cluster.client.raw("GET", f"{PODS}/{name}/log", params={"timestamps": "true"})
                for line in log.decode(errors="replace").splitlines():
                    if kind.line in line:
                        yield _epoch(line.split()[0])
                        break


def _epoch(stamp: str) -> float:
    """RFC 3339 with nanoseconds."""
    seconds, _, fraction = stamp.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{seconds}+00:00").timestamp() + float(f"0.{fraction or 0}")


def _wall(boot: float) -> float:
    """A time since boot as seconds since the epoch."""
    return time.time() - since_boot() + boot
