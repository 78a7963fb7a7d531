"""``podidentity lab``: a whole cluster on this machine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from podidentity.aio.signals import until_signal
from podidentity.config.errors import ConfigError, UsageError
from podidentity.kube.errors import KubeError
from podidentity.lab import access
from podidentity.lab.azure import AzureError
from podidentity.lab.cluster import Cluster
from podidentity.lab.demo import play
from podidentity.lab.layout import Layout
from podidentity.lab.lock import holder
from podidentity.lab.outer import Wish, remove_directory, running_lab
from podidentity.lab.spec import load_spec

T = TypeVar("T")
STOP_SECONDS = 20

app = typer.Typer(
    help="A whole cluster on this machine: no Docker, no Azure account, no internet.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class ApiServer(StrEnum):
    """Which API server a lab runs."""

    embedded = "embedded"
    real = "real"


class PodNetwork(StrEnum):
    """How pods are connected: behind a bridge as kubenet does, or routed as Azure CNI and Calico do."""

    bridge = "bridge"
    routed = "routed"


def _default_directory() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "podidentity" / "lab"


DEFAULT_DIRECTORY = _default_directory()

Directory = Annotated[Path, typer.Option("--dir", help="Where the lab keeps its state; one directory is one lab.")]
Nodes = Annotated[int, typer.Option(help="Number of nodes.", min=1, max=50)]
ApiServerOption = Annotated[ApiServer, typer.Option("--api-server", help="The API server to run.")]
NetworkOption = Annotated[PodNetwork, typer.Option("--network", help="How pods are connected.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace.")]


def _supported(server: ApiServer) -> None:
    if server is ApiServer.real:
        raise UsageError("--api-server: 'real' is not in this version; 'embedded' is")


def _run(work: Coroutine[object, object, T]) -> T:
    """Run to the end; what a person can mend comes out as one line."""
    try:
        return asyncio.run(work)
    except (KubeError, AzureError) as error:
        raise ConfigError(str(error)) from None


def _running(directory: Path) -> Layout:
    layout = Layout(directory.resolve())
    if holder(layout.lock) is None:
        raise ConfigError(f"no lab runs in {directory}; 'podidentity lab up --dir {directory}' starts one")
    return layout


@app.command()
def up(  # noqa: PLR0917 - each is an option of its own
    directory: Directory = DEFAULT_DIRECTORY,
    nodes: Nodes = 2,
    api_server: ApiServerOption = ApiServer.embedded,
    network: NetworkOption = PodNetwork.bridge,
    port: Annotated[int, typer.Option(help="Loopback port of the API; 0 takes a free one.", min=0, max=65535)] = 0,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay; Ctrl-C ends the lab.")] = False,
    ready_fd: Annotated[int, typer.Option(hidden=True)] = -1,
) -> None:
    """Start a lab, or resume the one whose state is in --dir."""
    _supported(api_server)
    wish = Wish(directory, nodes=nodes, network=network.value, port=port)
    if foreground:
        _run(until_signal(_hold(wish, ready_fd)))
        return
    words = ["--dir", str(directory), "--nodes", str(nodes), "--network", network.value, "--port", str(port)]
    _start_in_background(directory, words)
    _print_ready(Layout(directory.resolve()))


def _start_in_background(directory: Path, words: list[str]) -> None:
    """Start ``lab up --foreground`` as a process of its own and wait for its word."""
    layout = Layout(directory.resolve())
    try:
        layout.make()
    except OSError as error:
        raise ConfigError(
            f"lab: --dir {directory}: cannot write there ({error.strerror}); name a directory you own"
        ) from None
    read, write = os.pipe()
    with (layout.logs / "lab.log").open("ab") as log, os.fdopen(read) as answer:
        subprocess.Popen(  # noqa: S603 - the command is ours
            [sys.executable, "-m", "podidentity", "lab", "up", "--foreground", "--ready-fd", str(write), *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[write],
            start_new_session=True,
        )
        os.close(write)
        said = answer.readline().strip()
    if said != "ready":
        raise ConfigError(said or f"it ended while it started; see {layout.logs / 'lab.log'}")


def _tell(ready_fd: int, word: str) -> None:
    if ready_fd >= 0:
        os.write(ready_fd, f"{word}\n".encode())
        os.close(ready_fd)


async def _hold(wish: Wish, ready_fd: int) -> None:
    """Run the lab until SIGTERM or SIGINT; ``ready_fd`` (or the terminal) hears when it is ready, or why it is not."""
    try:
        async with running_lab(wish) as lab:
            if ready_fd < 0:
                _print_ready(lab.layout)
            _tell(ready_fd, "ready")
            ready_fd = -1
            await asyncio.Event().wait()
    except ConfigError as error:
        _tell(ready_fd, str(error))
        raise


def _print_ready(layout: Layout) -> None:
    spec = load_spec(layout.spec)
    if spec is None:
        raise ConfigError(f"{layout.spec} is missing")
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"The lab in {layout.root} is ready: {spec.node_count} nodes, API on https://127.0.0.1:{spec.port}.")
    console.print(f"  export KUBECONFIG={layout.kubeconfig}")
    console.print(f"  podidentity lab get nodes --dir {layout.root}")
    console.print(f"  podidentity lab down --dir {layout.root}")


@app.command()
def down(
    directory: Directory = DEFAULT_DIRECTORY,
    remove: Annotated[bool, typer.Option("--remove", help="Remove its files too.")] = False,
) -> None:
    """End the lab in --dir; its files stay for the next `lab up`."""
    layout = Layout(directory.resolve())
    process = holder(layout.lock)
    if process is None and not (remove and layout.spec.exists()):
        raise ConfigError(f"no lab runs in {directory}")
    if process is not None:
        os.kill(process, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while holder(layout.lock) == process:
            if time.monotonic() > deadline:
                os.kill(process, signal.SIGKILL)
            time.sleep(0.05)
        typer.echo(f"The lab in {directory} has ended.")
    if remove:
        remove_directory(layout)
        typer.echo(f"{directory} is removed.")


@app.command()
def status(directory: Directory = DEFAULT_DIRECTORY) -> None:
    """Say whether a lab runs in --dir and what runs in it."""
    layout = _running(directory)
    typer.echo(f"running, process {holder(layout.lock)}, KUBECONFIG={layout.kubeconfig}")
    for word in ("nodes", "pods"):
        typer.echo(_run(_table(layout, word, "", "default", every=word == "pods")))


@app.command()
def kubeconfig(directory: Directory = DEFAULT_DIRECTORY) -> None:
    """Print the path of the lab's kubeconfig."""
    typer.echo(_running(directory).kubeconfig)


