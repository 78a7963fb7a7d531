"""Histories: exactly the newest enabled versions, in an order that does not change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podidentity.azure.keyvault import ObjectVersion
from podidentity.csi.errors import MountError
from podidentity.csi.versions import newest

VERSIONS = (
    ObjectVersion("b", enabled=True, created=20),
    ObjectVersion("d", enabled=False, created=40),
    ObjectVersion("a", enabled=True, created=10),
    ObjectVersion("c", enabled=True, created=30),
)


@pytest.mark.parametrize(
    ("count", "start", "expected"),
    [
        (2, "", ("c", "b")),
        (3, "", ("c", "b", "a")),
        (9, "", ("c", "b", "a")),
        (2, "b", ("b", "a")),
        (2, "B", ("b", "a")),
        (2, "a", ("a",)),
    ],
)
def test_newest_first(count: int, start: str, expected: tuple[str, ...]) -> None:
    """Exactly N, newest first, disabled skipped, from the named version on."""
    assert newest(VERSIONS, count, start) == expected


@pytest.mark.parametrize(
    ("start", "expected"), [("d", "version d is disabled"), ("x", "version x is not in the vault")]
)
def test_k1_a_named_version_that_cannot_be_mounted(start: str, expected: str) -> None:
    """A named version that is absent or disabled is an error, not an empty folder (contract 6.9, defect 1)."""
    with pytest.raises(MountError, match=expected):
        newest(VERSIONS, 2, start)


def test_nothing_enabled() -> None:
    """An object without enabled version is an error."""
    with pytest.raises(MountError, match="no enabled version"):
        newest([ObjectVersion("a", enabled=False, created=1)], 2)


@given(st.lists(st.builds(ObjectVersion, st.text("abc", min_size=1, max_size=4), st.booleans(), st.integers(0, 3))))
def test_k2_the_order_does_not_depend_on_the_vaults(versions: list[ObjectVersion]) -> None:
    """Versions with equal or missing times come in one order, whatever order the vault lists them in (defect 2)."""
    unique = list({one.version: one for one in versions}.values())
    if any(one.enabled for one in unique):
        assert newest(unique, 5) == newest(unique[::-1], 5)
