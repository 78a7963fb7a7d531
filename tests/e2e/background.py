"""A lab in the background: started by the command itself, seen by another process, killed."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.e2e.processes import Footprint, run
from tests.e2e.stage import Stage

from podidentity.lab.azure import LabAzure
from podidentity.lab.cluster import Cluster
from podidentity.lab.layout import Layout
from podidentity.lab.lock import holder
from podidentity.lab.running import RunningLab
from podidentity.lab.spec import load_spec

KERNEL_SECONDS = 15
"""The kernel takes nested pid namespaces apart one after the other: about 1.6 s for two nodes on an idle machine."""


async def lab_up(folder: Path, *options: str) -> None:
    """``podidentity lab up``; skips where namespaces are refused."""
    code, _, errors = await run("lab", "up", "--dir", str(folder), *options)
    if "this system refuses" in errors:
        pytest.skip(errors)
    assert code == 0, errors


@asynccontextmanager
async def attached_to(folder: Path, readers: set[str] | None = None) -> AsyncIterator[Stage]:
    """A running lab as another process sees it: through its kubeconfig and the cloud's socket.

    ``readers`` are who may read its vault: one set for all the times, where an earlier pod still wants its secret.
    """
    layout = Layout(folder)
    spec = load_spec(layout.spec)
    assert spec is not None
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster(layout, spec))
        azure = await stack.enter_async_context(LabAzure(spec, layout.cloud_socket))
        yield Stage(RunningLab(spec, layout, cluster, azure), set() if readers is None else readers)


def first_process(folder: Path) -> int:
    """The lab's first process."""
    found = holder(Layout(folder).lock)
    assert found is not None
    return found


async def reads_its_secret(stage: Stage, name: str) -> None:
    """A new pod with an identity of its own gets its secret."""
    value = secrets.token_urlsafe(12)
    identity = await stage.identity(name)
    vault = await stage.vault(identity)
    await stage.lab.azure.set_secret(vault, name, value)
    await stage.secret_class(name, identity, name)
    await stage.pod(name, label=f"{name}-binding", mount=name)
    await stage.ready(name, within=60)
    assert await stage.file(name, name) == value


def gone(footprint: Footprint) -> Callable[[], Awaitable[bool]]:
    """Whether nothing of it is left."""

    async def check() -> bool:
        return not footprint.left()

    return check
