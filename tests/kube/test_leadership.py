"""Leader election in virtual time against an API in memory."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from podidentity.aio.clock import Clock, loop_clock
from podidentity.api.core import Endpoints, Lease
from podidentity.api.meta import KubeObject, ObjectMeta
from podidentity.api.resources import ENDPOINTS, LEASES, Resource
from podidentity.kube.errors import AlreadyExists, Conflict, Forbidden, KubeUnavailable, NotFound
from podidentity.kube.leadership import ElectionSettings, Leadership
from podidentity.kube.records import ANNOTATION, Record, read_lease, write_endpoints

START = 1_770_000_000.25
pytestmark = pytest.mark.looptime


class MemoryApi:
    """Objects with resource versions; can hang, fail or forbid."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], KubeObject] = {}
        self.version = 0
        self.hanging: set[str] = set()
        self.failing: set[str] = set()
        self.forbidden: set[str] = set()
        self.lose_answer = 0
        self.writes: list[tuple[str, str]] = []

    def client(self, name: str) -> Any:
        """A client of its own for one candidate."""
        return MemoryClient(self, name)

    def put(self, resource: Resource[Any], obj: KubeObject) -> KubeObject:
        """Store an object with a new version."""
        self.version += 1
        meta = msgspec.structs.replace(obj.metadata, resource_version=str(self.version))
        stored = msgspec.structs.replace(obj, metadata=meta)
        self.objects[resource.plural, obj.key] = stored
        return stored

    def record(self) -> dict[str, Any]:
        """The Endpoints record as JSON."""
        annotations = self.objects["endpoints", "default/mic"].metadata.annotations
        found: dict[str, Any] = json.loads(annotations[ANNOTATION])
        return found

    def lease(self) -> Record:
        """The Lease's record."""
        obj = self.objects["leases", "default/mic"]
        assert isinstance(obj, Lease)
        record = read_lease(obj)
        assert record is not None
        return record


class MemoryClient:
    """The part of KubeClient that leadership uses."""

    def __init__(self, api: MemoryApi, name: str) -> None:
        self.api = api
        self.name = name

    async def _gate(self, resource: Resource[Any]) -> None:
        await asyncio.sleep(0.01)
        while self.name in self.api.hanging:  # noqa: ASYNC110 - the test ends it by cancelling or clearing
            await asyncio.sleep(1000)
        if self.name in self.api.failing:
            raise KubeUnavailable("connection refused")
        if resource.plural in self.api.forbidden:
            raise Forbidden(403, "Forbidden", f"{resource.plural} is forbidden")

    async def get(self, resource: Resource[Any], name: str, namespace: str = "") -> KubeObject:
        """Read."""
        await self._gate(resource)
        try:
            return self.api.objects[resource.plural, f"{namespace}/{name}"]
        except KeyError:
            raise NotFound(404, "NotFound", "not found") from None

    async def create(self, resource: Resource[Any], obj: KubeObject) -> KubeObject:
        """Create."""
        await self._gate(resource)
        if (resource.plural, obj.key) in self.api.objects:
            raise AlreadyExists(409, "AlreadyExists", "exists")
        return self._store(resource, obj)

    async def replace(self, resource: Resource[Any], obj: KubeObject) -> KubeObject:
        """Replace."""
        await self._gate(resource)
        old = self.api.objects.get((resource.plural, obj.key))
        if old is None:
            raise NotFound(404, "NotFound", "not found")
        if old.metadata.resource_version != obj.metadata.resource_version:
            raise Conflict(409, "Conflict", "modified")
        stored = self._store(resource, obj)
        if self.api.lose_answer:
            self.api.lose_answer -= 1
            raise KubeUnavailable("reset")
        return stored

    def _store(self, resource: Resource[Any], obj: KubeObject) -> KubeObject:
        self.api.writes.append((self.name, resource.plural))
        return self.api.put(resource, obj)


