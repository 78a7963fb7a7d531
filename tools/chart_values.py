"""Write ``docs/reference/chart-values.md`` from the chart's values and the comments above them: ``make goldens``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "deploy" / "charts" / "aad-pod-identity"
PAGE = ROOT / "docs" / "reference" / "chart-values.md"
_KEY = re.compile(r"^( *)([A-Za-z]+):")
_INTRO = """\
# Values of the Helm chart

Every value of `deploy/charts/aad-pod-identity`. The names are those of the original's chart, so a values file of its
charts 2 to 4 keeps working; `values.schema.json` stops Helm at a value it does not know, with the value's place.
Numbers, times and switches may also be texts, as `--set-string` gives them; a time is written `90s`, `5m` or `1h`.
How to install: [install-with-helm.md](../howto/install-with-helm.md).

This page is written from `values.yaml`, whose comments it shows (`make goldens`).
"""
Values = Mapping[str, Any]


def comments(text: str) -> dict[str, str]:
    """The comment above each key, by the key's path."""
    found: dict[str, str] = {}
    path: list[str] = []
    said: list[str] = []
    for line in text.splitlines():
        if line.strip().startswith("# "):
            said.append(line.strip().removeprefix("# "))
            continue
        if key := _KEY.match(line):
            path = [*path[: len(key[1]) // 2], key[2]]
            found.setdefault(".".join(path), " ".join(said))
        said = []
    return found


def leaves(schema: Values, values: Values, path: str = "") -> Iterator[tuple[str, Any]]:
    """Path and default of each value; an object of fixed keys whose default has them is no value but its keys are."""
    for key, value in values.items():
        inner = schema["properties"][key]
        where = f"{path}{key}"
        if isinstance(value, dict) and value and set(value) == set(inner.get("properties", ())):
            yield from leaves(inner, value, f"{where}.")
        else:
            yield where, value


def rendered(chart: Path = CHART) -> str:
    """The page. KeyError: a value without a schema; SystemExit: one without a comment."""
    text = (chart / "values.yaml").read_text()
    schema = json.loads((chart / "values.schema.json").read_text())
    said = comments(text)
    sections: dict[str, list[str]] = {"Both": []}
    for path, default in leaves(schema, yaml.safe_load(text)):
        if not said.get(path):
            raise SystemExit(f"values.yaml: {path} has no comment above it")
        section = path.partition(".")[0] if "." in path else "Both"
        effect = said[path].replace("|", "\\|")
        sections.setdefault(section, []).append(f"| `{path}` | `{json.dumps(default)}` | {effect} |")
    head = "| value | default | effect |\n|---|---|---|"
    tables = ["\n".join([f"## {name}\n\n{head}", *rows]) for name, rows in sections.items()]
    return "\n\n".join([_INTRO.rstrip(), *tables]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(rendered())
