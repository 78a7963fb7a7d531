"""Role assignments as tables for people. Values in, a rich table out; no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from podidentity.rules.role_check import State
from podidentity.rules.roles import told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podidentity.rules.role_check import Finding
    from podidentity.rules.role_needs import Need

_COLOURS: Final = {State.PRESENT: "green", State.INHERITED: "green", State.WIDE: "yellow", State.MISSING: "bold red"}


def plan_table(needs: Sequence[Need]) -> Table:
    """One line each: who gets which role where, and what for."""
    table = _table("who", "role", "at", "what for")
    for need in needs:
        table.add_row(_who(need), need.role.name, told(need.scope), need.why)
    return table


def check_table(findings: Sequence[Finding]) -> Table:
    """One line each: the need and what there is of it."""
    table = _table("", "who", "role", "at", "found")
    for found in findings:
        mark = Text(str(found.state), style=_COLOURS[found.state])
        need = found.need
        table.add_row(mark, _who(need), need.role.name, told(need.scope), Text(found.remark))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "", min_width=36 if column == "who" else None)
    return table


def _who(need: Need) -> str:
    return f"{need.principal.who}\n{need.principal.object_id}"
