"""What a benchmark hands back, and how it is printed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Report:
    """One table. ``compares``: what is set against what. ``bound``: what limits the figures, and how that was told.

    The first column of a row is its name; every ratio in it comes from the same run.
    """

    title: str
    compares: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    bound: str
    notes: Sequence[str] = field(default_factory=tuple)


def show(console: Console, report: Report, seconds: float) -> None:
    """Print a report and the seconds it took."""
    table = Table(title=report.title, title_justify="left", title_style="bold")
    for index, name in enumerate(report.columns):
        table.add_column(name, justify="right" if index else "left", overflow="fold")
    for row in report.rows:
        table.add_row(*row)
    console.print()
    console.print(table)
    for label, text in (("Compares", report.compares), ("Bounded by", report.bound)):
        console.print(f"[bold]{label}:[/bold] {text}", highlight=False)
    for note in report.notes:
        console.print(note, highlight=False)
    console.print(f"[dim]took {seconds:.0f} s[/dim]")


def markdown(report: Report) -> str:
    """The report's table as the reference page of the benchmarks has it."""
    rows = [report.columns, ["---"] * len(report.columns), *report.rows]
    lines = ["| " + " | ".join(cell.strip() for cell in row) + " |" for row in rows]
    return "\n".join([f"## {report.title.partition(':')[0]}", "", *lines, "", *report.notes])


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of ``values`` (not empty) that at least ``share`` of them do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def ratio(value: float, base: float) -> str:
    """``value`` in multiples of ``base``."""
    return f"{value / base:.2f}x" if base else "-"
