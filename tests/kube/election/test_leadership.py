"""Leader election in virtual time against an API in memory."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING

import msgspec
import pytest

from podidentity.aio.fence import FenceClosedError
from podidentity.api.core import Endpoints
from podidentity.api.meta import ObjectMeta
from podidentity.api.resources import ENDPOINTS, LEASES
from podidentity.kube.records import ANNOTATION

if TYPE_CHECKING:
    from tests.kube.election.conftest import MakeCandidate, MemoryApi

pytestmark = pytest.mark.looptime


async def test_first_start_takes_both(api: MemoryApi, candidate: MakeCandidate) -> None:
    """On an empty cluster the first candidate leads at once and both records have the original's fields."""
    one = candidate("one").start()
    await asyncio.wait_for(one.started.wait(), 1)
    assert api.record() == {
        "holderIdentity": "one",
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-02-02T02:40:00Z",
        "renewTime": "2026-02-02T02:40:00Z",
        "leaderTransitions": 0,
    }
    assert list(api.record()) == [
        "holderIdentity", "leaseDurationSeconds", "acquireTime", "renewTime", "leaderTransitions",
    ]  # fmt: skip
    assert api.lease().renewed.startswith("2026-02-02T02:40:00.")
    assert api.lease().renewed.endswith("Z")
    assert api.writes == [("one", "endpoints"), ("one", "leases")]
    assert one.fence.is_open
    assert one.transitions == [True]
    await one.stop()


async def test_renewal_keeps_acquire_time_and_period(api: MemoryApi, candidate: MakeCandidate) -> None:
    """A leader renews each quarter of the lease and keeps the time it acquired."""
    one = candidate("one").start()
    await asyncio.sleep(31)
    assert api.record()["acquireTime"] == "2026-02-02T02:40:00Z"
    assert api.record()["renewTime"] >= "2026-02-02T02:40:26Z"
    assert 7 <= api.writes.count(("one", "leases")) <= 10
    assert len(one.spans) == 1
    await one.stop()


async def test_m44_clean_hand_over(api: MemoryApi, candidate: MakeCandidate) -> None:
    """A cancelled leader ends its work, releases both records, and the standby leads within seconds."""
    one = candidate("one").start()
    await one.started.wait()
    two = candidate("two").start()
    await asyncio.sleep(40)
    assert not two.spans
    await one.stop()
    assert api.record()["holderIdentity"] == ""
    assert api.record()["leaseDurationSeconds"] == 1
    assert api.lease().holder == ""
    stopped = one.clock.monotonic()
    await asyncio.wait_for(two.started.wait(), 5)
    assert one.spans[-1][1] <= two.spans[0][0] <= stopped + 4.2
    assert api.record()["holderIdentity"] == "two"
    assert api.lease().transitions == 1
    assert one.transitions == [True, False]
    await two.stop()


async def test_silent_death(api: MemoryApi, candidate: MakeCandidate) -> None:
    """After a leader dies without a word the standby leads after its lease, not before, and not much later."""
    one = candidate("one").start()
    await one.started.wait()
    two = candidate("two").start()
    await asyncio.sleep(20)
    api.hanging.add("one")  # as if the process were gone: nothing of it reaches the API any more
    last = one.clock.monotonic()
    await asyncio.wait_for(two.started.wait(), 60)
    assert last + 15 - 3.75 <= two.spans[0][0] <= last + 15 + 4
    assert one.last_write < two.spans[0][0]
    await one.stop()
    await two.stop()


async def test_hanging_api_ends_leading_before_expiry(api: MemoryApi, candidate: MakeCandidate) -> None:
    """When the API hangs, lead() is cancelled by the renew deadline and the fence is closed, long before expiry."""
    one = candidate("one").start()
    await one.started.wait()
    await asyncio.sleep(10)
    hung = one.clock.monotonic()
    api.hanging.add("one")
    await asyncio.sleep(8)
    assert not one.fence.is_open
    assert one.spans[0][1] <= hung + 7.6
    assert one.last_write <= hung + 7.5
    api.hanging.clear()
    await one.stop()


async def test_lead_that_ignores_cancellation_may_not_write(api: MemoryApi, candidate: MakeCandidate) -> None:
    """Work that does not stop when told still finds the fence closed, measured, not announced."""
    one = candidate("one")
    allowed: list[float] = []

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                if len(allowed) > 10_000:
                    raise
            if one.fence.is_open:
                allowed.append(one.clock.monotonic())
            if one.clock.monotonic() > 40:
                return

    one.start(stubborn)
    await asyncio.sleep(10)
    api.hanging.add("one")
    await asyncio.sleep(20)
    assert allowed[-1] <= 17.6
    api.hanging.clear()
    await asyncio.sleep(20)
    await one.stop()


