"""Tokens as they are answered, and what is asked for an identity."""

from __future__ import annotations

import pytest
from tests.nmi.conftest import Make
from tests.nmi.fakes import jwt

from podidentity.nmi.grants import NO_OTHER_NAMESPACE, object_id_of, request_for
from podidentity.nmi.tokens.source import Token, TokenRefused


async def test_answer_counts_down_and_hides_the_token() -> None:
    """expires_in is counted from now on each answer; the token's text form shows nothing."""
    token = Token("secret-token", 2000, "r", client_id="c", ext_expires_in=0)
    assert b'"expires_in":"1000"' in token.answer(1000.2).body
    assert token.answer(1000.9) is token.answer(1000.3)
    assert b'"expires_in":"990"' in token.answer(1010).body
    assert b'"expires_in":"0"' in token.answer(3000).body
    assert "secret" not in f"{token!r}{token}"


async def test_identity_that_names_nothing_is_not_the_nodes_own() -> None:
    """An AzureIdentity without ids never becomes a request for the node's default identity."""
    identity = Make.identity(client_id="")
    bare = type(identity)(metadata=identity.metadata)
    with pytest.raises(TokenRefused, match="neither clientID nor resourceID"):
        request_for(bare, "r", "pod", NO_OTHER_NAMESPACE)
    assert request_for(identity, "r", "pod", NO_OTHER_NAMESPACE).resource_id


@pytest.mark.parametrize("text", ["", "a.b", "a.!!.c", "a.e30.c", "a.W10.c", "a.bnVsbA.c", "x" * 9000])
async def test_object_id_of_odd_tokens(text: str) -> None:
    """A token that is no JWT, or has no oid, has an empty object id."""
    assert object_id_of(text) == ""
    assert object_id_of(jwt(oid="ABC")) == "abc"
