"""The page of scenarios says what the scenarios say."""

from __future__ import annotations

from tests.scenarios.catalogue import SCENARIOS
from tests.scenarios.page import PAGE


def test_the_page_has_every_scenario() -> None:
    """Protects readers: each scenario is a row with its own words and a time; `make scenarios` writes them."""
    text = PAGE.read_text()
    assert [one.id for one in SCENARIOS if f"\n| `{one.id}` | {one.holds} | " not in text] == []