async def test_short_trouble_is_ridden_out(api: MemoryApi, candidate: MakeCandidate) -> None:
    """Errors shorter than the renew deadline do not interrupt the leader."""
    one = candidate("one").start()
    await one.started.wait()
    for _ in range(5):
        await asyncio.sleep(10)
        api.failing.add("one")
        await asyncio.sleep(3)
        api.failing.clear()
    assert len(one.spans) == 1
    assert one.fence.is_open
    await one.stop()


async def test_lost_answer_is_still_ours(api: MemoryApi, candidate: MakeCandidate) -> None:
    """A renewal whose answer got lost makes the next one a Conflict; the leader recognises its own record."""
    one = candidate("one").start()
    await one.started.wait()
    api.lose_answer = 2
    await asyncio.sleep(30)
    assert api.lose_answer == 0
    assert len(one.spans) == 1
    assert one.fence.is_open
    await one.stop()


async def test_conflict_by_a_foreign_edit_is_ridden_out(api: MemoryApi, candidate: MakeCandidate) -> None:
    """Somebody labels the Endpoints object: the record is unchanged, so the leader writes again and goes on."""
    one = candidate("one").start()
    await one.started.wait()
    old = api.objects["endpoints", "default/mic"]
    meta = msgspec.structs.replace(old.metadata, labels={"a": "b"})
    api.put(ENDPOINTS, msgspec.structs.replace(old, metadata=meta))
    await asyncio.sleep(10)
    assert len(one.spans) == 1
    assert api.objects["endpoints", "default/mic"].metadata.labels == {"a": "b"}
    await one.stop()


async def test_original_alive_keeps_us_out(api: MemoryApi, candidate: MakeCandidate) -> None:
    """While an original mic renews its Endpoints record we never lead, whatever its clock says; when it stops we do."""
    api.original("1999-01-01T00:00:00Z")
    one = candidate("one").start()
    for tick in range(20):
        await asyncio.sleep(3.75)
        api.original(f"1999-01-01T00:00:{tick:02d}Z")
    assert not one.spans
    assert ("leases", "default/mic") not in api.objects
    died = one.clock.monotonic()
    await asyncio.wait_for(one.started.wait(), 60)
    assert died + 15 - 0.1 <= one.spans[0][0] <= died + 15 + 8.3
    assert api.record()["leaderTransitions"] == 4
    await one.stop()


async def test_original_steals_the_record(api: MemoryApi, candidate: MakeCandidate) -> None:
    """An original that takes the Endpoints record (it saw us dead) ends our leading at the next renewal."""
    one = candidate("one").start()
    await one.started.wait()
    api.original("2026-02-02T02:40:01Z")
    await asyncio.sleep(4)
    assert not one.started.is_set()
    assert not one.fence.is_open
    assert one.transitions == [True, False]
    await one.stop()
    assert api.record()["holderIdentity"] == "old-mic"


async def test_lease_holder_alive(api: MemoryApi, candidate: MakeCandidate) -> None:
    """One who leads by the Lease alone keeps us out too; we hold the Endpoints record meanwhile and then both."""
    lone = candidate("lone", lock="leases").start()
    await lone.started.wait()
    assert api.writes == [("lone", "leases")]
    both = candidate("both").start()
    await asyncio.sleep(60)
    assert not both.spans
    assert api.record()["holderIdentity"] == "both"
    await lone.stop()
    await asyncio.wait_for(both.started.wait(), 10)
    await both.stop()
    assert api.record()["holderIdentity"] == ""


async def test_forbidden_lease_leaves_the_record_to_others(api: MemoryApi, candidate: MakeCandidate) -> None:
    """With the original's ClusterRole (no leases) we release the Endpoints record instead of blocking the original."""
    api.forbidden.add("leases")
    one = candidate("one").start()
    await asyncio.sleep(10)
    assert not one.spans
    assert api.record()["holderIdentity"] == ""
    api.forbidden.clear()
    await asyncio.wait_for(one.started.wait(), 30)
    await one.stop()


async def test_refused_for_a_moment(api: MemoryApi, candidate: MakeCandidate) -> None:
    """An API server that has just started refuses before it knows its roles: that costs one look, not a lease."""
    api.forbidden.update({"endpoints", "leases"})
    one = candidate("one").start()
    await asyncio.sleep(1)
    assert one.leadership.refused
    api.forbidden.clear()
    await asyncio.wait_for(one.started.wait(), 5)
    assert not one.leadership.refused
    await one.stop()


async def test_twin_with_our_name(api: MemoryApi, candidate: MakeCandidate) -> None:
    """A second process with the same identity never leads at the same time: a name alone proves nothing."""
    one, twin = candidate("same"), candidate("same")
    one.start()
    await one.started.wait()
    twin.start()
    await asyncio.sleep(60)
    assert not twin.spans
    assert len(one.spans) == 1
    await one.stop()
    await twin.stop()


async def test_restart_with_our_name(api: MemoryApi, candidate: MakeCandidate) -> None:
    """A process that comes back under its own name leads after half a lease: its predecessor has given up by then."""
    api.original("2026-01-01T00:00:00Z", holder="one")
    one = candidate("one").start()
    await asyncio.wait_for(one.started.wait(), 9)
    assert one.spans[0][0] >= 7.4
    await one.stop()