async def _table(layout: Layout, word: str, name: str, namespace: str, *, every: bool) -> str:
    async with Cluster(layout) as cluster:
        kind = access.find_kind(await access.discover(cluster.client), word)
        return await access.get_table(cluster.client, kind, namespace, name, all_namespaces=every)


@app.command()
def get(
    kind: str,
    name: Annotated[str, typer.Argument()] = "",
    directory: Directory = DEFAULT_DIRECTORY,
    namespace: Namespace = "default",
    every: Annotated[bool, typer.Option("--all-namespaces", "-A", help="In all namespaces.")] = False,
) -> None:
    """List objects, as `kubectl get` does."""
    typer.echo(_run(_table(_running(directory), kind, name, namespace, every=every)))


@app.command()
def apply(files: list[Path], directory: Directory = DEFAULT_DIRECTORY, namespace: Namespace = "default") -> None:
    """Create or change the objects of YAML files, as `kubectl apply -f` does."""
    layout = _running(directory)

    async def work() -> None:
        async with Cluster(layout) as cluster:
            for file in files:
                async for line in access.apply(cluster.client, file, namespace):
                    typer.echo(line)

    _run(work())


@app.command()
def logs(
    pod: str,
    directory: Directory = DEFAULT_DIRECTORY,
    namespace: Namespace = "default",
    tail: Annotated[int | None, typer.Option(help="Only the last lines.", min=0)] = None,
    since: Annotated[int | None, typer.Option(help="Only the last seconds.", min=0)] = None,
) -> None:
    """Print a pod's log."""
    layout = _running(directory)

    async def work() -> str:
        async with Cluster(layout) as cluster:
            return await access.pod_logs(cluster.client, namespace, pod, tail=tail, since=since)

    typer.echo(_run(work()), nl=False)


@app.command(name="exec", context_settings={"ignore_unknown_options": True})
def execute(
    pod: str,
    command: Annotated[list[str], typer.Argument(help="After --, the command.")],
    directory: Directory = DEFAULT_DIRECTORY,
) -> None:
    """Run a command in a pod's first container."""
    layout = _running(directory)

    async def work() -> int:
        async with Cluster(layout) as cluster:
            answer = await cluster.run(pod, *command)
        typer.echo(answer.text, nl=False)
        return answer.code

    raise typer.Exit(_run(work()))


@app.command()
def demo(
    nodes: Nodes = 2,
    api_server: ApiServerOption = ApiServer.embedded,
    network: NetworkOption = PodNetwork.bridge,
    as_json: Annotated[bool, typer.Option("--json", help="Print the facts as JSON, nothing else.")] = False,
    no_kubectl: Annotated[bool, typer.Option("--no-kubectl", help="Do not use the kubectl on PATH.")] = False,
) -> None:
    """Play the walkthrough in a new lab, from an empty cloud to the secret in a pod; leaves nothing behind."""
    _supported(api_server)
    console = None if as_json else Console(highlight=False)
    kubectl = None if no_kubectl else Cluster.find_kubectl()
    story = _run(play(console, nodes=nodes, network=network.value, kubectl=kubectl))
    if as_json:
        claims = [{"claim": text, "holds": holds, "evidence": evidence} for text, holds, evidence in story.claims]
        typer.echo(json.dumps({"proved": story.proved, "claims": claims, **story.facts}, indent=2))
    story.summary()
    if not story.proved:
        raise ConfigError("not every claim held; the lines marked NO say which")
    if console:
        console.print("\n[bold]Next[/bold]")
        console.print("   podidentity lab up            a lab that stays")
        console.print("   podidentity lab get pods -A   look around in it")
        console.print("   podidentity lab down          end it")
