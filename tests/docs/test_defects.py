"""The table of the original's defects names a test for each, and the tests are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| ([DA])(\d+) \| .* \| (.*) \|$", re.MULTILINE)


def rows() -> dict[str, list[str]]:
    """Number to the tests named in its row."""
    text = (ROOT / "docs/reference/nmi-defects.md").read_text()
    return {f"{kind}{number}": re.findall(r"`([^`]+)`", tests) for kind, number, tests in ROW.findall(text)}


def test_every_number_has_a_row_with_its_tests() -> None:
    """35 defects and 10 attacks, each with a test whose name carries the number, and no test is made up."""
    table = rows()
    assert list(table) == [*(f"D{n}" for n in range(1, 36)), *(f"A{n}" for n in range(1, 11))]
    missing = []
    for number, tests in table.items():
        assert tests, number
        for test in tests:
            file, _, name = test.partition("::")
            assert name.startswith(f"test_{number.lower()}_"), f"{number}: {name}"
            path = ROOT / "tests" / file
            if not path.exists() or not re.search(rf"^(async )?def {name}\(", path.read_text(), re.MULTILINE):
                missing.append(test)
    assert missing == []
