"""One lab for all stories of a module: what they break, they break on identities and pods of their own."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from podidentity.config.errors import ConfigError
from podidentity.lab.cluster import Cluster
from podidentity.lab.outer import Wish, running_lab
from podidentity.lab.running import RunningLab
from podidentity.lab.scenarios.walkthrough import Walkthrough
from podidentity.lab.story import Story


@asynccontextmanager
async def new_lab(**wish: Any) -> AsyncIterator[RunningLab]:
    """A lab in a directory of its own, two nodes behind bridges unless wished otherwise; skips where it cannot be."""
    with tempfile.TemporaryDirectory(prefix="podidentity-e2e-") as folder:
        try:
            async with running_lab(Wish(Path(folder) / "lab", **wish)) as lab:
                yield lab
        except ConfigError as error:
            if "this system refuses" in str(error):
                pytest.skip(str(error))
            raise


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def played() -> AsyncIterator[Walkthrough]:
    """A lab of two nodes behind bridges in which the walkthrough has been played."""
    async with new_lab(kubectl=Cluster.find_kubectl()) as lab:
        walkthrough = Walkthrough(lab, Story(None))
        await walkthrough.play()
        yield walkthrough


@pytest.fixture(scope="module")
def lab(played: Walkthrough) -> RunningLab:
    """The lab the walkthrough was played in."""
    return played.lab
