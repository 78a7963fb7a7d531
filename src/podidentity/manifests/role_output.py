"""Role assignments as text: JSON, terraform's resources, az's commands. No I/O."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING

from podidentity.rules.roles import told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podidentity.rules.role_check import Finding, Grant
    from podidentity.rules.role_needs import Need


def as_terraform(needs: Sequence[Need]) -> str:
    """One ``azurerm_role_assignment`` each."""
    return "\n".join(_resource(need, name) for need, name in zip(needs, _names(needs), strict=True))


def as_az(needs: Sequence[Need]) -> str:
    """One ``az role assignment create`` each; they ask for no login and change nothing that is there."""
    return "".join(
        f"az role assignment create --assignee-object-id {need.principal.object_id} "
        f"--assignee-principal-type ServicePrincipal --role {shlex.quote(need.role.name)} "
        f"--scope {shlex.quote(need.scope)}\n"
        for need in needs
    )


def plan_json(needs: Sequence[Need], notes: Sequence[str]) -> str:
    """The assignments that are needed, and what wider ones would open."""
    return _json({"assignments": [_need(need) for need in needs], "notes": list(notes)})


def check_json(findings: Sequence[Finding], surplus: Sequence[Grant]) -> str:
    """What there is of them. ``superfluous``: wider grants that nothing here rests on."""
    return _json(
        {
            "assignments": [
                {
                    **_need(found.need),
                    "state": str(found.state),
                    "by": _grant(found.grant) if found.grant else None,
                    "remark": found.remark,
                }
                for found in findings
            ],
            "superfluous": [_grant(grant) for grant in surplus],
        }
    )


def surplus_line(grant: Grant) -> str:
    """A sentence on a grant that can go."""
    return f"{grant.role.name} at {told(grant.scope)} is wider than what is used beside it; mic works without it."


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"


def _need(need: Need) -> dict[str, object]:
    return {
        "principal": need.principal.who,
        "principalId": need.principal.object_id,
        "role": need.role.name,
        "roleDefinitionId": need.role.id,
        "scope": need.scope,
        "why": need.why,
    }


def _grant(grant: Grant) -> dict[str, object]:
    return {"role": grant.role.name, "roleDefinitionId": grant.role.id, "scope": grant.scope}


def _resource(need: Need, name: str) -> str:
    return "\n".join(
        (
            f'resource "azurerm_role_assignment" "{name}" {{',
            f"  scope                = {_quoted(need.scope)}",
            f"  role_definition_name = {_quoted(need.role.name)}",
            f"  principal_id         = {_quoted(need.principal.object_id)}",
            '  principal_type       = "ServicePrincipal"',
            "}",
            "",
        )
    )


def _names(needs: Sequence[Need]) -> list[str]:
    """A name for each, told apart by a number where two are the same."""
    found: list[str] = []
    for need in needs:
        parts = ("mic", need.role.name, need.scope.rstrip("/").rpartition("/")[2])
        name = re.sub(r"[^a-z0-9]+", "_", "_".join(parts).lower()).strip("_")
        times = sum(other == name or other.startswith(f"{name}__") for other in found)
        found.append(f"{name}__{times + 1}" if times else name)
    return found


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "$${").replace("%{", "%%{")
    return f'"{escaped}"'
