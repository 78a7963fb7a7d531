"""Inside the lab's namespaces: builds the network, starts the simulated Azure, the API, controllers and kubelets.

``python -m podidentity.lab.world --dir D --report FD``; started by :mod:`podidentity.lab.outer`. Reports are JSON
lines on FD. A part that ends by itself is started again: its state is on disk or in the API.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from podidentity.aio.signals import until_signal
from podidentity.config.errors import ConfigError
from podidentity.kube.client import KubeClient
from podidentity.lab.forward import bind_unix, forwarding
from podidentity.lab.keeper import Keeper, WorldError
from podidentity.lab.layout import Layout, write_atomically
from podidentity.lab.node import network
from podidentity.lab.node.launch import NodeLaunch, node_network
from podidentity.lab.parts import (
    API_PORT,
    API_URL,
    READY,
    ControlParts,
    admin_settings,
    cloud_part,
    embedded_parts,
    kubelet_part,
    node_launch,
    real_parts,
)
from podidentity.lab.seed import azure_json, cloud_seed, hosts_file
from podidentity.lab.spec import CLOUD_ADDRESS, FABRIC_ADDRESS, SECONDS_A_NODE, LabSpec, load_spec

PART_SECONDS = {"embedded": 30, "real": 90}
"""What a control plane may take to be ready; the real one takes 3 s on an idle machine."""


def _write_files(layout: Layout, spec: LabSpec) -> None:
    """What is derived from the spec: seed, hosts file, each node's azure.json."""
    layout.seed.write_text(json.dumps(cloud_seed(spec), indent=2))
    names = hosts_file(FABRIC_ADDRESS, CLOUD_ADDRESS, (spec.vault,))
    layout.hosts.write_text(names)
    for node in spec.nodes:
        folder = layout.nodes / node.name / "etc-kubernetes"
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "azure.json"
        if not config.exists():
            write_atomically(config, json.dumps(azure_json(spec), indent=2))


def _build_network(launches: Sequence[NodeLaunch]) -> None:
    network.create_fabric()
    for launch in launches:
        network.create_node(node_network(launch))


@contextlib.asynccontextmanager
async def _control_parts(layout: Layout, spec: LabSpec) -> AsyncIterator[ControlParts]:
    """The control plane to start; while the block runs, its API is offered on the lab's Unix socket too."""
    if spec.api_server == "embedded":
        yield embedded_parts(layout)
        return
    async with (
        KubeClient(admin_settings(layout, API_URL), user_agent="podidentity-lab-world", timeout=5) as client,
        forwarding(bind_unix(layout.api_socket), (FABRIC_ADDRESS, API_PORT)),
    ):
        yield real_parts(layout, client)


async def run(layout: Layout, report: int) -> None:
    """Build the world and keep it going until cancelled."""
    spec = load_spec(layout.spec)
    if spec is None:
        raise WorldError(f"{layout.spec} is missing")

    def say(**words: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(report, json.dumps(words).encode() + b"\n")

    try:
        say(stage="network")
        for stale in layout.run.glob(f"*{READY}"):
            stale.unlink()
        _write_files(layout, spec)
        launches = [node_launch(layout, spec, node) for node in spec.nodes]
        await asyncio.to_thread(_build_network, launches)
        async with _control_parts(layout, spec) as control, asyncio.TaskGroup() as group:
            started, seconds = Keeper(layout.logs, group), PART_SECONDS[spec.api_server]
            say(stage="simulated Azure and Kubernetes API")
            await started.start((cloud_part(layout), *control.serving), seconds)
            say(stage="controllers and kubelets")
            kubelets = [kubelet_part(launch) for launch in launches]
            await started.start((*control.using, *kubelets), seconds + SECONDS_A_NODE * len(kubelets))
            say(ready=True)
    except BaseException as error:
        say(failed=_reason(error, layout))
        raise


def _reason(error: BaseException, layout: Layout) -> str:
    """One line for the caller: a WorldError's own words, else where to look."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}; see {layout.logs}"


def main() -> None:
    """Entry point of the world's first command."""
    parser = argparse.ArgumentParser(prog="podidentity.lab.world")
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--report", type=int, required=True)
    given = parser.parse_args()
    layout = Layout(given.dir)
    with (layout.logs / "world.log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.set_inheritable(given.report, False)  # noqa: FBT003 - the standard library's own signature
    asyncio.run(until_signal(run(layout, given.report)))


if __name__ == "__main__":
    main()
