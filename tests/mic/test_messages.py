"""Texts for users."""

from __future__ import annotations

from podidentity.mic.messages import gist


def test_two_attempts_with_one_cause_have_one_gist() -> None:
    """Entra ID stamps every answer anew; a retry that fails alike must not tell users again."""
    first, second = (
        f"AADSTS7000215: Invalid client secret. Trace ID: {one}-0000-4000-8000-000000000000 "
        f"Correlation ID: {one}-1111-4000-8000-000000000000 Timestamp: 2026-11-23 22:04:0{one[0]}Z"
        for one in ("1aaaaaaa", "2bbbbbbb")
    )
    assert first != second
    assert gist(first) == gist(second)


def test_another_identity_is_another_cause() -> None:
    """Ids that say what the trouble is about stay in."""
    text = "does not have permission on the linked scope(s) '/subscriptions/{}/resourceGroups/g'"
    one, two = (text.format(f"{digit}0000000-0000-4000-8000-000000000000") for digit in "12")
    assert gist(one) != gist(two)
