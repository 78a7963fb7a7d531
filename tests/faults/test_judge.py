"""The judge of the fault tables condemns what it must: one that finds everything innocent proves nothing."""

from __future__ import annotations

from tests.faults.judge import Kind, Made, Seen, judge


def seen(at: float, kind: Kind, holder: str) -> Seen:
    """A record read right after it was written."""
    return Seen(at, kind, holder, at - 0.01)


def both(at: float, holder: str) -> list[Seen]:
    """Both records, written one after the other."""
    return [seen(at, "endpoints", holder), seen(at + 0.02, "leases", holder)]


def write(at: float, source: str) -> Made:
    """A write seen as it arrived."""
    return Made(at, at, source, "PATCH")


LEASE = 4.0
HAND_OVER = [*both(100, "one"), *both(101, "one"), *both(110, "two"), *both(111, "two")]


def test_the_leader_may_write() -> None:
    """Writes of the holder, also right at the change, are nobody's fault."""
    found = judge(
        HAND_OVER, [write(100.5, "one"), write(102.9, "one"), write(109.9, "two"), write(111.9, "two")], LEASE
    )
    assert (found.writes, found.foreign, found.late) == (4, (), ())


def test_a_woken_leader_is_condemned() -> None:
    """A write of the old leader under the new one is foreign, and late by its own deadline."""
    bad = write(110.5, "one")
    found = judge(HAND_OVER, [bad], LEASE)
    assert (found.foreign, found.late) == ((bad,), (bad,))


def test_an_expired_record_is_no_leadership() -> None:
    """A write long after the last renewal is foreign although nobody took over yet; one shortly after it is late."""
    late, foreign = write(103.5, "one"), write(106, "one")
    found = judge(HAND_OVER, [late, foreign], LEASE)
    assert (found.foreign, found.late) == ((foreign,), (late, foreign))


def test_one_record_is_not_enough() -> None:
    """Whoever holds the Lease while the original holds the Endpoints record may not write."""
    records = [*both(100, "one"), seen(101, "endpoints", "original"), seen(101.5, "leases", "one")]
    bad = write(101.6, "one")
    assert judge(records, [bad], LEASE).foreign == (bad,)


def test_a_released_record_is_held_by_nobody() -> None:
    """After a release a write is foreign, unless we may have seen it late."""
    records = [*both(100, "one"), *both(101, "")]
    bad, stalled = write(101.5, "one"), Made(100.9, 101.5, "one", "PATCH")
    assert judge(records, [bad, stalled], LEASE).foreign == (bad,)
