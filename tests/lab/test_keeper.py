"""Processes that are kept running."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from podidentity.lab.keeper import MOST_ENDS, Keeper, WorldError
from podidentity.lab.parts import Part, _made


def part(name: str, program: str, made: Path) -> Part:
    """A part that runs a Python program and is ready once ``made`` is there."""
    return Part(name, (sys.executable, "-c", program, str(made)), _made(made))


async def kept(logs: Path, *parts: Part, deadline: float = 30) -> None:
    """Start the parts; end them once they are ready."""
    async with asyncio.TaskGroup() as group:
        await Keeper(logs, group, pause=0).start(parts, deadline)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()


async def test_a_part_that_cannot_run_is_told_at_once(tmp_path: Path) -> None:
    """Who names a wrong kube-apiserver reads its own last words after a moment, not a timeout after 90 seconds."""
    good = part("etcd", "import time; time.sleep(60)", tmp_path)
    broken = part("kube-apiserver", "import sys; print('x'); sys.exit('unknown flag: --y')", tmp_path / "never")
    with pytest.raises(ExceptionGroup) as raised:
        await kept(tmp_path, good, broken)
    (error,) = raised.value.exceptions
    assert isinstance(error, WorldError)
    assert str(error).startswith(f"kube-apiserver ended {MOST_ENDS} times while the lab started, with code 1: ")
    assert str(error).endswith(f": unknown flag: --y; see {tmp_path / 'kube-apiserver.log'}")


async def test_a_part_that_nobody_waits_for_is_named_too(tmp_path: Path) -> None:
    """Etcd that ends is the reason, not kube-apiserver that waits for it; a silent one is said to be silent."""
    broken = part("etcd", "raise SystemExit(2)", tmp_path)
    waits = part("kube-apiserver", "import time; time.sleep(60)", tmp_path / "never")
    with pytest.raises(ExceptionGroup) as raised:
        await kept(tmp_path, broken, waits)
    assert "etcd ended 3 times while the lab started, with code 2: it wrote nothing; " in str(
        raised.value.exceptions[0]
    )


async def test_a_part_that_ends_once_is_started_again(tmp_path: Path) -> None:
    """One that loses a race with another at its first start has its second."""
    program = "import os, sys, time; m = sys.argv[1]; t = m + '.tried'; x = os.path.exists(t); open(t, 'w').close()"
    program += "; x or sys.exit(1); open(m, 'w').close(); time.sleep(60)"
    await kept(tmp_path, part("mic", program, tmp_path / "ready"))


async def test_a_part_that_is_never_ready(tmp_path: Path) -> None:
    """One that runs and is not ready in time is named."""
    slow = part("cloud", "import time; time.sleep(60)", tmp_path / "never")
    with pytest.raises(ExceptionGroup) as raised:
        await kept(tmp_path, slow, deadline=0.2)
    assert str(raised.value.exceptions[0]).startswith("cloud: not ready after 0 s; see ")
