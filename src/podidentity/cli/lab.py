"""``podidentity lab``: a whole cluster on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from podidentity.aio.signals import until_signal
from podidentity.cli.lab_options import (
    DEFAULT_DIRECTORY,
    ApiServerOption,
    Directory,
    Namespace,
    NetworkOption,
    Nodes,
    filled,
    seconds,
    wish_for,
    with_dir,
    with_options,
)
from podidentity.cli.lab_up import STOP_SECONDS, hold, read_spec, start_in_background
from podidentity.cli.typed import examples
from podidentity.config.errors import ConfigError
from podidentity.kube.errors import KubeError
from podidentity.lab import access
from podidentity.lab.azure import AzureError
from podidentity.lab.cluster import Cluster
from podidentity.lab.demo import play
from podidentity.lab.execute import STDOUT
from podidentity.lab.layout import Layout
from podidentity.lab.lock import holder
from podidentity.lab.outer import Wish, remove_directory
from podidentity.lab.spec import load_spec

T = TypeVar("T")
_SIGNALLED = 128
"""A shell's exit code for a signal is this much more than its number."""

app = typer.Typer(
    help="A whole cluster on this machine: no Docker, no Azure account, no internet.",
    no_args_is_help=True,
    epilog=examples("podidentity lab up", "podidentity lab get pods -A", "podidentity lab down --remove"),
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _run(work: Coroutine[object, object, T]) -> T:
    """Run to the end; what a person can mend comes out as one line. SIGTERM and SIGHUP tidy up as Ctrl-C does."""
    ended: list[int] = []

    async def ending_on_signals() -> T:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()

        def end(number: int) -> None:
            ended.append(number)
            if task:
                task.cancel()

        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, end, number)
        return await work

    try:
        return asyncio.run(ending_on_signals())
    except (KubeError, AzureError) as error:
        raise ConfigError(str(error)) from None
    except asyncio.CancelledError:
        if not ended:
            raise
        raise typer.Exit(_SIGNALLED + ended[0]) from None


def _running(directory: Path) -> Layout:
    layout = Layout(directory.resolve())
    if holder(layout.lock) is None:
        raise ConfigError(f"no lab runs in {directory}; `{with_dir('up', directory)}` starts one")
    return layout


@app.command(
    epilog=examples(
        "podidentity lab up",
        "podidentity lab up --nodes 3 --network routed --api-server real",
        "podidentity lab up --dir /tmp/second --foreground",
    )
)
def up(  # noqa: PLR0917 - each is an option of its own
    directory: Directory = DEFAULT_DIRECTORY,
    nodes: Nodes = None,
    api_server: ApiServerOption = None,
    network: NetworkOption = None,
    port: Annotated[int, typer.Option(help="Loopback port of the API; 0 takes a free one.", min=0, max=65535)] = 0,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay; Ctrl-C ends the lab.")] = False,
    ready_fd: Annotated[int, typer.Option(hidden=True)] = -1,
) -> None:
    """Start a lab, or resume the one whose state is in --dir."""
    wish = wish_for(directory, port, nodes, network, api_server)
    fresh = not Layout(directory.resolve()).spec.exists()
    try:
        if foreground:
            _run(until_signal(hold(wish, ready_fd)))
        else:
            _run(start_in_background(wish))
    except (KeyboardInterrupt, typer.Exit):
        left = "nothing is left of it" if fresh else f"the lab in {directory} does not run, its files are kept"
        typer.echo(f"podidentity lab: interrupted; {left}", err=True)
        raise


@app.command(epilog=examples("podidentity lab down", "podidentity lab down --remove"))
def down(
    directory: Directory = DEFAULT_DIRECTORY,
    remove: Annotated[bool, typer.Option("--remove", help="Remove its files too.")] = False,
) -> None:
    """End the lab in --dir; its files stay for the next `lab up`."""
    layout = Layout(directory.resolve())
    process = holder(layout.lock)
    if process is None and not (remove and load_spec(layout.spec)):  # a file of that name may be somebody's own
        raise ConfigError(f"no lab runs in {directory}")
    if process is not None:
        with contextlib.suppress(ProcessLookupError):  # it may end just now
            os.kill(process, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while holder(layout.lock) == process:
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.05)
        typer.echo(f"The lab in {directory} has ended.")
    if remove:
        remove_directory(layout)
        kept = ": it holds files that are not the lab's" if layout.root.exists() else ""
        typer.echo(f"Its files are removed{f', not {directory} itself{kept}' if kept else ''}.")


@app.command(epilog=examples("podidentity lab status"))
def status(directory: Directory = DEFAULT_DIRECTORY) -> None:
    """Say whether a lab runs in --dir and what runs in it."""
    layout = _running(directory)
    server = f"{read_spec(layout).api_server} API ({_run(_version(layout))})"
    typer.echo(f"running, process {holder(layout.lock)}, {server}, KUBECONFIG={layout.kubeconfig}")
    for word in ("nodes", "pods"):
        typer.echo(_run(_table(layout, word, "", "default", every=word == "pods")))


@app.command(epilog=examples("podidentity lab kubeconfig"))
def kubeconfig(directory: Directory = DEFAULT_DIRECTORY) -> None:
    """Print the path of the lab's kubeconfig."""
    typer.echo(_running(directory).kubeconfig)


async def _version(layout: Layout) -> str:
    """The server's version, or why it does not tell it."""
    async with Cluster(layout, read_spec(layout)) as cluster:
        try:
            return f"Kubernetes {await cluster.version()}"
        except KubeError as error:
            return f"does not answer: {error}"


