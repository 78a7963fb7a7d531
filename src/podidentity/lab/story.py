"""Tells a demo as a numbered story: the command a person would type, its answer, why it matters, its time."""

from __future__ import annotations

import contextlib
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape

INDENT = "   "
MIN_WIDTH = 24
"""Columns a sentence gets at least, however narrow the terminal says it is."""


def with_time(sentence: str, took: str, width: int) -> list[str]:
    """Lines of at most ``width`` columns: the sentence, indented, and ``took`` at the right edge of the last line."""
    room = max(MIN_WIDTH, width - len(INDENT) - len(took) - 2)
    *first, last = textwrap.wrap(sentence, room, break_long_words=False, break_on_hyphens=False) or [""]
    gap = max(2, width - len(INDENT) - cell_len(last) - len(took))
    return [*(INDENT + line for line in first), INDENT + last + " " * gap + took]


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
        self._print(f"\n[bold]{self._number}. {escape(title)}[/bold]")

    def typed(self, command: str) -> None:
        """The command as a person would type it."""
        self._print(f"{INDENT}[cyan]$ {escape(command)}[/cyan]")

    def answered(self, text: str, *, limit: int = 30) -> None:
        """What came back."""
        lines = text.rstrip("\n").splitlines()
        for line in lines[:limit]:
            self._print(f"{INDENT}  {escape(line)}")
        if len(lines) > limit:
            self._print(f"{INDENT}  [dim]... {len(lines) - limit} more lines[/dim]")

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Show, on a terminal only, that the block waits for ``what``."""
        live = self.console if self.console and self.console.is_terminal else None
        with live.status(escape(what)) if live else contextlib.nullcontext():
            yield

    def why(self, sentence: str) -> None:
        """One line on why the step matters, with the step's time at the right edge."""
        if not self.console:
            return
        took = f"{time.monotonic() - self._begun:.1f} s"
        *first, last = with_time(sentence, took, self.console.width)
        for line in first:
            self._print(f"[green]{escape(line)}[/green]")
        self._print(f"[green]{escape(last.removesuffix(took))}[/green][dim]{took}[/dim]")

    def claim(self, sentence: str, holds: bool, evidence: str = "") -> None:
        """Something the demo asserts; one that does not hold makes the demo fail at its end."""
        self.claims.append((sentence, holds, evidence))
        if not holds:
            self._print(f"{INDENT}[bold red]NOT TRUE: {escape(sentence)}[/bold red] {escape(evidence)}")

    @property
    def proved(self) -> bool:
        """Whether there were claims and all of them hold."""
        return bool(self.claims) and all(holds for _, holds, _ in self.claims)

    def summary(self) -> None:
        """The last lines: what was proved, and in what time."""
        self._print("\n[bold]What was checked[/bold]")
        for sentence, holds, evidence in self.claims:
            mark = "[green]yes[/green]" if holds else "[bold red]NO [/bold red]"
            shown = f" [dim]({escape(evidence)})[/dim]" if evidence else ""
            self._print(f"{INDENT}{mark}  {escape(sentence)}{shown}")
        if self.proved and "seconds" in self.facts:
            self._print(f"{INDENT}All of it in {self.facts['seconds']} s, from an empty directory; nothing is left.")

    def _print(self, markup: str) -> None:
        """Print a line that is never broken: what it shows is there to be copied."""
        if self.console:
            self.console.print(markup, soft_wrap=True, highlight=False)
