"""Commands of our own are typer apps; this runs one and turns typer's endings into ours."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from podidentity.config.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_USAGE = 2


def examples(*lines: str) -> str:
    """The end of a help text: whole command lines, one below the other."""
    return "\n\n".join(["Examples:", *lines])


def call(app: typer.Typer, argv: Sequence[str], program: str) -> int:
    """Run ``app`` and give its exit code; what typer refuses is a UsageError that names the subcommand."""
    streams = sys.stdout, sys.stderr
    try:
        code = app(args=list(argv), prog_name=program, standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except SystemExit:  # typer's end when nobody reads the output, with code 1 and both streams wrapped
        sys.stdout, sys.stderr = streams
        raise BrokenPipeError from None
    except typer.TyperException as error:
        words = error.format_message().replace(": Value error, ", ": ")
        if error.exit_code != _USAGE:
            raise ConfigError(words) from None
        if not words:  # typer has just printed the help that a group without a subcommand gets
            return _USAGE
        raise UsageError(_where(error, program) + words.rstrip(".")) from None
    return code if isinstance(code, int) else 0


def _where(error: typer.TyperException, program: str) -> str:
    """Give ``up: `` for an error of ``podidentity lab up``; nothing for one of the program itself."""
    path = str(getattr(getattr(error, "ctx", None), "command_path", program))
    inner = path.removeprefix(program).strip()
    return f"{inner}: " if inner else ""
