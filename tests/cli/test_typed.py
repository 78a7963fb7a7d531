"""Typer's endings become ours."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest
import typer

from podidentity.cli.typed import call
from podidentity.config.errors import ConfigError, UsageError

app = typer.Typer(no_args_is_help=True)


@app.command()
def up(nodes: int = 1) -> None:
    """Do something, or fail in one of several ways."""
    if nodes == 1:
        raise typer.Exit(3)
    if nodes == 2:
        raise typer.Abort
    if nodes == 3:
        raise typer.TyperException("it broke")
    if nodes == 4:
        raise BrokenPipeError(errno.EPIPE, "nobody reads")


@app.command()
def down() -> None:
    """Do the other thing."""


@pytest.mark.parametrize(
    ("argv", "code"), [(["up"], 3), (["up", "--nodes=9"], 0), (["down"], 0), (["--help"], 0), ([], 2)]
)
def test_exit_codes(argv: Sequence[str], code: int) -> None:
    """A command's own exit code is kept; help is 0 when asked for and 2 when a subcommand is missing."""
    assert call(app, argv, "podidentity x") == code


@pytest.mark.parametrize(
    ("argv", "error", "words"),
    [
        (["upp"], UsageError, "No such command 'upp'"),
        (["up", "--node=x"], UsageError, "up: No such option: --node"),
        (["up", "--nodes=x"], UsageError, "up: Invalid value for '--nodes'"),
        (["up", "--nodes=3"], ConfigError, "it broke"),
        (["up", "--nodes=2"], KeyboardInterrupt, ""),
    ],
)
def test_refusals(argv: Sequence[str], error: type[BaseException], words: str) -> None:
    """What typer refuses comes out as our errors, with the subcommand's name in front."""
    with pytest.raises(error) as raised:
        call(app, argv, "podidentity x")
    assert str(raised.value).startswith(words)


def test_a_pipe_that_ended() -> None:
    """`podidentity lab get pods | head -1` ends as every command does of which nobody reads the output."""
    with pytest.raises(BrokenPipeError):
        call(app, ["up", "--nodes=4"], "podidentity x")
