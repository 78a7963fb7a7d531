"""Helm for the tests of the chart."""

from __future__ import annotations

import pytest
from tests.charts.chart import Helm
from tests.real_server import kubernetes_programs


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm without a cluster; skips where it is missing."""
    return Helm(kubernetes_programs("helm").require("helm"), tmp_path_factory.mktemp("helm"))
