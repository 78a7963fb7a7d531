"""Secrets never show."""

from __future__ import annotations

import copy
import json
import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podidentity.config.redact import REDACTED, SecretText, redact_client_id


def test_client_ids_show_their_ends_only() -> None:
    """A client id is recognisable and not usable; a short one shows nothing at all."""
    assert redact_client_id("ae95a5b2-0000-1111-2222-33334444 5f1d") == "ae95##### REDACTED #####5f1d"
    assert redact_client_id("12345678") == "1234##### REDACTED #####5678"
    assert redact_client_id("1234567") == redact_client_id("") == REDACTED


@given(st.text(alphabet="qxyz", min_size=3))
def test_no_way_of_writing_shows_a_secret(value: str) -> None:
    """str, repr, every format and containers show the same words for every secret."""
    secret = SecretText(value)
    shown = {str(secret), repr(secret), f"{secret}", f"{secret!r}", "%s" % secret, str([secret])[1:-1]}  # noqa: UP031 - one more way
    assert shown == {REDACTED}
    assert value not in f"{secret:>40}"
    assert secret.reveal() == value


def test_secrets_are_not_serialised() -> None:
    """Neither JSON encoder, nor pickle, nor copy takes a secret along."""
    secret = SecretText("hunter2")
    for write in (json.dumps, msgspec.json.encode, pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError) as error:
            write(secret)  # type: ignore[operator]  # any callable
        assert "hunter2" not in str(error.value)


def test_secrets_compare_by_value() -> None:
    """Equal secrets are equal and hash alike, an empty one is false, and a text is never a secret."""
    assert SecretText("a") == SecretText("a") != SecretText("b")
    assert len({SecretText("a"), SecretText("a")}) == 1
    assert not SecretText("")
    assert SecretText("a") != "a"
    assert SecretText("\ud800") == SecretText("\ud800")
    assert not hasattr(SecretText("a"), "__dict__")
