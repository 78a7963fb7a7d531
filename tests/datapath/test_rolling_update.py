"""Two agents of one node, as in a rolling update with surge: no request is lost, and no third one gets in."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.datapath.conftest import Net
from tests.datapath.test_whole_agent import TOKEN, agent, get, until_ready, world

pytestmark = pytest.mark.datapath
__all__ = ["world"]

LOOP = """
import http.client, json, os, sys, time
told = {}
while not os.path.exists(sys.argv[2]):
    connection = http.client.HTTPConnection("169.254.169.254", timeout=5)
    try:
        connection.request("GET", sys.argv[1], headers={"Metadata": "true"})
        answer = connection.getresponse()
        answer.read()
        word = str(answer.status)
    except OSError as error:
        word = type(error).__name__
    finally:
        connection.close()
    told[word] = told.get(word, 0) + 1
print(json.dumps(told), flush=True)
"""


def until_probed(net: Net, path: Path) -> None:
    """Wait until the exec probe of one container succeeds."""
    end = time.monotonic() + 30
    while subprocess.run(
        [sys.executable, "-I", "-m", "podidentity.probe", str(path), "/readyz"], check=False
    ).returncode:
        assert time.monotonic() < end, (net.folder / "agent.err").read_text()


@pytest.mark.parametrize("placed", [True, False], ids=["placed", "unplaced"])
def test_agent_is_replaced_without_a_gap(world: Net, tmp_path: Path, *, placed: bool) -> None:
    """The new one serves before the old one ends; a third is refused; nobody is reset or reaches IMDS meanwhile.

    So it is with the first update to an agent that shares its listener: the old one has no place yet.
    """
    rate = "--pod-connection-rate=0"
    flags = (f"--lock-dir={tmp_path}/locks", rate)
    first = agent(world, *(flags if placed else (rate,)), f"--probe-socket={tmp_path}/a")
    try:
        until_probed(world, tmp_path / "a")
        until_ready(world)
        load = world.spawn(world.pod, LOOP, "/" + TOKEN.partition("254/")[2], str(tmp_path / "stop"))
        agent(world, *flags, f"--probe-socket={tmp_path}/b")
        until_probed(world, tmp_path / "b")
        assert agent(world, *(flags if placed else (rate,))).wait(20) == 1
        words = "port 2579 is served by " if placed else "is in use by "
        assert words in (world.folder / "agent.err").read_text()
        first.terminate()
        assert first.wait(10) == 0
        until_ready(world)
        assert get(world, world.pod, TOKEN, "Metadata=true")[0] == 200
        (tmp_path / "stop").touch()
        assert load.stdout is not None
        told = load.stdout.readline()
        assert '"200"' in told
        assert set(json.loads(told)) <= {"200", "503"}, told
        seen = {line.split()[0] for line in world.imds_log.read_text().splitlines()}
        assert seen == {"10.240.0.4"}
    finally:
        world.close()
