"""The grammar of Go's ``flag``: ``-x`` and ``--x`` are the same; flags end at the first argument that is none. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podidentity.config.errors import UsageError
from podidentity.config.flags import Parsed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podidentity.config.flags import Table


def parse(argv: Sequence[str], table: Table) -> Parsed:
    """Read ``argv`` (without the command's name).

    A value is ``-x=v`` or, but for booleans, the next argument. ``--`` ends the flags too. UsageError, HelpRequested.
    """
    values: dict[str, object] = {}
    position = 0
    while position < len(argv):
        argument = argv[position]
        if len(argument) < 2 or argument[0] != "-":  # noqa: PLR2004 - a dash alone is an argument
            break
        position += 1
        if argument == "--":
            break
        body = argument[2:] if argument.startswith("--") else argument[1:]
        name, equals, value = body.partition("=")
        if not name or name.startswith("-"):
            raise UsageError(f'"{argument}" is not a flag; write --name or --name=value')
        flag = table.find(name, argument.partition("=")[0])
        if not equals:
            if flag.is_bool:
                value = "true"
            elif position == len(argv):
                raise UsageError(f"{argument} needs a value, write {argument}=...")
            else:
                value = argv[position]
                position += 1
        values[name] = flag.read(value)
    return Parsed(values, tuple(argv[position:]))
