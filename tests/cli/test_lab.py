"""``podidentity lab`` as far as it needs no cluster: usage, refusals, what is told to type next."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
from rich.console import Console
from tests.ports import free_port

from podidentity.cli.entry import run
from podidentity.cli.lab import _print_next, _run
from podidentity.cli.lab_options import seconds
from podidentity.cli.lab_up import until_removed
from podidentity.lab.layout import Layout
from podidentity.lab.lock import exclusive
from podidentity.lab.outer import Wish, prepared
from podidentity.lab.pki import make_pki
from podidentity.lab.spec import new_spec, save_spec


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    """Exit code and stderr of ``podidentity lab ...``."""
    code = run(["podidentity", "lab", *argv])
    return code, capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["up"], ["down"], ["get"], ["apply"], ["exec"], ["logs"], ["demo"]])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_everywhere(argv: Sequence[str], flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Both spellings of help work at every level, exit 0."""
    assert run(["podidentity", "lab", *argv, flag]) == 0
    assert "Usage: podidentity lab" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["status"], ["kubeconfig"], ["get", "pods"], ["logs", "x"], ["exec", "x", "ls"]])
def test_no_lab_says_how_to_start_one(words: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command that needs a lab is one line with the command that starts it, quoted for the shell."""
    directory = tmp_path / "my lab"
    code, text = said(capsys, *words, "--dir", str(directory))
    up = f"podidentity lab up --dir {shlex.quote(str(directory))}"
    assert (code, text) == (1, f"podidentity lab: no lab runs in {directory}; `{up}` starts one\n")
    assert not directory.exists()


@pytest.mark.parametrize(("option", "value"), [("--nodes", "3"), ("--network", "routed"), ("--api-server", "real")])
def test_a_lab_stays_what_it_was_made_as(
    option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Something else for a lab that exists, made by a version that knew one API server, is refused, not ignored."""
    spec = Layout(tmp_path).spec
    save_spec(spec, new_spec(node_count=2, network="bridge", port=1))
    older = json.loads(spec.read_text())
    del older["api_server"]
    spec.write_text(json.dumps(older))
    code, text = said(capsys, "up", "--dir", str(tmp_path), option, value)
    assert code == 1
    assert f"{option} {value}: the lab in {tmp_path} was made with " in text
    assert text.count("\n") == 1


def test_up_in_somebodys_directory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`lab up --dir .` in a directory with files is one line and makes nothing."""
    (tmp_path / "notes.txt").touch()
    code, text = said(capsys, "up", "--dir", str(tmp_path))
    assert code == 1
    assert text.startswith(f"podidentity lab: --dir {tmp_path}: 'notes.txt' in it is not a lab's")
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_tidy_up_as_an_interrupt_does(number: signal.Signals) -> None:
    """A closed terminal or a kill runs the clean-up and gives the shell's exit code for that signal."""
    tidied: list[bool] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            tidied.append(True)

    with pytest.raises(typer.Exit) as ended:
        _run(work())
    assert (ended.value.exit_code, tidied) == (128 + number, [True])


@pytest.mark.parametrize(
    ("environ", "start"),
    [
        ({"HOME": ""}, ""),
        ({"HOME": "relative"}, ""),
        ({"HOME": "/home/x", "XDG_STATE_HOME": "relative"}, "/home/x/.local/state/podidentity/lab"),
        ({"HOME": "/home/x", "XDG_STATE_HOME": "/s"}, "/s/podidentity/lab"),
        ({}, ""),
    ],
)
def test_the_default_directory_is_absolute(environ: dict[str, str], start: str) -> None:
    """Whatever HOME and XDG_STATE_HOME are, a lab's default place does not depend on the current directory."""
    code = "from podidentity.cli.lab import DEFAULT_DIRECTORY as d; print(d)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.startswith("/")
    assert done.stdout.startswith(start)


@pytest.mark.looptime
async def test_a_removed_directory_ends_its_lab(tmp_path: Path) -> None:
    """Who removes the directory of a running lab means it: no processes stay that no command finds."""
    lock = tmp_path / "lab.lock"
    lock.touch()
    waiting = asyncio.create_task(until_removed(lock))
    await asyncio.sleep(60)
    assert not waiting.done()
    lock.unlink()
    async with asyncio.timeout(5):
        await waiting


@pytest.mark.parametrize(
    ("wish", "command"),
    [
        (Wish(Path()), "podidentity lab up "),
        (Wish(Path(), api_server="real"), "podidentity lab up --api-server=real "),
        (Wish(Path(), nodes=3, network="routed"), "podidentity lab up --nodes=3 --network=routed "),
    ],
)
def test_what_to_try_next_is_a_lab_like_the_demos(wish: Wish, command: str) -> None:
    """Who liked the demo on the real API server is not sent to the embedded one."""
    heard = io.StringIO()
    _print_next(Console(file=heard, width=80), wish)
    assert f"   {command}" in heard.getvalue()
    assert all("#" in line for line in heard.getvalue().splitlines()[2:])


@pytest.mark.parametrize("content", ["{}", '{"name": "a book of recipes"}', "not JSON"])
def test_somebodys_lab_json_is_no_lab(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`lab down --remove` in a project that has a lab.json and folders named as a lab's removes none of them."""
    (tmp_path / "lab.json").write_text(content)
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "year.txt").touch()
    code, text = said(capsys, "down", "--remove", "--dir", str(tmp_path))
    assert code == 1
    assert text.startswith(f"podidentity lab: {tmp_path / 'lab.json'}: not a lab's description (")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["lab.json", "log", "year.txt"]


@pytest.mark.parametrize(
    ("text", "found"), [("0", 0), ("300", 300), ("300s", 300), ("5m", 300), ("1h30m", 5400), ("500ms", 1)]
)
def test_since_is_typed_as_for_kubectl(text: str, found: int) -> None:
    """`--since=300s` of the walkthrough works here too, and so do bare seconds."""
    assert seconds(text) == found


@pytest.mark.parametrize("text", ["-1", "-5m", "soon", "1d", ""])
def test_since_that_is_no_duration(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A word that is no duration is exit 2 and one line."""
    code, said_ = said(capsys, "logs", "x", f"--since={text}", "--dir", "/nowhere")
    assert (code, said_.count("\n")) == (2, 1)
    assert said_.startswith("podidentity lab: logs: Invalid value for '--since': ")


def test_status_of_a_lab_whose_api_does_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The lab's process and what is the matter with its API are told, in words, before the command gives up."""
    layout, port = prepared(Wish(tmp_path / "lab")), free_port()
    make_pki(layout.pki, (), ())
    save_spec(layout.spec, new_spec(node_count=1, network="bridge", port=port, api_server="real"))
    with exclusive(layout.lock, layout.root):
        code = run(["podidentity", "lab", "status", "--dir", str(layout.root)])
    output, errors = capsys.readouterr()
    reason = f"Cannot connect to host 127.0.0.1:{port} [Connect call failed ('127.0.0.1', {port})]"
    assert output.startswith(f"running, process {os.getpid()}, real API (does not answer: get /version: {reason}), ")
    assert (code, errors.count("\n")) == (1, 1)
    assert errors.endswith(f": {reason}\n")
