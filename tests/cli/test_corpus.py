"""Files that are not what they should be, each with the one line that is said to it.

``tests/corpus`` has a folder for each kind; ``messages.json`` has the line, with FILE where the file's path stands.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from podidentity.cli.entry import run

CORPUS = Path(__file__).parents[1] / "corpus"
MESSAGES: dict[str, str] = json.loads((CORPUS / "messages.json").read_text())
COMMANDS = {
    "terraform": ("manifests", "render", "--terraform"),
    "identities": ("manifests", "render", "--identities"),
    "aks": ("roles", "plan", "--aks"),
    "azure-json": ("roles", "plan", "--azure-json"),
    "kubeconfig": ("roles", "plan", "--principal-id=x", "--kubeconfig"),
}


def said(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said to a file of the corpus, FILE in place of its path."""
    *words, option = COMMANDS[name.partition("/")[0]]
    assert run(["podidentity", *words, f"{option}={CORPUS / name}"]) == 1
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    return error.rstrip("\n").replace(str(CORPUS / name), "FILE")


def test_every_file_has_its_line() -> None:
    """No file is there without an expectation, and none is expected that is not there."""
    there = {str(path.relative_to(CORPUS)) for path in CORPUS.rglob("*") if path.parent != CORPUS and path.is_file()}
    assert there == set(MESSAGES)
    assert len(there) >= 100


@pytest.mark.parametrize("name", MESSAGES)
def test_the_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The exact line: what is wrong, where, what to do; exit code 1, nothing on stdout, no trace."""
    assert said(name, capsys) == MESSAGES[name]
