"""What each command takes, read from its own table: typer's parameters, or the flags of a component."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import typer

from podidentity.cli.entry import COMMANDS
from podidentity.config.flags import dashed

if TYPE_CHECKING:
    from podidentity.config.flags import Flag, Table


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its names with their dashes, what it is for, the words it takes (empty: any)."""

    names: tuple[str, ...]
    help: str
    choices: tuple[str, ...] = ()
    takes_value: bool = True
    repeatable: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """A command or a group; ``files``: its arguments name files; ``examples``: whole command lines."""

    help: str
    options: tuple[Option, ...] = ()
    commands: Mapping[str, Command] = field(default_factory=dict)
    files: bool = False
    examples: tuple[str, ...] = ()

    def option(self, name: str) -> Option | None:
        """The option of that name."""
        return next((one for one in self.options if name in one.names), None)


def command(name: str) -> Command:
    """The command of ``podidentity`` with that name; its module is imported. KeyError when there is none."""
    module, help_text = COMMANDS[name]
    loaded = importlib.import_module(module)
    table: Table | None = getattr(loaded, "FLAGS", None)
    return _of_flags(table, help_text) if table is not None else _of_typer(typer.main.get_command(loaded.app))


def _of_flags(table: Table, help_text: str) -> Command:
    """Flags without help are accepted and have no effect: nobody should find them."""
    options = tuple(_flag(one) for one in table.flags.values() if one.help)
    options += (Option(("--help", "-h"), "Show the flags.", takes_value=False),)
    return Command(help_text, options, files=True, examples=table.examples)


def _flag(flag: Flag[Any]) -> Option:
    choices: tuple[str, ...] = getattr(flag.check, "words", ())
    return Option((dashed(flag.name),), flag.help, choices, takes_value=not flag.is_bool)


def _of_typer(found: Any) -> Command:
    """``found``: a command or group of typer's (its base class has no public name)."""
    context = found.make_context(found.name or "", [], resilient_parsing=True)
    parameters = [one for one in found.get_params(context) if not getattr(one, "hidden", False)]
    options = [one for one in parameters if one.param_type_name == "option"]
    arguments = [one for one in parameters if one.param_type_name == "argument"]
    inner = getattr(found, "commands", {})
    return Command(
        found.help or "",
        tuple(map(_option, options)),
        {name: _of_typer(one) for name, one in inner.items() if not one.hidden},
        files=any(_kind(one) is Path for one in arguments),
        examples=_examples(found.epilog or ""),
    )


def _examples(epilog: str) -> tuple[str, ...]:
    """The command lines of ``typed.examples``, or of one line that begins with ``Example:``."""
    lines = (line.removeprefix("Example: ") for line in epilog.split("\n\n"))
    return tuple(line for line in lines if line.startswith("podidentity "))


def _option(parameter: Any) -> Option:
    kind = _kind(parameter)
    choices = tuple(str(one.value) for one in kind) if isinstance(kind, type) and issubclass(kind, Enum) else ()
    return Option(
        (*parameter.opts, *parameter.secondary_opts),
        parameter.help or "",
        choices,
        takes_value=not parameter.is_flag,
        repeatable=parameter.multiple,
    )


def _kind(parameter: Any) -> object:
    """The type of one value; None where typer knows none."""
    annotation: object = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    return next(iter(get_args(annotation)), annotation)
