"""From boot: with the unit's own commands a pod that starts before nmi is refused; without them it reaches IMDS."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.datapath.conftest import Net
from tests.datapath.test_whole_agent import TOKEN, agent, get, until_ready, world

from podidentity.nmi.datapath.boot import UNIT, install
from podidentity.nmi.datapath.rules import Datapath

pytestmark = pytest.mark.datapath
__all__ = ["world"]


@pytest.mark.parametrize("program", ["usr/sbin/nft", "usr/sbin/iptables-restore"])
async def test_gap_after_a_reboot_is_closed(world: Net, tmp_path: Path, program: str) -> None:
    """A fresh node leaks until nmi is there, so the unit is worth having; with it nothing does, and nmi serves."""
    try:
        assert get(world, world.pod, TOKEN, "Metadata=true")[0] == 200, "without any rule the pod reaches IMDS"
        (tmp_path / program).parent.mkdir(parents=True)
        (tmp_path / program).touch()
        install(Datapath(target="192.0.2.1"), str(tmp_path))
        unit = (tmp_path / "etc/systemd/system" / UNIT).read_text()
        for command in re.findall(r"^ExecStart=-?(.*)$", unit, re.MULTILINE):
            words = command.replace("/etc/podidentity", f"{tmp_path}/etc/podidentity").split()
            await world.program(tuple(words), "")
        before = world.seen(world.imds_log)
        assert get(world, world.pod, TOKEN, "Metadata=true")[0] == 0
        assert get(world, world.node, TOKEN, "Metadata=true")[0] == 200, "the node itself is not disturbed"
        agent(world)
        until_ready(world)
        assert get(world, world.pod, TOKEN, "Metadata=true")[0] == 200
        sources = [line.split()[0] for line in world.imds_log.read_text().splitlines()][before:]
        assert set(sources) == {"10.240.0.4"}
    finally:
        world.close()
