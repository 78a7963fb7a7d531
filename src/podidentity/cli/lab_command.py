"""``podidentity lab``, handed to typer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podidentity.cli.lab import app
from podidentity.cli.typed import call

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Run the lab's command line."""
    return call(app, argv, "podidentity lab")
