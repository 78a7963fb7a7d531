"""What there is of the role assignments that are needed. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from podidentity.rules.resource_id import fold
from podidentity.rules.role_needs import Need, excess
from podidentity.rules.roles import USED, Definition, Level, covers, level, told

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class State(StrEnum):
    """What was found for a need. Only ``missing`` keeps mic from its work."""

    PRESENT = "present"
    INHERITED = "inherited"
    WIDE = "too wide"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Grant:
    """A role assignment that exists. ``conditional``: it holds only under a condition, which is not evaluated here."""

    principal_id: str
    role: Definition
    scope: str
    conditional: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """A need, what there is for it, by which grant, and a remark for people."""

    need: Need
    state: State
    grant: Grant | None = None
    remark: str = ""


def judged(needs: Sequence[Need], grants: Iterable[Grant]) -> tuple[Finding, ...]:
    """One finding for each need. ``grants`` are those of its principal, groups of the principal included."""
    there = tuple(dict.fromkeys(grants))
    return tuple(_judged(need, there) for need in needs)


def superfluous(findings: Sequence[Finding], grants: Iterable[Grant]) -> tuple[Grant, ...]:
    """Grants of the two roles that no finding rests on and that are wider than one it does: they can go."""
    used = {found.grant for found in findings}
    return tuple(
        grant
        for grant in dict.fromkeys(grants)
        if grant not in used
        and not grant.conditional
        and any(
            found.grant is not None
            and _same(found.need, grant)
            and _gives(grant, found.need)
            and covers(grant.scope, found.need.scope)
            and excess(found.need, grant.role, grant.scope)
            for found in findings
        )
    )


def _judged(need: Need, grants: Sequence[Grant]) -> Finding:
    fitting = [one for one in grants if _same(need, one) and _gives(one, need) and covers(one.scope, need.scope)]
    sure = sorted((one for one in fitting if not one.conditional), key=lambda one: _width(need, one))
    if not sure:
        remark = "there is one with a condition, which is not evaluated here; check it by hand" if fitting else ""
        return Finding(need, State.MISSING, None, remark)
    grant = sure[0]
    more = excess(need, grant.role, grant.scope)
    if level(grant.scope) is level(need.scope) and not more:
        return Finding(need, State.PRESENT, grant)
    wide = level(grant.scope) in {Level.SUBSCRIPTION, Level.ABOVE} and level(need.scope) is not level(grant.scope)
    wide = wide or "permits far more" in more
    where = f"by {grant.role.name} at {told(grant.scope)}"
    if not wide:
        return Finding(need, State.INHERITED, grant, where)
    return Finding(need, State.WIDE, grant, f"{where}: {more}")


def _same(need: Need, grant: Grant) -> bool:
    return fold(grant.principal_id) == fold(need.principal.object_id)


def _gives(grant: Grant, need: Need) -> bool:
    return grant.role.id == need.role.id or all(grant.role.permits(action) for action in USED[need.role.id])


def _width(need: Need, grant: Grant) -> tuple[int, bool]:
    """Narrow scopes first, and of equal ones the role itself."""
    return list(Level).index(level(grant.scope)), grant.role.id != need.role.id
