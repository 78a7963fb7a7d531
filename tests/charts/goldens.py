"""The table of value sets and what helm makes of each: ``values/NAME.yaml`` becomes ``golden/NAME.yaml``.

``make goldens`` (this file run) writes the golden ones anew. A line ``# helm: WORDS`` in a value set gives helm those
words.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import yaml
from tests.charts.chart import Helm

from podidentity.lab.programs import programs

HERE = Path(__file__).resolve().parent
NAMES = tuple(sorted(path.stem for path in (HERE / "values").glob("*.yaml")))
_WORDS = re.compile(r"^# helm: (.*)$", re.MULTILINE)


def given(name: str) -> dict[str, object]:
    """The values of a set."""
    found: dict[str, object] = yaml.safe_load((HERE / "values" / f"{name}.yaml").read_text())
    return found


def words(name: str) -> list[str]:
    """What helm is told beside them."""
    found = _WORDS.search((HERE / "values" / f"{name}.yaml").read_text())
    return found[1].split() if found else []


def golden(name: str) -> Path:
    """Where helm's answer is kept."""
    return HERE / "golden" / f"{name}.yaml"


def rendered(helm: Helm, name: str) -> str:
    """What helm answers today."""
    return helm.template(given(name), *words(name))


def main() -> None:
    """Write the golden files, and remove those whose values are gone."""
    with tempfile.TemporaryDirectory() as home:
        helm = Helm(programs(os.environ).require("helm"), Path(home))
        for old in (HERE / "golden").glob("*.yaml"):
            old.unlink()
        for name in NAMES:
            golden(name).write_text(rendered(helm, name))


if __name__ == "__main__":
    main()
