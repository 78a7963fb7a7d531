"""What every test gets: a skip for a missing part is a failure where all parts are installed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings
from tests.real_server import RealServer, running_control_plane

# pytest-asyncio would make an event loop of its own for the main thread and leave it open at the end.
asyncio.set_event_loop(None)

# A machine that does more than these tests is no reason to fail: what is slow is found by the benchmarks.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under ``PODIDENTITY_NO_SKIP`` a skipped test fails, with the reason it was skipped for."""
    report = yield
    if report.skipped and os.environ.get("PODIDENTITY_NO_SKIP") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and PODIDENTITY_NO_SKIP forbids it: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A real control plane shared by all tests: leave nothing cluster-wide behind, use namespaces of your own."""
    with running_control_plane(tmp_path_factory.mktemp("real")) as server:
        yield server
