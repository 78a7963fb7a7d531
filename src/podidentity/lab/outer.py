"""The lab's first process, on the caller's side: holds the directory, starts the world, offers the API on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from podidentity.config.errors import ConfigError
from podidentity.lab import access
from podidentity.lab.azure import LabAzure
from podidentity.lab.cluster import Cluster
from podidentity.lab.control_plane import PROGRAMS
from podidentity.lab.forward import bind_loopback, forwarding
from podidentity.lab.kubeconfig import write_kubeconfig
from podidentity.lab.layout import FILES, FOLDERS, Layout
from podidentity.lab.lock import exclusive
from podidentity.lab.node.namespaces import World, enter_world
from podidentity.lab.pki import make_pki
from podidentity.lab.programs import programs
from podidentity.lab.running import RunningLab
from podidentity.lab.spec import (
    FABRIC_ADDRESS,
    SECONDS_A_NODE,
    ApiServer,
    LabSpec,
    Network,
    load_spec,
    new_spec,
    save_spec,
)

START_SECONDS = {"embedded": 60.0, "real": 180.0}
STOP_DEADLINE = 10.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller asked for; an existing lab keeps what it was created with."""

    directory: Path
    nodes: int = 2
    network: Network = "bridge"
    api_server: ApiServer = "embedded"
    port: int = 0
    kubectl: str | None = None


class Report(msgspec.Struct, frozen=True):
    """One line the world writes to its report pipe: a stage begun, ``ready``, or what failed."""

    stage: str = ""
    ready: bool = False
    failed: str = ""


Progress = Callable[[str], None]


def _prepare(wish: Wish, layout: Layout) -> tuple[LabSpec, socket.socket]:
    """The lab's facts (kept or new), its keys, its kubeconfig and the listening socket."""
    spec = load_spec(layout.spec)
    listener = bind_loopback(wish.port or (spec.port if spec else 0))
    try:
        port = int(listener.getsockname()[1])
        kept = spec or new_spec(node_count=wish.nodes, network=wish.network, port=port, api_server=wish.api_server)
        kept = msgspec.structs.replace(kept, port=port)
        make_pki(layout.pki, (FABRIC_ADDRESS,), [(node.name, node.address) for node in kept.nodes])
        save_spec(layout.spec, kept)
        write_kubeconfig(layout, port)
    except BaseException:
        listener.close()
        raise
    return kept, listener


async def _reports(descriptor: int) -> AsyncGenerator[Report, None]:
    """The world's reports, until it closes the pipe."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    pipe = os.fdopen(descriptor, "rb")
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        while line := await reader.readline():
            yield msgspec.json.decode(line, type=Report)
    finally:
        transport.close()


async def _until_ready(descriptor: int, layout: Layout, progress: Progress, deadline: float) -> None:
    try:
        async with asyncio.timeout(deadline):
            async with contextlib.aclosing(_reports(descriptor)) as reports:
                async for report in reports:
                    if report.failed:
                        raise ConfigError(report.failed)
                    if report.ready:
                        return
                    progress(report.stage)
    except TimeoutError:
        raise ConfigError(f"the lab was not ready after {deadline:.0f} s; its logs are in {layout.logs}") from None
    raise ConfigError(f"the lab ended while it started; its logs are in {layout.logs}")


def _start_world(layout: Layout, spec: LabSpec) -> tuple[World, int]:
    read, write = os.pipe()
    words = [sys.executable, "-m", "podidentity.lab.world", "--dir", str(layout.root), "--report", str(write)]
    try:
        seen = [layout.root, layout.run, *(path.parent for path in needed_programs(spec.api_server))]
        world = enter_world(words, keep_fds=[write], keep_paths=[str(path) for path in seen])
    except BaseException:
        os.close(read)
        raise
    finally:
        os.close(write)
    return world, read


def _begin(wish: Wish, layout: Layout) -> tuple[LabSpec, socket.socket, World, int]:
    """What the system can refuse: the port and the namespaces. A new lab leaves nothing then."""
    fresh = not layout.spec.exists()
    try:
        spec, listener = _prepare(wish, layout)
        try:
            world, reports = _start_world(layout, spec)
        except BaseException:
            listener.close()
            raise
    except BaseException:
        if fresh:
            remove_directory(layout)
        raise
    return spec, listener, world, reports


async def _install_driver(cluster: Cluster) -> None:
    """The Secrets Store CSI driver's own objects, which a cluster has before our provider is installed."""
    async for _line in access.apply(cluster.client, Path(__file__).with_name("assets") / "secrets-store-driver.yaml"):
        pass


