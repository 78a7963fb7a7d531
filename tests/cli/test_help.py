"""Every help text has examples, and each example is a command line that is taken."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import typer

from podidentity.cli.entry import COMMANDS, run
from podidentity.cli.options import Command, command
from podidentity.config.csi import csi_settings
from podidentity.config.errors import UsageError
from podidentity.config.mic import mic_settings
from podidentity.config.nmi import nmi_settings


def everything() -> Iterator[tuple[str, Command]]:
    """Each command and subcommand by its words."""

    def below(words: str, found: Command) -> Iterator[tuple[str, Command]]:
        yield words, found
        for name, inner in found.commands.items():
            yield from below(f"{words} {name}", inner)

    for name in COMMANDS:
        yield from below(name, command(name))


EVERYTHING = dict(everything())


def words_of(example: str) -> list[str]:
    """The words of the command itself: no pipe, no redirection, no program's name."""
    program, *words = shlex.split(re.split(r" [|>] ", example)[0])
    assert program == "podidentity"
    return words


def parse(name: str, words: Sequence[str]) -> None:
    """Read a command line as the command does, and do nothing."""
    match name:
        case "mic":
            mic_settings(words, {"MIC_POD_NAMESPACE": "default"}, "host")
        case "nmi":
            nmi_settings(words, {})
        case "csi-provider":
            csi_settings(words, {})
        case _:
            found: Any = typer.main.get_command(importlib.import_module(COMMANDS[name][0]).app)
            rest = list(words)
            while hasattr(found, "commands"):
                found = found.commands[rest.pop(0)]
            found.make_context(name, rest)


@pytest.mark.parametrize("words", EVERYTHING)
def test_every_command_has_examples_of_itself(words: str) -> None:
    """At least one each, of this command and no other, and all can be parsed."""
    examples = EVERYTHING[words].examples
    assert examples
    for example in examples:
        found = words_of(example)
        assert " ".join(found).startswith(words), example
        parse(found[0], found[1:])


@pytest.mark.parametrize(
    "line", ["podidentity mic --nonsense", "podidentity roles plan --nonsense", "podidentity lab logs"]
)
def test_a_wrong_example_would_be_found(line: str) -> None:
    """The parsing above refuses what the command refuses."""
    name, *words = words_of(line)
    with pytest.raises((UsageError, typer.TyperException)):
        parse(name, words)


@pytest.mark.parametrize("words", EVERYTHING)
def test_help_prints_the_examples(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As they stand, but for line breaks on a narrow terminal: nothing in them is taken for markup."""
    assert run(["podidentity", *words.split(), "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for example in EVERYTHING[words].examples:
        assert example in text
