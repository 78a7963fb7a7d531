"""The tables of the original's defects name a test for each; tests that any page names are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| ([A-Z])(\d+) \| .* \| (.*) \|$", re.MULTILINE)
TABLES = {"nmi": {"D": 35, "A": 10}, "mic": {"M": 50}, "install": {"I": 18}, "csi": {"K": 12}}
DESIGN = "by design"
"""Stands where there is nothing to test."""


def rows(component: str) -> dict[str, str]:
    """Number to the last cell of its row: the tests, or why it cannot occur."""
    text = (ROOT / f"docs/reference/{component}-defects.md").read_text()
    return {f"{kind}{number}": tests for kind, number, tests in ROW.findall(text)}


@pytest.mark.parametrize("component", TABLES)
def test_every_number_has_a_row_with_its_tests(component: str) -> None:
    """Every defect and attack has a row and a test whose name carries the number, and no test is made up."""
    table = rows(component)
    assert list(table) == [f"{kind}{n}" for kind, count in TABLES[component].items() for n in range(1, count + 1)]
    for number, cell in table.items():
        tests = re.findall(r"`([^`]+)`", cell)
        assert tests or cell == DESIGN, number
        for test in tests:
            name = test.partition("::")[2]
            assert number.lower() in name.split("_"), f"{number}: {name}"


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in sorted((ROOT / "docs").rglob("*.md"))])
def test_the_tests_a_page_names_are_there(page: Path) -> None:
    """Nobody is sent to a test that was renamed or never written."""
    missing = []
    for file, name in re.findall(r"`([\w/]+\.py)::(\w+)`", page.read_text()):
        path = ROOT / "tests" / file
        if not path.exists() or not re.search(rf"^(async )?def {name}\(", path.read_text(), re.MULTILINE):
            missing.append(f"{file}::{name}")
    assert missing == []