class Candidate:
    """One process that contends; ``spans`` is when it led, in seconds of virtual time."""

    def __init__(self, api: MemoryApi, name: str, *, lock: str = "endpointsleases", duration: float = 15) -> None:
        self.clock: Clock = loop_clock(START)
        self.settings = ElectionSettings(name, "default", "mic", duration, lock)
        self.transitions: list[bool] = []
        self.leadership = Leadership(
            api.client(name),
            self.settings,
            clock=self.clock,
            rng=random.Random(name),
            on_transition=self.transitions.append,
        )
        self.spans: list[list[float]] = []
        self.started = asyncio.Event()
        self.last_write = -1.0
        self.task: asyncio.Task[None] | None = None

    async def lead(self) -> None:
        """Write each 0.1 s while allowed."""
        self.spans.append([self.clock.monotonic()])
        self.started.set()
        try:
            while True:
                if self.leadership.may_write():
                    self.last_write = self.clock.monotonic()
                await asyncio.sleep(0.1)
        finally:
            self.spans[-1].append(self.clock.monotonic())
            self.started.clear()

    def start(self, lead: Callable[[], Awaitable[None]] | None = None) -> Candidate:
        """Contend in the background."""
        self.task = asyncio.get_running_loop().create_task(self.leadership.run(lead or self.lead))
        return self

    async def stop(self) -> None:
        """Cancel, as SIGTERM does."""
        assert self.task is not None
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


async def test_first_start_takes_both() -> None:
    """On an empty cluster the first candidate leads at once and both records have the original's fields."""
    api = MemoryApi()
    one = Candidate(api, "one").start()
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
    assert one.leadership.may_write()
    assert one.transitions == [True]
    await one.stop()


async def test_renewal_keeps_acquire_time_and_period() -> None:
    """A leader renews each quarter of the lease and keeps the time it acquired."""
    api = MemoryApi()
    one = Candidate(api, "one").start()
    await asyncio.sleep(31)
    assert api.record()["acquireTime"] == "2026-02-02T02:40:00Z"
    assert api.record()["renewTime"] >= "2026-02-02T02:40:26Z"
    assert 7 <= api.writes.count(("one", "leases")) <= 10
    assert len(one.spans) == 1
    await one.stop()


async def test_clean_hand_over() -> None:
    """A cancelled leader ends its work, releases both records, and the standby leads within seconds."""
    api = MemoryApi()
    one = Candidate(api, "one").start()
    await one.started.wait()
    two = Candidate(api, "two").start()
    await asyncio.sleep(40)
    assert not two.spans
    await one.stop()
    assert api.record()["holderIdentity"] == ""
    assert api.record()["leaseDurationSeconds"] == 1
    assert api.lease().holder == ""
    stopped = one.clock.monotonic()
    await asyncio.wait_for(two.started.wait(), 9)
    assert one.spans[-1][1] <= two.spans[0][0] <= stopped + 8.3
    assert api.record()["holderIdentity"] == "two"
    assert api.lease().transitions == 1
    assert one.transitions == [True, False]
    await two.stop()


async def test_silent_death() -> None:
    """After a leader dies without a word the standby leads after its lease, not before, and not much later."""
    api = MemoryApi()
    one = Candidate(api, "one").start()
    await one.started.wait()
    two = Candidate(api, "two").start()
    await asyncio.sleep(20)
    api.hanging.add("one")  # as if the process were gone: nothing of it reaches the API any more
    last = one.clock.monotonic()
    await asyncio.wait_for(two.started.wait(), 60)
    assert last + 15 - 3.75 <= two.spans[0][0] <= last + 15 + 4
    assert one.last_write < two.spans[0][0]
    await one.stop()
    await two.stop()


async def test_hanging_api_ends_leading_before_expiry() -> None:
    """When the API hangs, lead() is cancelled by the renew deadline and may_write() says no, long before expiry."""
    api = MemoryApi()
    one = Candidate(api, "one").start()
    await one.started.wait()
    await asyncio.sleep(10)
    hung = one.clock.monotonic()
    api.hanging.add("one")
    await asyncio.sleep(8)
    assert not one.leadership.may_write()
    assert one.spans[0][1] <= hung + 7.6
    assert one.last_write <= hung + 7.5
    api.hanging.clear()
    await one.stop()


