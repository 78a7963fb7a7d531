"""Which pod is calling, under stale watches, reused addresses and a dead API."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest
from tests.nmi.conftest import NODE, Make, Start, read_reply, until
from tests.nmi.fakes import FakeApi

from podidentity.aio.clock import Clock, loop_clock
from podidentity.api.core import Pod
from podidentity.kube.client import KubeClient
from podidentity.kube.store import Change, WatchEvent
from podidentity.nmi.assembly import PodsOfApi
from podidentity.nmi.local import is_local
from podidentity.nmi.pods import PodFinder, PodUnknown, pod_addresses, pod_store
from podidentity.nmi.waiters import TooManyWaiting, Waiters
from podidentity.telemetry.logging import get_logger

IP = "10.244.0.7"
PAST, FUTURE = "1970-01-01T00:00:00Z", "1970-01-01T01:00:00Z"


REQUEST = b"GET /metadata/identity/oauth2/token?resource=r HTTP/1.1\r\nHost: 169.254.169.254\r\nMetadata: true\r\n\r\n"


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
def test_d11_addresses_of_a_pod(make: type[Make], fields: dict[str, object], expected: tuple[str, ...]) -> None:
    """Only pending and running pods with a network of their own have addresses, all of podIPs included."""
    assert pod_addresses(make.pod(**fields)) == expected  # type: ignore[arg-type]


async def test_terminating_pod_keeps_its_address_until_its_time_is_up(scene: Scene, make: type[Make]) -> None:
    """Graceful shutdown is served; after deletionTimestamp the address may be somebody else's."""
    scene.put(make.pod("ending", ip=IP, deletion=FUTURE))
    assert scene.finder.known(IP) is not None
    scene.put(make.pod("ended", ip="10.244.0.8", deletion=PAST))
    assert scene.finder.known("10.244.0.8") is None


async def test_d10_reused_address_goes_to_the_living_pod(scene: Scene, make: type[Make]) -> None:
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
async def test_d10_address_that_stays_ambiguous_is_refused(scene: Scene, make: type[Make], left: int) -> None:
    """When fresh reads leave two pods, or none, nobody gets anything."""
    pods = [make.pod("a", ip=IP), make.pod("b", ip=IP)]
    scene.put(*pods)
    scene.api.pods = pods[:left]
    with pytest.raises(PodUnknown, match="more than one pod"):
        await scene.finder.find(IP)


async def test_d12_pod_the_watch_missed_is_read_from_the_api(scene: Scene, make: type[Make]) -> None:
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


async def test_connection_belongs_to_the_pod_it_was_opened_by(start: Start, make: type[Make]) -> None:
    """When an address passes to another pod, a connection kept alive gets nothing of it: a new one does."""
    bench = await start()
    old, new = make.pod("old", ip="127.1.0.1"), make.pod("new", ip="127.1.0.1")
    bench.put_pod(old)
    bench.put_assigned(make.assigned(old, make.identity("a")), make.assigned(new, make.identity("b")))
    reader, writer = await bench.connect("127.1.0.1")
    writer.write(REQUEST)
    assert (await read_reply(reader)).json["client_id"] == "client-of-a"
    bench.drop_pod(old)
    bench.put_pod(new)
    writer.write(REQUEST)
    refused = await read_reply(reader)
    assert (refused.status, refused.headers["retry-after"], refused.headers["connection"]) == (503, "1", "close")
    assert await reader.read() == b""
    writer.close()
    assert (await bench.token()).json["client_id"] == "client-of-b"


async def test_connection_opened_before_its_address_passed_on_gets_nothing(start: Start, make: type[Make]) -> None:
    """A connection is its opener's from the start, also when the first request comes after the change."""
    bench = await start()
    old, new = make.pod("old", ip="127.1.0.1"), make.pod("new", ip="127.1.0.1")
    bench.put_pod(old)
    bench.put_assigned(make.assigned(new, make.identity("b")))
    reader, writer = await bench.connect("127.1.0.1")
    await until(lambda: bench.app.server.connections == 1)
    bench.drop_pod(old)
    bench.put_pod(new)
    writer.write(REQUEST)
    assert (await read_reply(reader)).status == 503
    writer.close()
    assert bench.imds.calls == []


async def test_held_request_does_not_change_its_pod(start: Start, make: type[Make]) -> None:
    """A kept connection whose pod is not known at once is judged by the same rule when it is."""
    bench = await start()
    old, new = make.pod("old", ip="127.1.0.1"), make.pod("new", ip="127.1.0.1")
    bench.put_pod(old)
    bench.put_assigned(make.assigned(old, make.identity("a")), make.assigned(new, make.identity("b")))
    reader, writer = await bench.connect("127.1.0.1")
    writer.write(REQUEST)
    assert (await read_reply(reader)).status == 200
    bench.drop_pod(old)
    writer.write(REQUEST)
    await until(lambda: bench.app.server.in_flight == 1)
    bench.put_pod(new)
    assert (await read_reply(reader)).status == 503
    writer.close()


async def test_a10_address_of_the_node_is_nobodys(start: Start, make: type[Make]) -> None:
    """What arrives from the node's own address was translated on the way: it is refused whatever a pod says."""
    bench = await start()
    pod = make.pod(ip="127.0.0.1")
    bench.put_pod(pod)
    bench.put_assigned(make.assigned(pod))
    assert (await bench.token("127.0.0.1")).status == 403
    bench.app.synced.clear()
    waiting = asyncio.ensure_future(bench.token("127.0.0.1"))
    await until(lambda: bench.app.server.in_flight == 1)
    bench.app.synced.set()
    assert (await waiting).status == 403
    assert bench.imds.calls == []


def test_addresses_of_the_node_are_those_it_can_bind() -> None:
    """Every address of every interface is the node's own, of either family; others are not."""
    assert is_local("127.0.0.1")
    assert not is_local("192.0.2.1")
    assert not is_local("2001:db8::1")
    assert not is_local("not an address")


async def test_second_address_of_a_pod_is_asked_for_too(make: type[Make]) -> None:
    """The API selects by the first address only: one of the others is found among the pods of the node."""
    dual = make.pod("dual", ip=IP, more_ips=(IP, "fd00::7"))
    client = OnlyFirst([dual, make.pod("other", ip="10.244.0.8")])
    api = PodsOfApi(cast("KubeClient", client), NODE, get_logger())
    assert [pod.name for pod in await api.by_address(IP)] == ["dual"]
    assert client.asked == [f"spec.nodeName={NODE},status.podIP={IP}"]
    assert [pod.name for pod in await api.by_address("fd00::7")] == ["dual"]
    assert await api.by_address("fd00::8") == []


@dataclass
class OnlyFirst:
    """An API server that selects pods as the real one does: ``status.podIP`` is the first address."""

    pods: list[Pod]
    asked: list[str] = field(default_factory=list)

    async def list(self, _resource: object, *, field_selector: str) -> SimpleNamespace:
        """Return the pods the selector names."""
        self.asked.append(field_selector)
        address = field_selector.partition("status.podIP=")[2]
        return SimpleNamespace(items=[pod for pod in self.pods if not address or pod.status.pod_ip == address])
