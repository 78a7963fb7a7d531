"""Tells a demo as a numbered story: the command a person would type, its answer, why it matters, its time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.table import Table


@dataclass(slots=True)
class Story:
    """Prints steps to ``console`` (None: silently, for ``--json``) and remembers what was claimed and checked."""

    console: Console | None
    claims: list[tuple[str, bool, str]] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    _number: int = 0
    _begun: float = 0.0

    def step(self, title: str) -> None:
        """Begin the next step."""
        self._number += 1
        self._begun = time.monotonic()
        if self.console:
            self.console.print(f"\n[bold]{self._number}. {escape(title)}[/bold]")

    def typed(self, command: str) -> None:
        """The command as a person would type it."""
        if self.console:
            self.console.print(f"   [cyan]$ {escape(command)}[/cyan]", soft_wrap=True, highlight=False)

    def answered(self, text: str, *, limit: int = 30) -> None:
        """What came back."""
        if self.console:
            lines = text.rstrip("\n").splitlines()
            for line in lines[:limit]:
                self.console.print(f"     {escape(line)}", soft_wrap=True, highlight=False)
            if len(lines) > limit:
                self.console.print(f"     ... {len(lines) - limit} more lines", style="dim")

    def why(self, sentence: str) -> None:
        """One line on why the step matters, with the step's time at the right edge."""
        if not self.console:
            return
        grid = Table.grid(expand=True)
        grid.add_column(ratio=1)
        grid.add_column(justify="right", width=8)
        grid.add_row(f"   [green]{escape(sentence)}[/green]", f"[dim]{time.monotonic() - self._begun:.1f} s[/dim]")
        self.console.print(grid)

    def claim(self, sentence: str, holds: bool, evidence: str = "") -> None:
        """Something the demo asserts; one that does not hold makes the demo fail at its end."""
        self.claims.append((sentence, holds, evidence))
        if self.console and not holds:
            self.console.print(
                f"   [bold red]NOT TRUE: {escape(sentence)}[/bold red] {escape(evidence)}", soft_wrap=True
            )

    @property
    def proved(self) -> bool:
        """Whether there were claims and all of them hold."""
        return bool(self.claims) and all(holds for _, holds, _ in self.claims)

    def summary(self) -> None:
        """The last lines: what was proved."""
        if self.console:
            self.console.print("\n[bold]What was checked[/bold]")
            for sentence, holds, evidence in self.claims:
                mark = "[green]yes[/green]" if holds else "[bold red]NO [/bold red]"
                self.console.print(
                    f"   {mark}  {escape(sentence)}" + (f" [dim]{escape(evidence)}[/dim]" if evidence else ""),
                    soft_wrap=True,
                )