async def test_lead_that_ignores_cancellation_may_not_write() -> None:
    """Work that does not stop when told still finds may_write() false, measured, not announced."""
    api = MemoryApi()
    one = Candidate(api, "one")
    allowed: list[float] = []

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                if len(allowed) > 10_000:
                    raise
            if one.leadership.may_write():
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


async def test_short_trouble_is_ridden_out() -> None:
    """Errors shorter than the renew deadline do not interrupt the leader."""
    api = MemoryApi()
    one = Candidate(api, "one").start()
    await one.started.wait()
    for _ in range(5):
        await asyncio.sleep(10)
        api.failing.add("one")
        await asyncio.sleep(3)
        api.failing.clear()
    assert len(one.spans) == 1
    assert one.leadership.may_write()
    await one.stop()


async def test_lost_answer_is_still_ours() -> None:
    """A renewal whose answer got lost makes the next one a Conflict; the leader recognises its own record."""
    api = MemoryApi()
    one = Candidate(api, "one").start()
    await one.started.wait()
    api.lose_answer = 2
    await asyncio.sleep(30)
    assert api.lose_answer == 0
    assert len(one.spans) == 1
    assert one.leadership.may_write()
    await one.stop()


async def test_conflict_by_a_foreign_edit_is_ridden_out() -> None:
    """Somebody labels the Endpoints object: the record is unchanged, so the leader writes again and goes on."""
    api = MemoryApi()
    one = Candidate(api, "one").start()
    await one.started.wait()
    old = api.objects["endpoints", "default/mic"]
    meta = msgspec.structs.replace(old.metadata, labels={"a": "b"})
    api.put(ENDPOINTS, msgspec.structs.replace(old, metadata=meta))
    await asyncio.sleep(10)
    assert len(one.spans) == 1
    assert api.objects["endpoints", "default/mic"].metadata.labels == {"a": "b"}
    await one.stop()


def original(api: MemoryApi, renewed: str, holder: str = "old-mic", duration: int = 15) -> None:
    """The original writes its record."""
    old = api.objects.get(("endpoints", "default/mic"), Endpoints(metadata=ObjectMeta(name="mic", namespace="default")))
    assert isinstance(old, Endpoints)
    api.put(ENDPOINTS, write_endpoints(old, Record(holder, duration, "2026-01-01T00:00:00Z", renewed, 3)))


async def test_original_alive_keeps_us_out() -> None:
    """While an original mic renews its Endpoints record we never lead, whatever its clock says; when it stops we do."""
    api = MemoryApi()
    original(api, "1999-01-01T00:00:00Z")
    one = Candidate(api, "one").start()
    for tick in range(20):
        await asyncio.sleep(3.75)
        original(api, f"1999-01-01T00:00:{tick:02d}Z")
    assert not one.spans
    assert ("leases", "default/mic") not in api.objects
    died = one.clock.monotonic()
    await asyncio.wait_for(one.started.wait(), 60)
    assert died + 15 - 0.1 <= one.spans[0][0] <= died + 15 + 8.3
    assert api.record()["leaderTransitions"] == 4
    await one.stop()


async def test_original_steals_the_record() -> None:
    """An original that takes the Endpoints record (it saw us dead) ends our leading at the next renewal."""
    api = MemoryApi()
    one = Candidate(api, "one").start()
    await one.started.wait()
    original(api, "2026-02-02T02:40:01Z")
    await asyncio.sleep(4)
    assert not one.started.is_set()
    assert not one.leadership.may_write()
    assert one.transitions == [True, False]
    await one.stop()
    assert api.record()["holderIdentity"] == "old-mic"


