"""The walkthrough's main job, checked claim by claim."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from tests.e2e.processes import run

from podidentity.lab.scenarios.walkthrough import POD, SECRET, Walkthrough

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


async def test_validate_in_a_pod(played: Walkthrough) -> None:
    """`podidentity validate` in the walkthrough's pod: documents, tokens each way, and the secret with each token."""
    spec, identity = played.lab.spec, played.identity
    assert identity is not None
    flags = ["--client-id", identity.properties.client_id, "--resource-id", identity.id]
    flags += ["--vault-url", f"https://{spec.vault}.vault.azure.net", "--secret", SECRET]
    answer = await played.lab.cluster.run(POD, sys.executable, "-m", "podidentity", "validate", *flags, "--json")
    found = json.loads(answer.text)
    assert [one["what"] for one in found if not one["holds"]] == []
    assert len(found) == 7
    assert played.value not in answer.text
    wrong = ["--client-id", "00000000-0000-0000-0000-000000000000", "--tries", "1"]
    answer = await played.lab.cluster.run(POD, sys.executable, "-m", "podidentity", "validate", *wrong)
    assert answer.code == 1
    assert "FAILED" in answer.text
    assert "with neither id" in answer.text


async def typed(played: Walkthrough, *words: str) -> tuple[int | None, Any]:
    """Run podidentity as a person with the lab's kubeconfig; the exit code and what it printed as JSON."""
    more = ("--output", "json", "--kubeconfig", str(played.lab.layout.kubeconfig))
    code, output, errors = await run(*words, *more)
    assert output, errors
    return code, json.loads(output)


async def test_explain_looks_into_the_agent(played: Walkthrough) -> None:
    """The whole chain of the walkthrough's pod holds, down to what its node's agent says of itself."""
    code, found = await typed(played, "explain", POD)
    states = {link["name"]: link["state"] for link in found["links"]}
    assert (code, found["healthy"], set(states.values())) == (0, True, {"ok"}), found
    (agent,) = [link for link in found["links"] if link["name"] == "node agent"]
    assert agent["evidence"].endswith("is ready, the node's redirect is in place")


async def test_doctor_hears_the_components(played: Walkthrough) -> None:
    """Both mic and nmi are asked; of a lab behind bridges it says what there is to say of one, and nothing else."""
    code, found = await typed(played, "doctor")
    rules = {one["rule"].partition("-")[0] for one in found["findings"]}
    assert (code, rules, found["unseen"]) == (1, {"PI044", "PI047", "PI053"}, []), found
