"""Completion: what may come next, and real shells that ask for it."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from podidentity.cli.candidates import candidates
from podidentity.cli.entry import COMMANDS, run

SECONDS = 100


@pytest.mark.parametrize(
    ("typed", "words", "files"),
    [
        ([], list(COMMANDS), False),
        (["ex"], ["explain"], False),
        (["roles", ""], ["plan", "check", "apply"], False),
        (["roles", "plan", "--out"], ["--output"], False),
        (["roles", "plan", "--output", ""], ["table", "json", "terraform", "az"], False),
        (["roles", "plan", "-o", "t"], ["table", "terraform"], False),
        (["roles", "plan", "--output=j"], ["json"], False),
        (["roles", "plan", "--output", "=", "j"], ["json"], False),
        (["roles", "plan", "--output", "="], ["table", "json", "terraform", "az"], False),
        (["roles", "plan", "--terraform", ""], [], True),
        (["roles", "plan", "--terraform=outputs.json", "--terr"], [], False),
        (["roles", "plan", "--identity", "x", "--ident"], ["--identities", "--identity"], False),
        (["roles", "plan", "-o", "json", "--output"], [], False),
        (["manifests", "install", "--no-s"], ["--no-secrets"], False),
        (["manifests", "install", "--mode", "k"], ["kubenet"], False),
        (["nmi", "--operation-m"], ["--operation-mode"], False),
        (["nmi", "--log-format", ""], ["text", "json"], False),
        (["nmi", "--datapath=iptables-"], ["iptables-nft", "iptables-legacy"], False),
        (["nmi", "--enableP"], [], False),
        (["nmi", "--block-instance-metadata", "--log-f"], ["--log-format"], False),
        (["mic", "--cloudconfig", ""], [], True),
        (["lab", "up", "--ready"], [], False),
        (["lab", "apply", ""], [], True),
        (["lab", "exec", "demo", "--", "l"], [], True),
        (["lab", "no-such", ""], [], False),
        (["no-such", ""], [], False),
        (["explain", "--name"], ["--namespace"], False),
        (["explain", "--no-such=x"], [], False),
        (["completion", ""], [], False),
    ],
)
def test_what_may_come_next(typed: Sequence[str], words: Sequence[str], files: bool) -> None:
    """Commands, options not given yet, the words an option takes, files where any word may stand."""
    found = candidates(typed)
    assert [word for word, _ in found.words] == words
    assert found.files is files


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_options(name: str) -> None:
    """From its own table, so that none can be forgotten; each says what it is for."""
    found = candidates([name, "-"])
    assert "--help" in dict(found.words) or "-h" in dict(found.words)
    assert all(what for _, what in found.words)


def test_the_answer_is_what_kubectl_reads(capsys: pytest.CaptureFixture[str]) -> None:
    """A line a word with what it is for, then cobra's directive."""
    assert run(["podidentity", "__complete", "roles", "ch"]) == 0
    assert capsys.readouterr().out == (
        "check\tCompare what is needed with Azure; exit code 1 when anything is missing.\n:4\n"
    )


@pytest.fixture
def environ(tmp_path: Path) -> Mapping[str, str]:
    """A PATH with this podidentity in front, and a home of its own."""
    program = tmp_path / "bin" / "podidentity"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m podidentity "$@"\n')
    program.chmod(0o755)
    (tmp_path / "outputs.json").touch()
    return {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
        "HOME": str(tmp_path),
        "TERM": "xterm",
        "LC_ALL": "C.UTF-8",
    }


def shell(name: str) -> str:
    """Where that shell is."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on this machine; its package has the same name")
    return found


def typed_at(argv: Sequence[str], setup: str, keys: str, wanted: str, environ: Mapping[str, str]) -> str:
    """What a shell on a terminal shows after ``setup`` and ``keys``, as soon as ``wanted`` is there."""
    terminal, inner = pty.openpty()
    try:
        process = subprocess.Popen(
            argv, stdin=inner, stdout=inner, stderr=inner, cwd=environ["HOME"], env=environ, start_new_session=True
        )
    finally:
        os.close(inner)
    try:
        os.write(terminal, f"{setup}; echo REA''DY\n".encode())
        shown = _until(terminal, "READY")
        os.write(terminal, keys.encode())
        return shown + _until(terminal, wanted)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def _until(terminal: int, wanted: str) -> str:
    seen, deadline = b"", time.monotonic() + SECONDS
    while wanted.encode() not in seen and time.monotonic() < deadline:
        if select.select([terminal], [], [], 1.0)[0]:
            try:
                seen += os.read(terminal, 65536)
            except OSError:  # the shell has ended
                break
    return seen.decode(errors="replace")


LINES = [
    ("podidentity expl", "podidentity explain"),
    ("podidentity roles plan --walkt", "podidentity roles plan --walkthrough"),
    ("podidentity roles plan --output terr", "podidentity roles plan --output terraform"),
    ("podidentity roles plan --output=terr", "podidentity roles plan --output=terraform"),
    ("podidentity roles plan --terraform out", "podidentity roles plan --terraform outputs.json"),
    ("podidentity roles plan --terraform=out", "podidentity roles plan --terraform=outputs.json"),
    ("podidentity explain out", "podidentity explain out"),
]
PEOPLE = {
    "bash": (("--norc", "--noprofile", "-i"), "source <(podidentity completion bash)"),
    "zsh": (("-f", "-i"), "autoload -Uz compinit && compinit -D -u; source <(podidentity completion zsh)"),
}


@pytest.mark.parametrize("name", PEOPLE)
def test_a_person_types_tab(name: str, environ: Mapping[str, str]) -> None:
    """What stands on the line after TAB is printed by putting `echo` in front of it."""
    words, setup = PEOPLE[name]
    keys = "".join(f"{typed}\t\x01echo 'GOT:'\x05 .\n" for typed, _ in LINES)
    wanted = [f"GOT:{whole}" for _, whole in LINES]
    shown = typed_at([shell(name), *words], setup, keys + "echo E''ND\n", "END", environ)
    printed = [" ".join(line.removesuffix(".").split()) for line in shown.splitlines() if line.startswith("GOT:")]
    assert printed == wanted, shown


@pytest.mark.parametrize(("typed", "whole"), LINES)
def test_fish(typed: str, whole: str, environ: Mapping[str, str]) -> None:
    """Fish prints what it would offer for a line."""
    script = f"podidentity completion fish | source; complete -C '{typed}'"
    done = subprocess.run(
        [shell("fish"), "--no-config", "-c", script],
        cwd=environ["HOME"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    offered = [line.split("\t")[0] for line in done.stdout.splitlines()]
    last = whole.rpartition(" ")[2]
    assert offered == ([last] if typed != whole else []), done.stderr


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_script_is_the_shells(name: str, environ: Mapping[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """It can be read without running it."""
    assert run(["podidentity", "completion", name]) == 0
    text = capsys.readouterr().out
    done = subprocess.run(
        [shell(name), "-n"], input=text, env=environ, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