async def test_unreadable_record_is_waited_out(api: MemoryApi, candidate: MakeCandidate) -> None:
    """A record that is no JSON is neither ignored nor fatal: it is dead when unchanged for our lease."""
    meta = ObjectMeta(name="mic", namespace="default", annotations={ANNOTATION: "{not json"})
    api.put(ENDPOINTS, Endpoints(metadata=meta))
    one = candidate("one").start()
    await asyncio.sleep(14)
    assert not one.spans
    await asyncio.wait_for(one.started.wait(), 10)
    await one.stop()


async def test_objects_deleted_under_the_leader(api: MemoryApi, candidate: MakeCandidate) -> None:
    """Somebody deletes both objects: the leader makes them again without an interruption."""
    one = candidate("one").start()
    await one.started.wait()
    api.objects.clear()
    await asyncio.sleep(8)
    assert api.record()["holderIdentity"] == "one"
    assert api.lease().holder == "one"
    assert len(one.spans) == 1
    await one.stop()


async def test_lead_returns_and_raises(api: MemoryApi, candidate: MakeCandidate) -> None:
    """lead() that ends gives the locks back and contends again; its exception comes out after the release."""
    calls = 0

    async def short() -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(1)
        if calls == 2:
            raise RuntimeError("bug")

    one = candidate("one").start(short)
    assert one.task is not None
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(one.task, 60)
    assert calls == 2
    assert caught.group_contains(RuntimeError, match="bug")
    assert api.record()["holderIdentity"] == ""
    assert one.transitions == [True, False, True, False]


@pytest.mark.parametrize("seed", range(4))
async def test_never_two_writers(api: MemoryApi, candidate: MakeCandidate, seed: int) -> None:
    """Three candidates with hangs, failures and restarts at random: no two ever write at the same time."""
    rng = random.Random(seed)
    names = ["a", "b", "c"]
    group = [candidate(name) for name in names]
    for one in group:
        one.start()
    both = 0
    for _ in range(300):
        await asyncio.sleep(rng.choice((0.3, 1, 3)))
        both = max(both, sum(one.fence.is_open for one in group))
        roll, name = rng.random(), rng.choice(names)
        if roll < 0.1:
            (api.hanging if rng.random() < 0.5 else api.failing).add(name)
        elif roll < 0.2:
            api.failing.clear()
        elif roll < 0.23:
            api.lose_answer = 1
        if rng.random() < 0.15:
            api.hanging.clear()
    assert both == 1
    api.hanging.clear()
    api.failing.clear()
    for one in group:
        await one.stop()
    spans = sorted(tuple(span) for one in group for span in one.spans)
    assert len(spans) > 3
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))


async def test_cancelled_while_taking_the_second_lock(api: MemoryApi, candidate: MakeCandidate) -> None:
    """SIGTERM between a write and its answer: what the API took is released too, nobody waits for it to expire."""
    api.answer_after = 0.005
    for moment in (0.012, 0.022, 0.028, 0.04, 0.043):
        one = candidate(f"at {moment}").start()
        await asyncio.sleep(moment)
        await one.stop()
        for plural in ("endpoints", "leases"):
            if (plural, "default/mic") in api.objects:
                holder = api.record()["holderIdentity"] if plural == "endpoints" else api.lease().holder
                assert holder == "", (moment, plural)
        api.objects.clear()


async def test_cancelled_while_a_write_is_held_back(api: MemoryApi, candidate: MakeCandidate) -> None:
    """SIGTERM in the same instant as FenceClosedError still ends the process, and releases."""

    async def held_back() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            raise FenceClosedError

    one = candidate("one").start(held_back)
    await asyncio.sleep(5)
    async with asyncio.timeout(20):
        await one.stop()
    assert one.task is not None
    assert one.task.cancelled()
    assert api.record()["holderIdentity"] == ""


async def test_a_write_held_back_ends_leading_quietly(api: MemoryApi, candidate: MakeCandidate) -> None:
    """FenceClosedError out of lead(), however deep, is the end of leading, not of the process; it contends again."""
    rounds: list[float] = []

    async def deep() -> None:
        rounds.append(one.clock.monotonic())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(1000))
            await asyncio.sleep(1)
            if len(rounds) == 1:
                raise FenceClosedError

    one = candidate("one").start(deep)
    await asyncio.sleep(5)
    assert len(rounds) == 2
    assert one.transitions == [True, False, True]
    assert one.fence.is_open
    await one.stop()
    assert not one.fence.is_open


def test_lease_resource_is_the_standard_one() -> None:
    """The Lease is coordination.k8s.io/v1 in the namespace asked for."""
    assert LEASES.path("default", "mic") == "/apis/coordination.k8s.io/v1/namespaces/default/leases/mic"
