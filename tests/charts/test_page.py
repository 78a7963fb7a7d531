"""The page of the chart's values, and that values, schema and page name the same keys."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import yaml
from tests.charts.chart import CHART

ROOT = Path(__file__).resolve().parents[2]


def chart_values() -> ModuleType:
    """The tool that writes the page."""
    spec = importlib.util.spec_from_file_location("chart_values", ROOT / "tools" / "chart_values.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_fresh() -> None:
    """`make goldens` was run after the last change of the values."""
    assert (ROOT / "docs" / "reference" / "chart-values.md").read_text() == chart_values().rendered()


def keys(schema: dict[str, object], values: dict[str, object], path: str = "") -> tuple[set[str], set[str]]:
    """The fixed keys of both, by path."""
    fixed = schema.get("properties")
    assert isinstance(fixed, dict)
    in_schema, in_values = {f"{path}{key}" for key in fixed}, {f"{path}{key}" for key in values}
    for key, value in values.items():
        inner = fixed.get(key, {})
        if isinstance(value, dict) and value and "properties" in inner:
            below = keys(inner, value, f"{path}{key}.")
            in_schema, in_values = in_schema | below[0], in_values | below[1]
    return in_schema, in_values


def test_schema_and_values_name_the_same_keys() -> None:
    """A value that the schema takes is documented, and none is documented that it refuses."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    in_schema, in_values = keys(schema, yaml.safe_load((CHART / "values.yaml").read_text()))
    beyond = {"global", "mic.resources.claims", "nmi.resources.claims"}
    assert in_schema - in_values == beyond
    assert in_values <= in_schema
