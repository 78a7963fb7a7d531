"""Every scenario there is, by the lab it is played in; each has the id of the acceptance table."""

from __future__ import annotations

from tests.scenarios import assignment, csi, pools, tokens, upgrade, whole

LABS = {
    "shared": (*whole.SCENARIOS, *assignment.SCENARIOS, *tokens.SCENARIOS, *csi.SCENARIOS, *pools.SCENARIOS),
    "upgrade": upgrade.SCENARIOS,
}
SCENARIOS = tuple(one for scenarios in LABS.values() for one in scenarios)
