"""What ``podidentity lab up`` does: in the foreground holds a lab, in the background starts a process that does."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import sys
from pathlib import Path

import typer

from podidentity.cli.lab_options import with_dir
from podidentity.config.errors import ConfigError
from podidentity.lab.layout import Layout
from podidentity.lab.lock import holder
from podidentity.lab.outer import Wish, prepared, remove_directory, running_lab
from podidentity.lab.spec import LabSpec, load_spec

LOOK_SECONDS = 1.0
STOP_SECONDS = 20.0
INTERRUPTED = 130


async def start_in_background(wish: Wish) -> None:
    """Start ``lab up --foreground`` as a process of its own and wait for its word; cancelled, it leaves no lab."""
    fresh = not Layout(wish.directory.resolve()).spec.exists()
    layout = prepared(wish)
    read, write = os.pipe()
    with os.fdopen(read, "rb") as answer:
        process = _spawn(wish, layout, write)
        try:
            said = await _first_line(answer.fileno())
        except asyncio.CancelledError:
            await _end(process)
            if fresh and holder(layout.lock) is None:
                remove_directory(layout)
            raise
    if said != "ready":
        raise ConfigError(said or f"it ended while it started; see {layout.logs / 'lab.log'}")
    print_ready(layout, wish.directory)


def _spawn(wish: Wish, layout: Layout, ready_fd: int) -> subprocess.Popen[bytes]:
    """The process that will be the lab's first; it alone holds ``ready_fd`` then."""
    words = [
        f"--dir={wish.directory}",
        f"--nodes={wish.nodes}",
        f"--network={wish.network}",
        f"--api-server={wish.api_server}",
        f"--port={wish.port}",
    ]
    try:
        with (layout.logs / "lab.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - the command is ours
                [sys.executable, "-m", "podidentity", "lab", "up", "--foreground", "--ready-fd", str(ready_fd), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[ready_fd],
                start_new_session=True,
            )
    finally:
        os.close(ready_fd)


async def _first_line(descriptor: int) -> str:
    """The line that is written into a pipe; empty when it is closed without one."""
    loop, heard, text = asyncio.get_running_loop(), asyncio.Event(), bytearray()

    def read() -> None:
        text.extend(data := os.read(descriptor, 4096))
        if not data or b"\n" in text:
            loop.remove_reader(descriptor)
            heard.set()

    loop.add_reader(descriptor, read)
    try:
        await heard.wait()
    finally:
        loop.remove_reader(descriptor)
    return text.partition(b"\n")[0].decode()


async def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask, wait a little, then kill."""
    process.terminate()
    try:
        await asyncio.to_thread(process.wait, STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tell(ready_fd: int, word: str) -> None:
    if ready_fd >= 0:
        os.write(ready_fd, f"{word}\n".encode())
        os.close(ready_fd)


async def until_removed(lock: Path) -> None:
    """Wait until somebody removes the lab's directory: nobody could find it any more to end it."""
    while await asyncio.to_thread(lock.exists):  # noqa: ASYNC110 - a removed directory wakes nobody
        await asyncio.sleep(LOOK_SECONDS)


async def hold(wish: Wish, ready_fd: int) -> None:
    """Run the lab until SIGTERM, SIGINT or the removal of its directory; typer.Exit when that comes before it is ready.

    ``ready_fd`` (or the terminal) hears when it is ready, or why it is not.
    """
    ready = False
    try:
        async with running_lab(wish) as lab:
            if ready_fd < 0:
                print_ready(lab.layout, wish.directory)
            _tell(ready_fd, "ready")
            ready = True
            await until_removed(lab.layout.lock)
    except ConfigError as error:
        if not ready:
            _tell(ready_fd, str(error))
        raise
    except asyncio.CancelledError:
        if ready:
            raise
        _tell(ready_fd, "somebody ended it while it started")
        raise typer.Exit(INTERRUPTED) from None


def read_spec(layout: Layout) -> LabSpec:
    """What the lab was made as; ConfigError when that is not known."""
    spec = load_spec(layout.spec)
    if spec is None:
        raise ConfigError(f"{layout.spec} is missing")
    return spec


def print_ready(layout: Layout, directory: Path) -> None:
    """What runs now, and three commands to go on with."""
    spec = read_spec(layout)
    nodes = "1 node" if spec.node_count == 1 else f"{spec.node_count} nodes"
    typer.echo(f"The lab in {directory} is ready: {nodes}, {spec.api_server} API on https://127.0.0.1:{spec.port}.")
    typer.echo(f"  export KUBECONFIG={shlex.quote(str(layout.kubeconfig))}")
    typer.echo(f"  {with_dir('get nodes', directory)}")
    typer.echo(f"  {with_dir('down', directory)}")
