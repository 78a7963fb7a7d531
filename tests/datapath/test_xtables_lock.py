"""The lock that all programs of iptables share, held by another process, in a mount namespace of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.datapath.conftest import NODE_IP, Net

from podidentity.nmi.datapath.iptables import Iptables
from podidentity.nmi.datapath.keeper import Keeper
from podidentity.nmi.datapath.rules import Datapath
from podidentity.nmi.datapath.xtables import LOCK, lock_holder, speaks_of_lock
from podidentity.telemetry.logging import get_logger

pytestmark = pytest.mark.datapath

HOLDER = """
import fcntl, os, subprocess, sys
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
file = open("/run/xtables.lock", "w")
print(os.getpid(), flush=True)
for line in sys.stdin:
    fcntl.flock(file, fcntl.LOCK_EX if line == "lock\\n" else fcntl.LOCK_UN)
    print("done", flush=True)
"""


class Locked:
    """A node whose /run is its own, and a process there that takes the lock when it is told to."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.process = net.spawn(net.node, HOLDER)
        self.pid = self._heard()
        self.name = Path(f"/proc/{self.pid}/comm").read_text().strip()

    def tell(self, word: str) -> None:
        """Have the lock taken (``lock``) or given back."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        assert self._heard() == "done"

    async def run(self, command: tuple[str, ...], text: str) -> str:
        """Run a program beside the holder."""
        return await self.net.program(("nsenter", "-t", self.pid, "-m", *command), text)

    def holder(self) -> str:
        """Who has it."""
        return lock_holder(Path(f"/proc/{self.pid}/root{LOCK}"))

    def _heard(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture
async def locked(capable: None, tmp_path: Path) -> AsyncIterator[Locked]:
    """Return a routed node with an agent."""
    net = Net("routed", tmp_path)
    try:
        net.start_imds()
        net.start_agent()
        yield Locked(net)
    finally:
        net.close()


async def test_d21_held_lock_is_waited_for_and_named_and_the_guard_stays(locked: Locked) -> None:
    """Not ready, with the holder's name, after the seconds of --wait; pods get a reset; mended once it is free."""
    net = locked.net
    tables = Iptables(
        Datapath(target=NODE_IP),
        program="iptables-legacy",
        sees_bridges=True,
        run=locked.run,
        lock_holder=locked.holder,
    )
    keeper = Keeper(tables, interval=0.1, log=get_logger(), retry=0.1)
    await keeper.guard()
    await keeper.redirect()
    assert net.ask(net.pod) == f"agent {net.pod_ip}"
    locked.tell("lock")
    await net.program(("iptables-legacy", "-t", "nat", "-F", "aad-metadata"), "")
    keeping, begun = asyncio.create_task(keeper.run()), time.monotonic()
    try:
        await until(lambda: bool(keeper.trouble))
        assert time.monotonic() - begun >= 5
        assert keeper.trouble == (
            f"datapath: 5 s were not enough: the xtables lock ({LOCK}) is held by {locked.name} (pid {locked.pid})"
        )
        assert await asyncio.to_thread(net.ask, net.pod) == "ConnectionRefusedError"
        assert net.seen(net.imds_log) == 0
        locked.tell("free")
        await until(lambda: not keeper.trouble)
        assert await asyncio.to_thread(net.ask, net.pod) == f"agent {net.pod_ip}"
    finally:
        keeping.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.05)


def test_holder_that_cannot_be_seen(tmp_path: Path) -> None:
    """In a container of its own nmi sees no other process: it says so and does not guess."""
    proc, lock = tmp_path / "proc", tmp_path / "lock"
    assert "not seen from this container" in lock_holder(lock, proc)
    lock.touch()
    proc.mkdir()
    found = lock.stat()
    device = found.st_dev
    file = f"{device >> 8 & 0xFFF:02x}:{device & 0xFF | device >> 12 & 0xFFF00:02x}:{found.st_ino}"
    for pid, said in (("0", "not seen from this container"), ("77", "is held by pid 77")):
        (proc / "locks").write_text(f"1: FLOCK  ADVISORY  WRITE {pid} {file} 0 EOF\n")
        assert said in lock_holder(lock, proc)
    assert speaks_of_lock("Another app is currently holding the xtables lock. Stopped waiting after 2s.")