async def test_lease_holder_alive() -> None:
    """One who leads by the Lease alone keeps us out too; we hold the Endpoints record meanwhile and then both."""
    api = MemoryApi()
    lone = Candidate(api, "lone", lock="leases").start()
    await lone.started.wait()
    assert api.writes == [("lone", "leases")]
    both = Candidate(api, "both").start()
    await asyncio.sleep(60)
    assert not both.spans
    assert api.record()["holderIdentity"] == "both"
    await lone.stop()
    await asyncio.wait_for(both.started.wait(), 10)
    await both.stop()
    assert api.record()["holderIdentity"] == ""


async def test_forbidden_lease_leaves_the_record_to_others() -> None:
    """With the original's ClusterRole (no leases) we release the Endpoints record instead of blocking the original."""
    api = MemoryApi()
    api.forbidden.add("leases")
    one = Candidate(api, "one").start()
    await asyncio.sleep(10)
    assert not one.spans
    assert api.record()["holderIdentity"] == ""
    api.forbidden.clear()
    await asyncio.wait_for(one.started.wait(), 30)
    await one.stop()


async def test_twin_with_our_name() -> None:
    """A second process with the same identity never leads at the same time: a name alone proves nothing."""
    api = MemoryApi()
    one, twin = Candidate(api, "same"), Candidate(api, "same")
    one.start()
    await one.started.wait()
    twin.start()
    await asyncio.sleep(60)
    assert not twin.spans
    assert len(one.spans) == 1
    await one.stop()
    await twin.stop()


async def test_restart_with_our_name() -> None:
    """A process that comes back under its own name leads after half a lease: its predecessor has given up by then."""
    api = MemoryApi()
    original(api, "2026-01-01T00:00:00Z", holder="one")
    one = Candidate(api, "one").start()
    await asyncio.wait_for(one.started.wait(), 9)
    assert one.spans[0][0] >= 7.4
    await one.stop()


async def test_unreadable_record_is_waited_out() -> None:
    """A record that is no JSON is neither ignored nor fatal: it is dead when unchanged for our lease."""
    api = MemoryApi()
    meta = ObjectMeta(name="mic", namespace="default", annotations={ANNOTATION: "{not json"})
    api.put(ENDPOINTS, Endpoints(metadata=meta))
    one = Candidate(api, "one").start()
    await asyncio.sleep(14)
    assert not one.spans
    await asyncio.wait_for(one.started.wait(), 10)
    await one.stop()


async def test_objects_deleted_under_the_leader() -> None:
    """Somebody deletes both objects: the leader makes them again without an interruption."""
    api = MemoryApi()
    one = Candidate(api, "one").start()
    await one.started.wait()
    api.objects.clear()
    await asyncio.sleep(8)
    assert api.record()["holderIdentity"] == "one"
    assert api.lease().holder == "one"
    assert len(one.spans) == 1
    await one.stop()


async def test_lead_returns_and_raises() -> None:
    """lead() that ends gives the locks back and contends again; its exception comes out after the release."""
    api = MemoryApi()
    calls = 0

    async def short() -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(1)
        if calls == 2:
            raise RuntimeError("bug")

    one = Candidate(api, "one").start(short)
    assert one.task is not None
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(one.task, 60)
    assert calls == 2
    assert caught.group_contains(RuntimeError, match="bug")
    assert api.record()["holderIdentity"] == ""
    assert one.transitions == [True, False, True, False]


@pytest.mark.parametrize("seed", range(6))
async def test_never_two_writers(seed: int) -> None:
    """Three candidates with hangs, failures and restarts at random: no two ever write at the same time."""
    api, rng = MemoryApi(), random.Random(seed)
    names = ["a", "b", "c"]
    group = [Candidate(api, name) for name in names]
    for one in group:
        one.start()
    both = 0
    for _ in range(400):
        await asyncio.sleep(rng.choice((0.3, 1, 3)))
        both = max(both, sum(one.leadership.may_write() for one in group))
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


async def test_lease_resource_is_the_standard_one() -> None:
    """The Lease is coordination.k8s.io/v1 in the namespace asked for."""
    assert LEASES.path("default", "mic") == "/apis/coordination.k8s.io/v1/namespaces/default/leases/mic"
