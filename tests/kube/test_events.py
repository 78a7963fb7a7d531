"""Events: names, fields, client-go's correlation, and never an error for the caller."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from podidentity.aio.clock import Clock
from podidentity.api.meta import ObjectReference
from podidentity.kube.client import KubeClient
from podidentity.kube.correlate import COMBINED, Correlator, Occurrence
from podidentity.kube.events import EventRecorder, event_name

if TYPE_CHECKING:
    from tests.kube.conftest import Served

BINDING = ObjectReference(api_version="aadpodidentity.k8s.io/v1", kind="AzureIdentityBinding", name="b", namespace="ns")
PATH = "/api/v1/namespaces/ns/events"


async def record(served: Served, *messages: str, before: int = 0) -> None:
    """Record these messages and wait until the server has seen as many requests."""
    async with KubeClient(served.settings, user_agent="t", rng=random.Random(1)) as client:
        recorder = EventRecorder(client, component="aadpodidentity.k8s.io", clock=Clock(wall=lambda: 1_770_000_000.5))
        for message in messages:
            recorder.event(BINDING, "Normal", "binding applied", message)
        task = asyncio.get_running_loop().create_task(recorder.run())
        async with asyncio.timeout(5):
            while len(served.api.requests) < (before or len(messages)):  # noqa: ASYNC110 - over a socket
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_fields(served: Served) -> None:
    """An Event has the fields kubectl shows and the original's source."""
    await record(served, "Binding b applied on node n for pod p")
    (event,) = served.api.objects[PATH].values()
    name = event["metadata"].pop("name")
    assert name == "b." + format(1_770_000_000_500_000_000, "x")
    assert {key: event[key] for key in event if key != "metadata"} == {
        "apiVersion": "v1",
        "kind": "Event",
        "involvedObject": {
            "apiVersion": "aadpodidentity.k8s.io/v1",
            "kind": "AzureIdentityBinding",
            "name": "b",
            "namespace": "ns",
        },
        "reason": "binding applied",
        "message": "Binding b applied on node n for pod p",
        "type": "Normal",
        "count": 1,
        "firstTimestamp": "2026-02-02T02:40:00Z",
        "lastTimestamp": "2026-02-02T02:40:00Z",
        "source": {"component": "aadpodidentity.k8s.io"},
        "reportingComponent": "aadpodidentity.k8s.io",
    }


async def test_repetition_is_counted(served: Served) -> None:
    """The same Event again patches the count of the first."""
    await record(served, "m", "m", "m")
    (event,) = served.api.objects[PATH].values()
    assert event["count"] == 3
    assert [one.partition(" ")[0] for one in served.api.requests] == ["POST", "PATCH", "PATCH"]


async def test_expired_event_is_written_anew(served: Served) -> None:
    """An Event the API has forgotten is written again with its count, not lost."""
    served.api.pass_one()
    served.api.fail(404, "NotFound")
    await record(served, "m", "m", before=3)
    assert sorted(event["count"] for event in served.api.objects[PATH].values()) == [1, 2]


async def test_failure_is_logged_only(served: Served) -> None:
    """An Event the API refuses is dropped with a log line; the next one is written."""
    served.api.fail(403, "Forbidden")
    served.api.fail(500)
    await record(served, "m1", "m2", "m3")
    assert [event["message"] for event in served.api.objects[PATH].values()] == ["m3"]


async def test_full_queue_never_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    """Recording into a full queue drops and says so once."""
    recorder = EventRecorder(None, component="c", queue=3)  # type: ignore[arg-type]  # never written here
    for number in range(10):
        recorder.event(BINDING, "Warning", "r", f"m{number}")
    assert capsys.readouterr().err.count("queue of events is full") == 1


def occurrence(message: str, name: str = "b") -> Occurrence:
    """Something that happened."""
    return Occurrence(ObjectReference(kind="K", namespace="ns", name=name), "Normal", "r", message, 0.0)


def test_burst_then_one_each_five_minutes() -> None:
    """An object gets 25 Events, then one more each 300 s; another object is not affected."""
    correlator = Correlator()
    written = [correlator.decide(occurrence("same"), 0.0) for _ in range(40)]
    assert sum(one is not None for one in written) == 25
    assert correlator.decide(occurrence("same"), 299.0) is None
    later = correlator.decide(occurrence("same"), 301.0)
    assert later is not None
    assert later.count == 42
    assert correlator.decide(occurrence("same", "other"), 0.0) is not None


def test_similar_events_are_combined() -> None:
    """From the tenth different message on, Events of one kind become one; ten quiet minutes part them again."""
    correlator = Correlator()
    decisions = [correlator.decide(occurrence(f"m{number}"), 1.0) for number in range(12)]
    messages = [one.message for one in decisions if one]
    assert messages == [*(f"m{number}" for number in range(9)), *(f"{COMBINED}m{number}" for number in (9, 10, 11))]
    combined = decisions[9]
    assert combined is not None
    correlator.wrote(combined, "written")
    again = correlator.decide(occurrence("m12"), 2.0)
    assert again is not None
    assert (again.name, again.count) == ("written", 4)
    apart = correlator.decide(occurrence("m13"), 700.0)
    assert apart is not None
    assert apart.message == "m13"


def test_memory_is_bounded() -> None:
    """A thousand objects do not make the correlator remember a thousand; one that was forgotten is simply new."""
    correlator = Correlator(remembered=10)
    first = correlator.decide(occurrence("m", "first"), 0.0)
    assert first is not None
    for number in range(1000):
        correlator.decide(occurrence("m", f"o{number}"), 0.0)
    correlator.wrote(first, "late answer")
    again = correlator.decide(occurrence("m", "first"), 0.0)
    assert again is not None
    assert (again.count, again.name) == (1, "")


def test_names() -> None:
    """A name is the object's and the time in hex; a long one is cut so that the API accepts it."""
    assert event_name("b", 255) == "b.ff"
    long = event_name("a" * 235 + ".-" + "b" * 20, 1_770_000_000_000_000_000)
    assert len(long) <= 253
    assert ".-." not in long


async def test_two_at_once_have_two_names() -> None:
    """Two Events of one nanosecond do not collide."""
    recorder = EventRecorder(None, component="c", clock=Clock(wall=lambda: 5.0))  # type: ignore[arg-type]  # unused
    recorder.event(BINDING, "Normal", "r", "one")
    recorder.event(BINDING, "Normal", "r", "x" * 10_000)
    one, two = recorder._queue.get_nowait(), recorder._queue.get_nowait()
    assert one.stamp < two.stamp
    assert len(two.occurrence.message) == 4096
