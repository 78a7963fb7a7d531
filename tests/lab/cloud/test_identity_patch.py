"""What a PATCH of a host's identity means, as a pure reading of its body."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.lab.cloud.conftest import APP1, APP2, SUB

from podidentity.lab.cloud import ids
from podidentity.lab.cloud.arm.identity_patch import read_identity
from podidentity.lab.cloud.wire import ServiceError


def body(kind: object, users: object) -> bytes:
    """A PATCH body."""
    return json.dumps({"identity": {"type": kind, "userAssignedIdentities": users}}).encode()


def refusal(data: bytes) -> dict[str, object]:
    """The error that a body is refused with."""
    with pytest.raises(ServiceError) as caught:
        read_identity(data)
    answer = caught.value.reply.body
    assert isinstance(answer, dict)
    return answer["error"]


def test_objects_add_and_nulls_remove() -> None:
    """Protects the one rule everything rests on: {} adds, null removes."""
    change = read_identity(body("systemassigned,UserAssigned", {APP1: {}, APP2: None}))
    assert change is not None
    assert (change.system, change.user) == (True, True)
    assert (change.add, change.remove) == ((APP1,), frozenset({ids.fold(APP2)}))


def test_a_body_without_identity_changes_none() -> None:
    """Protects a PATCH of tags from touching identities."""
    assert read_identity(b'{"tags": {"a": "b"}}') is None


def test_removing_the_last_the_way_the_command_line_does() -> None:
    """Protects `az vm identity remove`, which sends a null for the whole map and the type None."""
    change = read_identity(b'{"identity":{"userAssignedIdentities":null,"type":"None"}}')
    assert change is not None
    assert (change.system, change.user, change.add, change.remove) == (False, False, (), frozenset())


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"{", "InvalidRequestContent"),
        (b"[]", "InvalidRequestContent"),
        (b"\xff\xfe\x00", "InvalidRequestContent"),
        (b'{"identity": 3}', "InvalidRequestContent"),
        (b"[" * 100_000, "InvalidRequestContent"),
        (body("UserAssigned", [APP1]), "InvalidRequestContent"),
        (body("UserAssigned", {APP1: 1}), "InvalidRequestContent"),
        (body(None, {APP1: {}}), "InvalidParameter"),
        (body("Whatever", {APP1: {}}), "InvalidParameter"),
        (body("None, UserAssigned", {APP1: {}}), "InvalidParameter"),
        (body("SystemAssigned", {APP1: {}}), "InvalidParameter"),
        (body("UserAssigned", {"app1": {}}), "LinkedInvalidPropertyId"),
        (body("UserAssigned", {APP1 + "/x": {}}), "LinkedInvalidPropertyId"),
        (body("UserAssigned", {APP1: {}, APP1.upper(): None}), "InvalidParameter"),
    ],
)
def test_bodies_that_are_refused(data: bytes, code: str) -> None:
    """Protects clients from a simulator that accepts what ARM does not."""
    assert refusal(data)["code"] == code


def test_a_key_sent_twice_is_seen() -> None:
    """Protects against a duplicate that a JSON parser would silently merge."""
    data = f'{{"identity":{{"type":"UserAssigned","userAssignedIdentities":{{"{APP1}":{{}},"{APP1}":null}}}}}}'
    assert refusal(data.encode())["target"] == "resourceIdentity.identityIds"


def test_one_more_than_the_limit() -> None:
    """Protects the limit of 150 in one request, with the real words."""
    users = {f"{APP1}{number}": {} for number in range(151)}
    assert refusal(body("UserAssigned", users))["message"] == (
        "User Assigned Identities Number '151' Assign exceed limit '150' in one request."
    )
    del users[f"{APP1}0"]
    assert read_identity(body("UserAssigned", users)) is not None


documents = st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.dictionaries(st.text(), inner))


@given(st.binary(max_size=200) | documents.map(json.dumps).map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Protects the server from a body that makes it fail otherwise than with ARM's error."""
    with contextlib.suppress(ServiceError):
        assert read_identity(data) is None


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True), st.booleans(), max_size=20))
def test_every_listed_identity_is_either_added_or_removed(users: dict[str, bool]) -> None:
    """Protects the partition: nothing listed is lost, nothing is in both halves."""
    base = f"/subscriptions/{SUB}/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/"
    change = read_identity(body("UserAssigned", {base + name: {} if add else None for name, add in users.items()}))
    assert change is not None
    added = {ids.fold(name) for name in change.add}
    assert added | change.remove == {ids.fold(base + name) for name in users}
    assert not added & change.remove
