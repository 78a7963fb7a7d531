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
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from podidentity.aio.signals import until_signal
from podidentity.config.errors import ConfigError
from podidentity.lab.layout import Layout, write_atomically
from podidentity.lab.node import network
from podidentity.lab.node.launch import NodeLaunch, node_command, node_network
from podidentity.lab.seed import azure_json, cloud_seed, hosts_file
from podidentity.lab.spec import (
    CLOUD_ADDRESS,
    FABRIC_ADDRESS,
    IMDS_ADDRESS,
    SECONDS_A_NODE,
    LabSpec,
    NodeSpec,
    load_spec,
)

POLL = 0.01
RESTART_PAUSE = 0.5
API_PORT = 443
NAMESPACES = Path("/run/podidentity/netns")


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the lab: its name (and log file), its command, and the file it makes when it is ready."""

    name: str
    command: tuple[str, ...]
    ready: Path


def _python(module: str, options: Mapping[str, object]) -> tuple[str, ...]:
    words = [sys.executable, "-m", module]
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    return tuple(words)


def cloud_part(layout: Layout) -> Part:
    """The simulated Azure."""
    ready = layout.run / "cloud.ready"
    options = {
        "state-dir": layout.cloud_data,
        "seed": layout.seed,
        "https": f"{CLOUD_ADDRESS}:443",
        "imds": f"{IMDS_ADDRESS}:80",
        "tls-cert": layout.pki / "cloud.crt",
        "tls-key": layout.pki / "cloud.key",
        "admin-socket": layout.cloud_socket,
        "ready-file": ready,
    }
    return Part("cloud", _python("podidentity.lab.cloud", options), ready)


def api_part(layout: Layout) -> Part:
    """The embedded Kubernetes API."""
    ready, pki = layout.run / "api.ready", layout.pki
    options = {
        "data-dir": layout.kube_data,
        "tls-cert": pki / "apiserver.crt",
        "tls-key": pki / "apiserver.key",
        "client-ca": pki / "ca.crt",
        "sa-key": pki / "sa.key",
        "listen": f"{FABRIC_ADDRESS}:{API_PORT}",
        "unix": layout.api_socket,
        "ready-file": ready,
        "kubelet-ca": pki / "ca.crt",
        "kubelet-client-cert": pki / "apiserver-kubelet-client.crt",
        "kubelet-client-key": pki / "apiserver-kubelet-client.key",
    }
    return Part("api", _python("podidentity.lab.kube", options), ready)


def _credentials(layout: Layout, user: str) -> dict[str, object]:
    return {
        "server": f"https://{FABRIC_ADDRESS}:{API_PORT}",
        "ca": layout.pki / "ca.crt",
        "cert": layout.pki / f"{user}.crt",
        "key": layout.pki / f"{user}.key",
    }


def controllers_part(layout: Layout) -> Part:
    """Scheduler, workload controllers, garbage collection."""
    ready = layout.run / "controllers.ready"
    options = {**_credentials(layout, "controllers"), "ready-file": ready}
    return Part("controllers", _python("podidentity.lab.controllers", options), ready)


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


class WorldError(ConfigError):
    """The lab could not be built."""


class Parts:
    """Starts parts and starts them again when they end."""

    def __init__(self, layout: Layout, group: asyncio.TaskGroup) -> None:
        self._layout = layout
        self._group = group
        self._environ = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}

    async def start(self, parts: Sequence[Part], deadline: float) -> None:
        """Start all of them at once; returns when all are ready. WorldError names the one that is not."""
        for part in parts:
            part.ready.unlink(missing_ok=True)
            self._group.create_task(self._keep(part), name=part.name)
        try:
            async with asyncio.timeout(deadline):
                for part in parts:
                    while not part.ready.exists():  # noqa: ASYNC110 - a file is all there is to wait for
                        await asyncio.sleep(POLL)
        except TimeoutError:
            waiting = [part.name for part in parts if not part.ready.exists()]
            more = f" and {len(waiting) - 1} more" if waiting[1:] else ""
            raise WorldError(f"{waiting[0]}{more}: not ready after {deadline:.0f} s; see {self._layout.logs}") from None

    async def _keep(self, part: Part) -> None:
        while True:
            with (self._layout.logs / f"{part.name}.log").open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    *part.command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=self._environ
                )
            try:
                code = await process.wait()
            except asyncio.CancelledError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
                raise
            sys.stderr.write(f"{part.name} ended with code {code}; starting it again\n")
            await asyncio.sleep(RESTART_PAUSE)


def node_launch(layout: Layout, spec: LabSpec, node: NodeSpec) -> NodeLaunch:
    """A node and its kubelet."""
    return NodeLaunch(
        name=node.name,
        node_ip=node.address,
        pod_cidr=node.pod_cidr,
        network=spec.network,
        provider_id=node.provider_id,
        namespace=NAMESPACES / node.name,
        state_dir=layout.nodes / node.name,
        ca=layout.pki / "ca.crt",
        cert=layout.pki / f"kubelet-{node.name}.crt",
        key=layout.pki / f"kubelet-{node.name}.key",
        hosts=layout.hosts,
        ca_bundle=layout.ca_bundle,
        ready_file=layout.run / f"{node.name}.ready",
        server=f"https://{FABRIC_ADDRESS}:{API_PORT}",
        rotation_interval=spec.rotation_interval,
    )


def _build_network(launches: Sequence[NodeLaunch]) -> None:
    network.create_fabric()
    for launch in launches:
        network.create_node(node_network(launch))


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
        _write_files(layout, spec)
        launches = [node_launch(layout, spec, node) for node in spec.nodes]
        await asyncio.to_thread(_build_network, launches)
        async with asyncio.TaskGroup() as group:
            parts = Parts(layout, group)
            say(stage="simulated Azure and Kubernetes API")
            await parts.start((cloud_part(layout), api_part(layout)), 30)
            say(stage="controllers and kubelets")
            kubelets = [Part(launch.name, tuple(node_command(launch)), launch.ready_file) for launch in launches]
            await parts.start((controllers_part(layout), *kubelets), 30 + SECONDS_A_NODE * len(kubelets))
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
