"""The grammar of ``pflag``: ``--long`` and ``-s`` differ, flags and other arguments may be mixed. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from podidentity.config.errors import UsageError
from podidentity.config.flags import Parsed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podidentity.config.flags import Flag, Table


def parse(argv: Sequence[str], table: Table) -> Parsed:
    """Read ``argv`` (without the command's name).

    ``--x=v``, ``--x v`` (not for booleans), ``-v 5``, ``-v=5``, ``-v5``; after ``--`` nothing is a flag. UsageError,
    HelpRequested.
    """
    reader = _Reader(argv, table)
    while reader.pending:
        argument = reader.pending.pop(0)
        if len(argument) < 2 or argument[0] != "-":  # noqa: PLR2004 - a dash alone is an argument
            reader.rest.append(argument)
        elif argument == "--":
            reader.rest += reader.pending
            break
        elif argument.startswith("--"):
            reader.long(argument)
        else:
            reader.short(argument)
    return Parsed(reader.values, tuple(reader.rest))


class _Reader:
    def __init__(self, argv: Sequence[str], table: Table) -> None:
        self.pending = list(argv)
        self.table = table
        self.values: dict[str, object] = {}
        self.rest: list[str] = []

    def long(self, argument: str) -> None:
        """Read ``--name``, ``--name=value`` or ``--name value``."""
        name, equals, value = argument[2:].partition("=")
        if not name or name.startswith("-"):
            raise UsageError(f'"{argument}" is not a flag; write --name or --name=value')
        flag = self.table.find(name, f"--{name}")
        self.values[name] = flag.read(value if equals else self.value(flag, f"--{name}"))

    def short(self, argument: str) -> None:
        """Read ``-ab``: each letter a flag, until one takes what follows as its value."""
        letters = argument[1:]
        word = letters.partition("=")[0]
        if len(word) > 1 and word in self.table.flags:
            raise UsageError(f"unknown flag -{word}; did you mean --{word}?")
        while letters:
            name, letters = letters[0], letters[1:]
            first = len(letters) + len(name) == len(argument) - 1
            flag = self.table.find(name, f"-{word}" if first else f"-{name} in -{word}", word if first else "")
            if letters.startswith("="):
                self.values[name] = flag.read(letters[1:])
                return
            if letters and not flag.is_bool:
                self.values[name] = flag.read(letters)
                return
            self.values[name] = flag.read(self.value(flag, f"-{name}"))

    def value(self, flag: Flag[Any], shown: str) -> str:
        """Give the value of a flag written without one."""
        if flag.is_bool:
            return "true"
        if not self.pending:
            raise UsageError(f"{shown} needs a value, write {shown}=...")
        return self.pending.pop(0)