async def _table(layout: Layout, word: str, name: str, namespace: str, *, every: bool) -> str:
    async with Cluster(layout, read_spec(layout)) as cluster:
        kind = access.find_kind(await access.discover(cluster.client), word)
        return await access.get_table(cluster.client, kind, namespace, name, all_namespaces=every)


@app.command(epilog=examples("podidentity lab get pods -A", "podidentity lab get azureassignedidentities"))
def get(
    kind: str,
    name: Annotated[str, typer.Argument()] = "",
    directory: Directory = DEFAULT_DIRECTORY,
    namespace: Namespace = "default",
    every: Annotated[bool, typer.Option("--all-namespaces", "-A", help="In all namespaces.")] = False,
) -> None:
    """List objects, as `kubectl get` does."""
    if not name:
        kind, _, name = kind.partition("/")
    typer.echo(_run(_table(_running(directory), kind, name, namespace, every=every)))


@app.command(
    epilog=examples(
        "podidentity lab apply deploy/deployment-rbac.yaml", "podidentity lab apply identity.yaml binding.yaml -n shop"
    )
)
def apply(files: list[Path], directory: Directory = DEFAULT_DIRECTORY, namespace: Namespace = "default") -> None:
    """Create or change the objects of YAML files, as `kubectl apply -f` does."""
    layout = _running(directory)

    async def work() -> None:
        async with Cluster(layout, read_spec(layout)) as cluster:
            for file in files:
                async for line in access.apply(cluster.client, file, namespace):
                    typer.echo(line)

    _run(work())


@app.command(epilog=examples("podidentity lab logs demo", "podidentity lab logs mic-0 --since 5m --tail 100"))
def logs(
    pod: str,
    directory: Directory = DEFAULT_DIRECTORY,
    namespace: Namespace = "default",
    tail: Annotated[int | None, typer.Option(help="Only the last lines.", min=0)] = None,
    since: Annotated[
        int | None, typer.Option(help="Only the last seconds, or 5m, 1h.", parser=seconds, metavar="DURATION")
    ] = None,
) -> None:
    """Print a pod's log."""
    layout = _running(directory)

    async def work() -> str:
        async with Cluster(layout, read_spec(layout)) as cluster:
            return await access.pod_logs(cluster.client, namespace, pod, tail=tail, since=since)

    typer.echo(_run(work()), nl=False)


@app.command(
    name="exec",
    context_settings={"ignore_unknown_options": True},
    epilog=examples(
        "podidentity lab exec demo -- ls /mnt/secrets-store",
        "podidentity lab exec demo -n shop -- podidentity validate",
    ),
)
def execute(
    pod: str,
    command: Annotated[list[str], typer.Argument(help="After --, the command.")],
    directory: Directory = DEFAULT_DIRECTORY,
    namespace: Namespace = "default",
) -> None:
    """Run a command in a pod's first container; its exit code is this command's."""
    layout = _running(directory)

    def pass_on(channel: int, data: bytes) -> None:
        stream = sys.stdout if channel == STDOUT else sys.stderr
        if stream is not None:  # it is when the caller closed it
            stream.buffer.write(data)
            stream.buffer.flush()

    async def work() -> int:
        async with Cluster(layout, read_spec(layout)) as cluster:
            return await cluster.execute(namespace, pod, command, pass_on)

    raise typer.Exit(_run(work()))


@app.command(epilog=examples("podidentity lab demo", "podidentity lab demo --full --json"))
def demo(
    *,
    nodes: Nodes = None,
    api_server: ApiServerOption = None,
    network: NetworkOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the facts as JSON, nothing else.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="With `roles` and `manifests`, from terraform's outputs alone.")
    ] = False,
    no_kubectl: Annotated[bool, typer.Option("--no-kubectl", help="Do not use the kubectl on PATH.")] = False,
) -> None:
    """Play the walkthrough in a new lab, from an empty cloud to the secret in a pod; leaves nothing behind."""
    console = None if as_json else _Console(highlight=False)
    kubectl = None if no_kubectl else Cluster.find_kubectl()
    wish = filled(Wish(Path(), kubectl=kubectl), nodes, network, api_server)
    try:
        story = _run(play(console, wish, full=full))
    except (KeyboardInterrupt, typer.Exit):
        typer.echo("podidentity lab: interrupted; nothing is left of the demo", err=True)
        raise
    if as_json:
        claims = [{"claim": text, "holds": holds, "evidence": evidence} for text, holds, evidence in story.claims]
        typer.echo(json.dumps({"proved": story.proved, "claims": claims, **story.facts}, indent=2))
    story.summary()
    if not story.proved:
        raise ConfigError("not every claim held; the lines marked NO say which")
    if console:
        _print_next(console, wish)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the caller, who tidies up; rich would exit here with a code of its own."""
        raise BrokenPipeError


def _print_next(console: Console, wish: Wish) -> None:
    """What to try after the demo, as commands that work when they are pasted."""
    console.print("\n[bold]Next[/bold]")
    lines = [
        (with_options("podidentity lab up", wish), "a cluster like this one that stays, with nothing installed yet"),
        ("export KUBECONFIG=$(podidentity lab kubeconfig)", "then kubectl talks to it"),
        ("podidentity lab get pods -A", "look around without kubectl"),
        ("podidentity lab down --remove", "end it, and leave nothing"),
    ]
    program = Path(sys.argv[0]).absolute()
    if shutil.which("podidentity") is None and program.name == "podidentity":
        lines.insert(0, (f"export PATH={shlex.quote(str(program.parent))}:$PATH", "so that this shell has the command"))
    width = max(len(command) for command, _ in lines[-4:])
    for command, what in lines:
        console.print(f"   {escape(command):{width}}   [dim]# {what}[/dim]", soft_wrap=True)
