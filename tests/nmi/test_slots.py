"""Places for two agents of one node, and the keeper that makes way."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from tests.nmi.test_keeper import PATH, FakeNft

from podidentity.config.errors import ConfigError
from podidentity.nmi.datapath.keeper import Keeper
from podidentity.nmi.datapath.nft import Nft
from podidentity.nmi.datapath.rules import REDIRECT
from podidentity.nmi.slots import hand_over_half_open, take
from podidentity.probe import main
from podidentity.telemetry.logging import get_logger
from podidentity.telemetry.status import Probe, StatusServer


def test_two_agents_fit_and_a_third_is_refused_by_name(tmp_path: Path) -> None:
    """The older one knows that it is superseded, the newer one that it is not; a place is free when its holder ends."""
    folder = str(tmp_path / "locks")
    first = take(folder, 2579, 100.0)
    assert first.alone()
    second = take(folder, 2579, 200.0)
    assert (first.superseded(), second.superseded(), first.alone()) == (True, False, False)
    with pytest.raises(ConfigError, match=r"port 2579 is served by .* \(pid \d+\) and .* \(pid \d+\); wait for one"):
        take(folder, 2579, 300.0)
    other = take(folder, 2580, 300.0)
    first.close()
    third = take(folder, 2579, 300.0)
    assert (second.superseded(), third.superseded()) == (True, False)
    third.close()
    assert second.alone()
    for slot in (second, other):
        slot.close()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="--lock-dir="):
        take(str(tmp_path / "file"), 2579, 1.0)


def test_lock_that_cannot_be_read_is_still_a_lock(tmp_path: Path) -> None:
    """Whatever is in the files, the locks count."""
    slots = [take(str(tmp_path), 1, 1.0), take(str(tmp_path), 1, 2.0)]
    for path in tmp_path.iterdir():
        path.write_text("?")
    with pytest.raises(ConfigError, match="the holder of"):
        take(str(tmp_path), 1, 3.0)
    assert not slots[0].superseded()
    for slot in slots:
        slot.close()


def test_connections_being_made_are_handed_over_where_the_kernel_can(tmp_path: Path) -> None:
    """The switch is set where it is there and may be written; an older kernel or a container without rights may not."""
    switch = tmp_path / "tcp_migrate_req"
    hand_over_half_open(tmp_path)
    switch.write_text("0\n")
    hand_over_half_open(switch)
    assert switch.read_text() == "1"


async def test_superseded_keeper_changes_nothing() -> None:
    """Two versions with different rules would undo each other's work for ever; the older one stands back."""
    nft, newer = FakeNft(), [False]
    keeper = Keeper(Nft(PATH, run=nft), interval=60, log=get_logger(), superseded=lambda: newer[0])
    await keeper.guard()
    await keeper.redirect()
    newer[0] = True
    del nft.tables[REDIRECT]
    await keeper._look()
    assert REDIRECT not in nft.tables
    newer[0] = False
    await keeper._look()
    assert (REDIRECT in nft.tables, keeper.repairs) == (True, 1)


async def test_probe_of_this_very_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exec probe follows /readyz of the process behind the socket, says why not, and loads almost nothing."""
    path, reasons = str(tmp_path / "s"), ["pods are not known yet"]
    probe = Probe(lambda: "Active", lambda: reasons)
    for _ in range(2):
        async with StatusServer(port=0, path=path, probe=probe, metrics=None):
            assert await _probe(path, "/healthz") == (0, "Active")
            assert await _probe(path, "/readyz") == (
                1 if reasons else 0,
                "pods are not known yet\n" if reasons else "ok",
            )
        reasons.clear()
    assert main(str(tmp_path / "none"), "/readyz") == 1
    assert "No such file or directory" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="none/s: No such file or directory"):
        await StatusServer(port=0, path=str(tmp_path / "none" / "s"), probe=probe, metrics=None).__aenter__()


async def _probe(path: str, what: str) -> tuple[int, str]:

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-m", "podidentity.probe", path, what]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = await asyncio.to_thread(run)
    return done.returncode, done.stdout
