"""The options of ``podidentity lab``, and what they wish for."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import shlex
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from podidentity.config.duration import parse_duration
from podidentity.config.errors import ConfigError
from podidentity.lab.layout import Layout
from podidentity.lab.outer import Wish
from podidentity.lab.spec import ApiServer, Network, load_spec


def _default_directory() -> Path:
    """Under XDG_STATE_HOME, else the home directory; for someone without either, in the temporary directory."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if state.is_absolute():
        return state / "podidentity" / "lab"
    with contextlib.suppress(RuntimeError):  # a user id that no password file knows
        if (home := Path.home()).is_absolute():
            return home / ".local" / "state" / "podidentity" / "lab"
    return Path(tempfile.gettempdir()) / f"podidentity-{os.getuid()}" / "lab"


DEFAULT_DIRECTORY = _default_directory()

Directory = Annotated[Path, typer.Option("--dir", help="Where the lab keeps its state; one directory is one lab.")]
Nodes = Annotated[int | None, typer.Option(help="Number of nodes.", min=1, max=50, show_default="2")]
ApiServerOption = Annotated[
    ApiServer | None,
    typer.Option("--api-server", help="The lab's own API server, or Kubernetes' (with etcd).", show_default="embedded"),
]
NetworkOption = Annotated[
    Network | None,
    typer.Option("--network", help="Pods behind a bridge (kubenet), or routed (Azure CNI).", show_default="bridge"),
]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace.")]


def seconds(text: str) -> int:
    """The seconds (rounded up) of ``300``, ``300s`` or ``5m``; typer.BadParameter for anything else or below zero."""
    try:
        found = float(text) if text.isdecimal() else parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} {error}") from None
    if found < 0:
        raise typer.BadParameter(f"{text!r} is less than none")
    return math.ceil(found)


def with_dir(command: str, directory: Path) -> str:
    """``podidentity lab COMMAND`` for the lab in ``directory``, as a shell takes it."""
    return f"podidentity lab {command}" + (
        "" if directory == DEFAULT_DIRECTORY else f" --dir {shlex.quote(str(directory))}"
    )


def with_options(command: str, wish: Wish) -> str:
    """``command`` with what the wish has other than by default."""
    usual, options = Wish(wish.directory), ("nodes", "network", "api_server")
    said = [(name, getattr(wish, name)) for name in options if getattr(wish, name) != getattr(usual, name)]
    return " ".join([command, *(f"--{name.replace('_', '-')}={value}" for name, value in said)])


def filled(wish: Wish, nodes: int | None, network: Network | None, api_server: ApiServer | None) -> Wish:
    """The wish with what was said in it; None: nothing was said."""
    return dataclasses.replace(
        wish,
        nodes=nodes or wish.nodes,
        network=network or wish.network,
        api_server=api_server or wish.api_server,
    )


def wish_for(
    directory: Path, port: int, nodes: int | None, network: Network | None, api_server: ApiServer | None
) -> Wish:
    """What was asked for; ConfigError when the lab in ``directory`` was made as something else."""
    fresh = Wish(directory, port=port)
    kept = load_spec(Layout(directory.resolve()).spec)
    if kept:
        fresh = dataclasses.replace(fresh, nodes=kept.node_count, network=kept.network, api_server=kept.api_server)
    wish = filled(fresh, nodes, network, api_server)
    for name in ("nodes", "network", "api_server") if kept else ():
        given, made = getattr(wish, name), getattr(fresh, name)
        if given != made:
            raise ConfigError(
                f"--{name.replace('_', '-')} {given}: the lab in {directory} was made with {made}; "
                f"`{with_dir('down --remove', directory)}` removes it, another --dir makes a second one"
            )
    return wish
