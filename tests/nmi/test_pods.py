"""Which pod is calling, under stale watches, reused addresses and a dead API."""

from __future__ import annotations

import asyncio

import pytest
from tests.nmi.conftest import NODE, Make
from tests.nmi.fakes import FakeApi

from podidentity.aio.clock import Clock, loop_clock
from podidentity.kube.store import Change, WatchEvent
from podidentity.nmi.pods import PodFinder, PodUnknown, pod_addresses, pod_store
from podidentity.nmi.waiters import TooManyWaiting, Waiters

IP = "10.244.0.7"
PAST, FUTURE = "1970-01-01T00:00:00Z", "1970-01-01T01:00:00Z"


class Scene:
    """A finder with its store and API; the wall clock starts 1000 s after the epoch."""

    def __init__(self, clock: Clock) -> None:
        self.store = pod_store()
        self.api = FakeApi()
        self.finder = PodFinder(self.store, self.api, node=NODE, clock=clock)

    def put(self, *pods: object) -> None:
        """Let the watch tell of pods."""
        for pod in pods:
            change = self.store.apply(WatchEvent("ADDED", pod, "1", pod.key))  # type: ignore[attr-defined, arg-type]
            assert isinstance(change, Change)
            self.finder.on_change(change)


@pytest.fixture
def scene() -> Scene:
    """Return an empty scene whose wall clock stands still."""
    return Scene(Clock(wall=lambda: 1000.0))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"ip": IP}, (IP,)),
        ({"ip": IP, "more_ips": (IP, "fd00:0:0::1")}, (IP, "fd00::1")),
        ({"ip": IP, "phase": "Pending"}, (IP,)),
        ({"ip": IP, "phase": "Succeeded"}, ()),
        ({"ip": IP, "phase": "Failed"}, ()),
        ({"ip": IP, "phase": "Unknown"}, ()),
        ({"ip": IP, "host_network": True}, ()),
        ({"ip": ""}, ()),
        ({"ip": "not an address"}, ()),
    ],
)
def test_addresses_of_a_pod(make: type[Make], fields: dict[str, object], expected: tuple[str, ...]) -> None:
    """Only pending and running pods with a network of their own have addresses, all of podIPs included."""
    assert pod_addresses(make.pod(**fields)) == expected  # type: ignore[arg-type]


async def test_terminating_pod_keeps_its_address_until_its_time_is_up(scene: Scene, make: type[Make]) -> None:
    """Graceful shutdown is served; after deletionTimestamp the address may be somebody else's."""
    scene.put(make.pod("ending", ip=IP, deletion=FUTURE))
    assert scene.finder.known(IP) is not None
    scene.put(make.pod("ended", ip="10.244.0.8", deletion=PAST))
    assert scene.finder.known("10.244.0.8") is None


async def test_reused_address_goes_to_the_living_pod(scene: Scene, make: type[Make]) -> None:
    """A stale pod whose time is up does not stand in the way of the new owner of its address."""
    scene.put(make.pod("old", ip=IP, deletion=PAST), make.pod("new", ip=IP))
    found = scene.finder.known(IP)
    assert found is not None
    assert found.name == "new"


async def test_ambiguous_address_is_settled_by_fresh_reads(scene: Scene, make: type[Make]) -> None:
    """Two pods with one address: both are read afresh, and the one not terminating is it; remembered for a moment."""
    old, new = make.pod("old", ip=IP), make.pod("new", ip=IP)
    scene.put(old, new)
    scene.api.pods = [make.pod("old", ip=IP, deletion=FUTURE), new]
    assert scene.finder.known(IP) is None
    assert (await scene.finder.find(IP)).name == "new"
    assert (await scene.finder.find(IP)).name == "new"
    assert scene.api.asked == ["team/old", "team/new"]


@pytest.mark.parametrize("left", [0, 2])
async def test_address_that_stays_ambiguous_is_refused(scene: Scene, make: type[Make], left: int) -> None:
    """When fresh reads leave two pods, or none, nobody gets anything."""
    pods = [make.pod("a", ip=IP), make.pod("b", ip=IP)]
    scene.put(*pods)
    scene.api.pods = pods[:left]
    with pytest.raises(PodUnknown, match="more than one pod"):
        await scene.finder.find(IP)


async def test_pod_the_watch_missed_is_read_from_the_api(scene: Scene, make: type[Make]) -> None:
    """With a dead watch one direct question finds the pod, and counts for some seconds."""
    scene.api.pods = [make.pod("missed", ip=IP)]
    assert (await scene.finder.find(IP)).name == "missed"
    assert (await scene.finder.find(IP)).name == "missed"
    assert scene.api.asked == [IP]


@pytest.mark.parametrize("fields", [{"node": "node-1"}, {"host_network": True}, {"phase": "Succeeded"}])
@pytest.mark.looptime
async def test_answers_of_the_api_are_judged_too(make: type[Make], fields: dict[str, object]) -> None:
    """A pod of another node, on the host's network or ended is not the caller, whoever says so."""
    scene = Scene(loop_clock(start_wall=1000.0))
    scene.api.pods = [make.pod("x", ip=IP, **fields)]  # type: ignore[arg-type]
    with pytest.raises(PodUnknown):
        await scene.finder.find(IP)


@pytest.mark.looptime
async def test_address_unknown_to_all_is_given_five_seconds(make: type[Make]) -> None:
    """An address nobody knows is waited for, then the caller is told to come back; a flood asks the API little."""
    scene = Scene(loop_clock(start_wall=1000.0))
    start = asyncio.get_running_loop().time()
    results = await asyncio.gather(*(scene.finder.find(f"10.244.9.{n}") for n in range(50)), return_exceptions=True)
    assert all(isinstance(result, PodUnknown) and result.passing for result in results)
    assert asyncio.get_running_loop().time() - start == pytest.approx(5.0)
    assert len(scene.api.asked) <= 10


@pytest.mark.looptime
async def test_waiting_caller_is_woken_by_the_watch(make: type[Make]) -> None:
    """The moment the watch learns the address the caller is served, also when the API is down."""
    scene = Scene(loop_clock(start_wall=1000.0))
    scene.api.down = True
    waiting = asyncio.ensure_future(scene.finder.find(IP))
    await asyncio.sleep(2)
    scene.put(make.pod("late", ip=IP))
    assert (await waiting).name == "late"
    assert asyncio.get_running_loop().time() < 3


@pytest.mark.looptime
async def test_waiters_are_bounded_for_each_key_and_in_all() -> None:
    """One key cannot take all places, and a place is free again once its holder has left."""
    waiters = Waiters(per_key=2, total=3)
    with waiters.hold("a"), waiters.hold("a"):
        with pytest.raises(TooManyWaiting), waiters.hold("a"):
            pass
        with waiters.hold("b"), pytest.raises(TooManyWaiting), waiters.hold("c"):
            pass
        with waiters.hold("c") as news:
            assert not await news.wait_until(asyncio.get_running_loop().time() + 1)
            waiters.wake("a")
            assert not await news.wait_until(asyncio.get_running_loop().time() + 1)
            waiters.wake_all()
            assert await news.wait_until(asyncio.get_running_loop().time() + 1)
    assert waiters.held == 0
