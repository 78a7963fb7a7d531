"""The page of scenarios says what the scenarios say."""

from __future__ import annotations

from tests.scenarios.catalogue import SCENARIOS
from tests.scenarios.conditions import Kubectl
from tests.scenarios.page import PAGE
from tests.scenarios.upgrade import CLEANUP, WAY_BACK


def test_the_page_has_every_scenario() -> None:
    """Protects readers: each scenario is a row with its own words and a time; `make scenarios` writes them."""
    text = PAGE.read_text()
    assert [one.id for one in SCENARIOS if f"\n| `{one.id}` | {one.holds} | " not in text] == []


def test_the_way_back_is_the_one_that_is_played() -> None:
    """Protects who goes back: the page's commands are those of the scenario, in its order."""
    text = (PAGE.parents[1] / "howto" / "back-to-the-original.md").read_text()
    played = [step for step in WAY_BACK.steps if isinstance(step, Kubectl)]
    wanted = ["kubectl " + " ".join(step.words).replace(str(CLEANUP), "deploy/nmi-cleanup.yaml") for step in played]
    assert [line for line in text.splitlines() if line.startswith("kubectl ")] == wanted
