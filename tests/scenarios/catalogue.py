"""Every scenario there is, by the id it has in the acceptance table."""

from __future__ import annotations

from tests.scenarios import assignment, tokens

SCENARIOS = (*tokens.SCENARIOS, *assignment.SCENARIOS)
