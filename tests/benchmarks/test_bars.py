"""A measured cluster is held against its bars as the issue words them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from bars import Bar, Figures, cells

FOUND = Figures(pods=2000, assigned=11.0, p50=2.0, removed=14.0, patches=50, rss=90.0, rate=1000.0)


def test_what_is_above_its_bar_is_named() -> None:
    """Protects the verdict: a figure above its bar is named, one without a bar is not looked at; memory is in MB."""
    *_, verdict = cells(Bar(assigned=10, removed=15, rss=94), FOUND)
    assert verdict == "missed: assigned, RSS"
    assert cells(Bar(p50=3, patches=50, rss=95), FOUND)[-1] == "kept"


def test_a_slow_api_moves_the_bar() -> None:
    """Protects the rule of 1.5: 4,000 writes at 500 a second take 8 s, so 12 s are within the bar, 13 are not."""
    bar = Bar(assigned=10, by_writes=True)
    assert cells(bar, Figures(2000, 11.9, 1, 0, 0, 0, 500))[0] == "11.90 (12)"
    assert cells(bar, Figures(2000, 11.9, 1, 0, 0, 0, 500))[-1] == "kept"
    assert cells(bar, Figures(2000, 13.0, 1, 0, 0, 0, 500))[-1] == "missed: assigned"
    assert cells(Bar(assigned=10), Figures(2000, 11.9, 1, 0, 0, 0, 500))[-1] == "missed: assigned"


def test_what_was_not_measured_is_a_dash() -> None:
    """Protects the rows without an API: no rate of writes is not a rate of nothing."""
    found = Figures(pods=60, assigned=13.0, p50=0.1, removed=0, patches=2, rss=0, rate=0)
    assert cells(Bar(patches=2), found) == ("13.00", "0.10", "-", "2 (2)", "-", "-", "kept")
