"""Options of the commands that read a cluster, as kubectl names them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Context = Annotated[str, typer.Option("--context", help="The kubeconfig's context; else its current one.")]


def default_kubeconfig() -> str:
    """The person's own kubeconfig; empty when there is none."""
    path = Path("~/.kube/config").expanduser()
    return str(path) if path.is_file() else ""
