"""What a pod gets, tried and told."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from podidentity.azure.errors import AzureUnavailable, KeyVaultError, TokenError
from podidentity.azure.imds import ImdsResponse, ImdsToken
from podidentity.azure.keyvault import SecretBundle
from podidentity.insight.validate import DOCUMENT, Wish, validate

CLIENT = "aaaaaaaa-0000-0000-0000-000000000001"
EARLY = TokenError(404, "invalid_request", "Identity not found")

pytestmark = pytest.mark.looptime


class Pod:
    """A stand-in for the metadata service and a vault; ``errors`` come before answers."""

    def __init__(self, *errors: Exception, document: int = 200, vault: Exception | None = None) -> None:
        self.errors = list(errors)
        self.document = document
        self.vault = vault
        self.asked: list[tuple[str, str, str]] = []

    async def token(self, resource: str, *, client_id: str = "", resource_id: str = "") -> ImdsToken:
        """A token."""
        self.asked.append((resource, client_id, resource_id))
        if self.errors:
            raise self.errors.pop(0)
        return ImdsToken(access_token="the-token", client_id=CLIENT, expires_in="3599")

    async def forward(
        self, method: str, raw_target: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> ImdsResponse:
        """A document."""
        assert (method, raw_target, list(headers)) == ("GET", DOCUMENT, [("Metadata", "true")])
        return ImdsResponse(self.document, (), b'{"compute": {}}')

    async def secret(self, vault_url: str, name: str, version: str, token: str) -> SecretBundle:
        """A secret."""
        assert (vault_url, name, version, token) == ("https://kv", "s", "", "the-token")
        if self.vault is not None:
            raise self.vault
        return SecretBundle(value="hush", id="https://kv/secrets/s/v1", version="v1")


async def test_every_way_is_tried_and_nothing_is_given_away() -> None:
    """Protects the table: each way of naming the identity is asked, and neither token nor secret is in it."""
    pod = Pod()
    found = await validate(Wish(CLIENT, "/subscriptions/s/id", "r", "https://kv", "s"), pod, pod)
    assert [one.what for one in found] == [
        "documents of the node",
        "token by client id",
        "secret s by client id",
        "token by resource id",
        "secret s by resource id",
        "token with neither id",
        "secret s with neither id",
    ]
    assert all(one.holds and one.tries == 1 for one in found)
    assert ("r", CLIENT, "") in pod.asked
    assert ("https://vault.azure.net", "", "/subscriptions/s/id") in pod.asked
    text = str(found)
    assert "the-token" not in text
    assert "hush" not in text
    assert "version v1" in text


async def test_an_identity_that_comes_late_is_waited_for() -> None:
    """Protects a pod that starts before its assignment: `Identity not found` is tried again, other errors are not."""
    pod = Pod(EARLY, EARLY)
    found = await validate(Wish(), pod, pod)
    assert [(one.holds, one.tries) for one in found] == [(True, 1), (True, 3)]
    assert 20 <= found[1].seconds < 21
    pod = Pod(AzureUnavailable("no route"))
    found = await validate(Wish(tries=5), pod, pod)
    assert (found[1].holds, found[1].tries, found[1].evidence) == (False, 1, "no route")
    pod = Pod(*[EARLY] * 9)
    found = await validate(Wish(tries=2, pause=1), pod, pod)
    assert (found[1].holds, found[1].tries) == (False, 2)
    assert "Identity not found" in found[1].evidence


@pytest.mark.parametrize(("status", "holds"), [(200, True), (403, True), (404, False), (500, False)])
async def test_the_documents(status: int, holds: bool) -> None:
    """Protects the reading of a blocked document: it is a choice of the node's owner, no fault."""
    found = await validate(Wish(), Pod(document=status), Pod())
    assert found[0].holds is holds
    assert str(status) in found[0].evidence


async def test_a_vault_that_refuses_is_named() -> None:
    """Protects the person who looks for the fault: a token that works is told apart from a right that is missing."""
    refusal = KeyVaultError(403, "ForbiddenByRbac", "no right")
    found = await validate(Wish(vault_url="https://kv", secret="s"), Pod(), Pod(vault=refusal))
    assert [(one.what, one.holds) for one in found[1:]] == [
        ("token with neither id", True),
        ("secret s with neither id", False),
    ]
    assert "ForbiddenByRbac" in found[2].evidence
