"""One lab for all stories of a module: what they break, they break on identities and pods of their own."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from podidentity.config.errors import ConfigError
from podidentity.lab.cluster import Cluster
from podidentity.lab.outer import Wish, running_lab
from podidentity.lab.running import RunningLab
from podidentity.lab.scenarios.walkthrough import Walkthrough
from podidentity.lab.story import Story


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def played() -> AsyncIterator[Walkthrough]:
    """A lab of two nodes behind bridges in which the walkthrough has been played."""
    with tempfile.TemporaryDirectory(prefix="podidentity-e2e-") as folder:
        wish = Wish(Path(folder) / "lab", kubectl=Cluster.find_kubectl())
        try:
            async with running_lab(wish) as lab:
                walkthrough = Walkthrough(lab, Story(None))
                await walkthrough.play()
                yield walkthrough
        except ConfigError as error:
            if "refuses" in str(error):
                pytest.skip(str(error))
            raise


@pytest.fixture(scope="module")
def lab(played: Walkthrough) -> RunningLab:
    """The lab the walkthrough was played in."""
    return played.lab
