"""``podidentity version``."""

from __future__ import annotations

import json
import os
import platform
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from podidentity.cli.typed import call, examples
from podidentity.config.build import Build

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)


@app.command(epilog=examples("podidentity version", "podidentity version --json"))
def version(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Print version, commit and date of the build, Python and platform."""
    build = Build.of(os.environ)
    facts = {
        "version": build.version,
        "commit": build.commit,
        "buildDate": build.date,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    if as_json:
        print(json.dumps(facts))
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in facts.items():
        table.add_row(f"[bold]{name}[/bold]", value)
    Console().print(table)


def main(argv: Sequence[str]) -> int:
    """Run it with the arguments after its name."""
    return call(app, argv, "podidentity version")
