"""The walkthrough's main job, checked claim by claim."""

from __future__ import annotations

import pytest

from podidentity.lab.scenarios.walkthrough import Walkthrough

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


async def test_every_claim_of_the_demo_holds(played: Walkthrough) -> None:
    """The demo proves what it says: the secret is equal, the unlabelled pod refused, IMDS untouched by pods."""
    broken = [(claim, evidence) for claim, holds, evidence in played.story.claims if not holds]
    assert not broken
    assert len(played.story.claims) >= 7


async def test_the_secret_is_random_and_never_the_walkthroughs_own(played: Walkthrough) -> None:
    """A value that could have been hard-coded would prove nothing."""
    assert played.value != Walkthrough(played.lab, played.story).value
    assert not played.value.startswith("e+9q")


async def test_the_file_is_the_secret_without_a_newline(played: Walkthrough) -> None:
    """W17: byte for byte, nothing added."""
    answer = await played.lab.cluster.run("nginx-secrets-store-inline", "cat", "/mnt/secrets-store/kvs-test01")
    assert (answer.text, answer.code) == (played.value, 0)
