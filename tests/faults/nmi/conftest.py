"""One lab for each API server, in which all faults are played, and the table of what was measured."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.faults.conftest import LONG
from tests.faults.nmi.site import Site, site_of
from tests.faults.nmi.table import Row, lines
from tests.real_server import kubernetes_programs

from podidentity.lab.spec import ApiServer

ROWS = pytest.StashKey[list[Row]]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table."""
    rows = config.stash.get(ROWS, [])
    if rows:
        terminalreporter.section("faults of the node agent")
        for line in lines(rows):
            terminalreporter.write_line(line)


async def _site(server: ApiServer, config: pytest.Config, folder: Path) -> AsyncIterator[Site]:
    pause = 0.005 if LONG else 0.02
    async with site_of(folder, server, config.stash.setdefault(ROWS, []), pause) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def embedded_site(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """A lab on the embedded API, with pods that ask for tokens all the time."""
    async for site in _site("embedded", pytestconfig, tmp_path_factory.mktemp("agent")):
        yield site


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def real_site(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """The same on the real API server."""
    kubernetes_programs("kube-apiserver")
    async for site in _site("real", pytestconfig, tmp_path_factory.mktemp("agent")):
        yield site
