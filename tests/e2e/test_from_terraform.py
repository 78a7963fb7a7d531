"""The walkthrough from terraform's outputs alone: roles, manifests, secret."""

from __future__ import annotations

import pytest
from tests.e2e.conftest import new_lab

from podidentity.lab.cluster import Cluster
from podidentity.lab.scenarios.from_terraform import FromTerraform
from podidentity.lab.story import Story

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


async def test_from_the_outputs_to_the_secret() -> None:
    """`make demo DEMO_ARGS=--full`: the roles of `roles apply` are enough for mic, and the manifests for the secret."""
    async with new_lab(kubectl=Cluster.find_kubectl(), nodes=1) as lab:
        story = Story(None)
        await FromTerraform(lab, story).play()
        broken = [(claim, evidence) for claim, holds, evidence in story.claims if not holds]
        assert not broken
        assert len(story.claims) >= 10