async def _stop(world: World) -> None:
    """Ask, wait a little, then kill: either way nothing of it is left."""
    world.terminate()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_DEADLINE):
            while world.process.poll() is None:  # noqa: ASYNC110 - a process that is not asyncio's
                await asyncio.sleep(0.02)
    world.kill()


def needed_programs(server: ApiServer) -> list[Path]:
    """What has to be on this machine for the API server; ConfigError says how to get one that is missing."""
    return [programs(os.environ).require(name) for name in PROGRAMS] if server == "real" else []


def prepared(wish: Wish) -> Layout:
    """The layout of the wished directory, made; ConfigError when it cannot be written or holds what is not a lab's.

    It is made only when the lab can be: ConfigError says which program is missing.
    """
    directory = wish.directory
    layout = Layout(directory.resolve())
    kept = load_spec(layout.spec)
    needed_programs(kept.api_server if kept else wish.api_server)
    try:
        if layout.root.exists() and not layout.root.is_dir():
            raise ConfigError(f"--dir {directory}: it is a file; name a directory")
        if not layout.spec.exists() and (foreign := layout.foreign()):
            raise ConfigError(f"--dir {directory}: '{foreign}' in it is not a lab's; name a new or empty directory")
        layout.make()
    except OSError as error:
        raise ConfigError(
            f"--dir {directory}: cannot write there ({error.strerror}); name a directory you own"
        ) from None
    return layout


@contextlib.asynccontextmanager
async def running_lab(wish: Wish, progress: Progress = lambda _stage: None) -> AsyncIterator[RunningLab]:
    """A ready lab in ``wish.directory`` while the block runs; ConfigError in one line when it cannot be.

    Whatever ends this process ends the lab: nothing but the files in its directory is left, and no file of a new lab
    that is cancelled before it is ready.
    """
    fresh = not Layout(wish.directory.resolve()).spec.exists()
    layout = prepared(wish)
    with exclusive(layout.lock, wish.directory):
        begun = False
        try:
            async with _started(wish, layout, progress) as lab:
                begun = True
                yield lab
        except asyncio.CancelledError:
            if fresh and not begun:
                remove_directory(layout)
            raise


@contextlib.asynccontextmanager
async def _started(wish: Wish, layout: Layout, progress: Progress) -> AsyncIterator[RunningLab]:
    """The lab in a directory that is held; ended when the block is left."""
    spec, listener, world, reports = _begin(wish, layout)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(listener.close)
        stack.push_async_callback(_stop, world)
        await stack.enter_async_context(forwarding(listener, layout.api_socket))
        await _until_ready(reports, layout, progress, START_SECONDS[spec.api_server] + SECONDS_A_NODE * spec.node_count)
        cluster = await stack.enter_async_context(Cluster(layout, spec, kubectl=wish.kubectl))
        await _install_driver(cluster)
        azure = await stack.enter_async_context(LabAzure(spec, layout.cloud_socket))
        yield RunningLab(spec, layout, cluster, azure)


def remove_directory(layout: Layout) -> None:
    """Remove a lab's files (the lab must not run), and its directory unless something else is in it."""
    if layout.run.parent != layout.root:
        shutil.rmtree(layout.run, ignore_errors=True)
    for name in FOLDERS:
        shutil.rmtree(layout.root / name, ignore_errors=True)
    with contextlib.suppress(OSError):
        for name in FILES:
            (layout.root / name).unlink(missing_ok=True)
        layout.root.rmdir()
