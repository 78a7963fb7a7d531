"""The leader's record: its two forms and what follows from one."""

from __future__ import annotations

import pytest

from podidentity.api.core import Endpoints, Lease
from podidentity.api.meta import ObjectMeta
from podidentity.kube.records import (
    ANNOTATION,
    ENDPOINTS_FORM,
    LEASE_FORM,
    Record,
    micro_stamp,
    next_record,
    patience,
    read_endpoints,
    read_lease,
    released,
    seconds_stamp,
    write_endpoints,
    write_lease,
)

HELD = Record("me", 15, "2026-01-01T00:00:00Z", "2026-01-01T00:00:05Z", 4)


def annotated(text: str) -> Endpoints:
    """An Endpoints object with this record."""
    return Endpoints(
        metadata=ObjectMeta(name="mic", namespace="default", annotations={ANNOTATION: text, "other": "kept"})
    )


def test_the_originals_text() -> None:
    """The annotation is byte for byte what the original's library writes, and other annotations stay."""
    text = (
        '{"holderIdentity":"me","leaseDurationSeconds":15,"acquireTime":"2026-01-01T00:00:00Z",'
        '"renewTime":"2026-01-01T00:00:05Z","leaderTransitions":4}'
    )
    written = write_endpoints(annotated(""), HELD)
    assert written.metadata.annotations == {ANNOTATION: text, "other": "kept"}
    assert read_endpoints(written) == HELD


@pytest.mark.parametrize("record", [HELD, Record("", 1, "", "", 0)])
def test_round_trips(record: Record) -> None:
    """Both forms give back what was put in."""
    assert read_endpoints(write_endpoints(ENDPOINTS_FORM.empty("ns", "n"), record)) == record
    assert read_lease(write_lease(LEASE_FORM.empty("ns", "n"), record)) == record


def test_no_record() -> None:
    """An object without the annotation, an empty one and an untouched Lease carry no record."""
    assert read_endpoints(Endpoints()) is None
    assert read_endpoints(annotated("")) is None
    assert read_lease(Lease()) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"holderIdentity":7}', "\ud800"])
def test_unreadable(text: str) -> None:
    """Garbage is somebody's: it has a holder, so it is not free at once, and it changes when the garbage does."""
    found = read_endpoints(annotated(text))
    assert found is not None
    assert found.holder
    assert patience(found, identity="me", duration=15) == 15
    assert found != read_endpoints(annotated(text + " "))


def test_null_times() -> None:
    """The original's library writes null for a time it does not know."""
    found = read_endpoints(annotated('{"holderIdentity":"x","acquireTime":null,"renewTime":null,"new":1}'))
    assert found == Record("x", 0, "", "", 0)


def test_stamps() -> None:
    """Whole seconds for Endpoints, microseconds for a Lease, always UTC."""
    assert seconds_stamp(1_770_000_000.999) == "2026-02-02T02:40:00Z"
    assert micro_stamp(1_770_000_000.25) == "2026-02-02T02:40:00.250000Z"


def test_next() -> None:
    """A renewal keeps its beginning and its count; a change of leader starts anew and counts up; durations round up."""
    assert next_record(None, holder="me", duration=1.2, now="n", ours=False) == Record("me", 2, "n", "n", 0)
    assert next_record(HELD, holder="me", duration=15, now="n", ours=True) == Record("me", 15, HELD.acquired, "n", 4)
    assert next_record(HELD, holder="me", duration=15, now="n", ours=False) == Record("me", 15, "n", "n", 5)
    assert released(HELD, "n") == Record("", 1, "n", "n", 4)


def test_patience() -> None:
    """Another's record lives for its own duration, a released one not at all, one of our name half as long."""
    assert patience(HELD, identity="other", duration=60) == 15
    assert patience(HELD, identity="me", duration=60) == 7.5
    assert patience(released(HELD, "n"), identity="x", duration=60) == 0
    assert patience(Record("x", -3, "", "", 0), identity="me", duration=60) == 60
