"""`podidentity lab up` that is interrupted: one line, that signal's exit code, and what is left is what is said."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from tests.e2e.processes import Footprint, command, run, tree
from tests.e2e.stage import until
from tests.real_server import kubernetes_programs

from podidentity.lab.layout import Layout
from podidentity.lab.lock import holder

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]


async def until_there_is(root: int, word: str) -> None:
    """Wait until a process under ``root`` has the word in its command line."""

    async def there() -> bool:
        return any(word in " ".join(process.words) for process in tree(root)[1:])

    await until(there, f"{word} runs", 40)


@pytest.mark.parametrize(
    ("server", "moment", "number", "code"),
    [
        ("embedded", "--ready-fd", signal.SIGINT, 130),
        ("embedded", "podidentity.lab.kube", signal.SIGINT, 130),
        ("embedded", "podidentity.lab.world", signal.SIGHUP, 129),
        ("real", "kube-apiserver", signal.SIGTERM, 143),
    ],
)
async def test_a_new_lab_is_interrupted(
    tmp_path: Path, server: str, moment: str, number: signal.Signals, code: int
) -> None:
    """Ctrl-C, SIGTERM, a closed terminal, whenever it comes: no lab runs on in the background, no file is left."""
    if server == "real":
        kubernetes_programs("kube-apiserver")
    folder = tmp_path / "lab"
    async with command("lab", "up", f"--dir={folder}", f"--api-server={server}") as process:
        await until_there_is(process.pid, moment)
        footprint = Footprint.of(process.pid, folder)
        os.killpg(process.pid, number)
        async with asyncio.timeout(30):
            output, errors = await process.communicate()
    line = "podidentity lab: interrupted; nothing is left of it\n"
    assert (process.returncode, output, errors.decode()) == (code, b"", line)
    assert footprint.left() == []
    assert not folder.exists()


async def test_an_old_lab_keeps_its_files(tmp_path: Path) -> None:
    """Ctrl-C while a lab is resumed ends it, and says that its state is kept; then `lab up` resumes it."""
    folder = tmp_path / "lab"
    code, _, errors = await run("lab", "up", f"--dir={folder}", "--nodes=1")
    assert code == 0, errors
    made = Layout(folder).spec.read_text()
    assert (await run("lab", "down", f"--dir={folder}"))[0] == 0
    async with command("lab", "up", f"--dir={folder}") as process:
        await until_there_is(process.pid, "podidentity.lab.world")
        os.killpg(process.pid, signal.SIGINT)
        async with asyncio.timeout(30):
            _, said = await process.communicate()
    line = f"podidentity lab: interrupted; the lab in {folder} does not run, its files are kept\n"
    assert (process.returncode, said.decode()) == (130, line)
    assert holder(Layout(folder).lock) is None
    assert Layout(folder).spec.read_text() == made
    code, _, errors = await run("lab", "up", f"--dir={folder}")
    assert (code, errors) == (0, "")
    assert (await run("lab", "down", f"--dir={folder}", "--remove"))[0] == 0


async def test_down_while_it_starts(tmp_path: Path) -> None:
    """`lab down` from another terminal while `lab up` waits: that says so in one line, and nothing is left."""
    folder = tmp_path / "lab"
    async with command("lab", "up", f"--dir={folder}") as process:
        await until_there_is(process.pid, "podidentity.lab.world")
        code, _, errors = await run("lab", "down", f"--dir={folder}")
        assert (code, errors) == (0, "")
        async with asyncio.timeout(30):
            _, said = await process.communicate()
    assert (process.returncode, said.decode()) == (1, "podidentity lab: somebody ended it while it started\n")
    assert not folder.exists()


async def test_the_foreground_is_interrupted(tmp_path: Path) -> None:
    """Ctrl-C amid the start of `lab up --foreground` is told as in the background."""
    folder = tmp_path / "lab"
    async with command("lab", "up", f"--dir={folder}", "--foreground") as process:
        await until_there_is(process.pid, "podidentity.lab.world")
        footprint = Footprint.of(process.pid, folder)
        os.killpg(process.pid, signal.SIGINT)
        async with asyncio.timeout(30):
            output, errors = await process.communicate()
    line = "podidentity lab: interrupted; nothing is left of it\n"
    assert (process.returncode, output, errors.decode()) == (130, b"", line)
    assert footprint.left() == []
    assert not folder.exists()
