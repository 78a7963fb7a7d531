"""Audit events: folded, never lost, written wherever they should go."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiohttp import web

from podidentity.aio.clock import loop_clock
from podidentity.telemetry.audit import SEVERAL, Audit, Sink, SinkFailed
from podidentity.telemetry.sinks import FileWriter, ThreadSink, sink_of

WALL = 1_700_000_000.0


class Lines:
    """A sink in memory that refuses while ``broken``."""

    def __init__(self) -> None:
        self.lines: list[dict[str, object]] = []
        self.broken = False
        self.closed = False

    async def write(self, lines: Sequence[bytes]) -> None:
        """Take the lines."""
        if self.broken:
            raise SinkFailed("the disk is full")
        self.lines += [json.loads(line) for line in lines]

    async def close(self) -> None:
        """Remember it."""
        self.closed = True

    def count(self) -> int:
        """Return how many events the lines stand for."""
        return sum(int(str(line["count"])) for line in self.lines)


def audit_of(sink: Sink, *, per_owner: int = 64, most: int = 8192) -> Audit:
    """Return an audit on the loop's clock."""
    clock = loop_clock(WALL)
    return Audit(
        sink,
        clock=clock,
        of_owner={"pod", "verdict"},
        of_all={"verdict"},
        per_owner=per_owner,
        most=most,
    )


def tell(audit: Audit, pod: str = "a", resource: str = "r", verdict: str = "allow") -> None:
    """Record one event."""
    key = (pod, resource, verdict)
    if not audit.again(key):
        audit.first(key, pod, {"pod": pod, "resource": resource, "verdict": verdict})


@pytest.mark.looptime
async def test_first_is_written_at_once_and_equal_ones_are_folded() -> None:
    """An operator sees a new kind of event immediately, and of the rest one line a window with count, first, last."""
    sink = Lines()
    audit = audit_of(sink)
    running = asyncio.ensure_future(audit.run())
    tell(audit)
    await asyncio.sleep(0.1)
    assert [line["count"] for line in sink.lines] == [1]
    for _ in range(5):
        await asyncio.sleep(1)
        tell(audit)
    await asyncio.sleep(10)
    assert sink.lines[1] == {
        "kind": "audit",
        "first": "2023-11-14T22:13:21.100Z",
        "last": "2023-11-14T22:13:25.100Z",
        "count": 5,
        "pod": "a",
        "resource": "r",
        "verdict": "allow",
    }
    await asyncio.sleep(20)
    assert (len(sink.lines), audit.kinds) == (2, 0)
    running.cancel()


@pytest.mark.looptime
async def test_nothing_is_dropped_while_the_sink_fails() -> None:
    """A full disk loses no event and holds no request up; memory does not grow with the events."""
    sink = Lines()
    sink.broken = True
    audit = audit_of(sink)
    running = asyncio.ensure_future(audit.run())
    for number in range(1000):
        tell(audit, verdict=f"v{number % 3}")
        await asyncio.sleep(0.1)
    assert (audit.trouble, audit.kinds, audit.events) == ("the disk is full", 3, 1000)
    sink.broken = False
    await asyncio.sleep(30)
    assert (sink.count(), audit.trouble) == (1000, "")
    running.cancel()


@pytest.mark.looptime
async def test_pod_with_too_many_kinds_is_folded_and_counted_in_full() -> None:
    """A pod that makes up resources costs a bounded number of lines, and not one of its decisions is missing."""
    sink = Lines()
    audit = audit_of(sink, per_owner=10, most=40)
    running = asyncio.ensure_future(audit.run())
    for number in range(500):
        tell(audit, resource=f"r{number}")
    tell(audit, pod="b")
    for number in range(500):
        tell(audit, pod=f"p{number}", resource=f"r{number}", verdict="deny")
    await asyncio.sleep(30)
    assert sink.count() == 1001
    assert audit.kinds == 0
    assert len(sink.lines) < 60
    folded = [line for line in sink.lines if line["resource"] == SEVERAL]
    assert {(line["pod"], line["verdict"]) for line in folded} == {("a", "allow"), (SEVERAL, "deny")}
    running.cancel()


async def test_last_lines_are_written_at_the_end() -> None:
    """What was not written when nmi stops is written by close; a sink that fails then is told of."""
    sink = Lines()
    audit = audit_of(sink)
    tell(audit)
    tell(audit)
    await audit.close()
    assert (sink.count(), sink.closed) == (2, True)
    sink.broken = True
    tell(audit)
    await audit.close()
    assert audit.trouble == "the disk is full"


async def test_file_is_private_and_survives_rotation(tmp_path: Path) -> None:
    """The audit file is readable by its owner only, and a new one is begun when it was moved away."""
    path = tmp_path / "audit.log"
    sink = ThreadSink(FileWriter(str(path)))
    await sink.write([b'{"n":1}', b'{"n":2}'])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.rename(tmp_path / "audit.log.1")
    await sink.write([b'{"n":3}'])
    await sink.close()
    assert path.read_text() == '{"n":3}\n'
    assert (tmp_path / "audit.log.1").read_text() == '{"n":1}\n{"n":2}\n'
    failing = ThreadSink(FileWriter(str(tmp_path / "no" / "folder")))
    with pytest.raises(SinkFailed, match="No such file or directory"):
        await failing.write([b"{}"])
    await failing.close()


async def test_reader_that_stopped_reading_stops_nothing() -> None:
    """A blocked standard output holds up neither the loop nor the end of the process."""
    reading, writing = os.pipe()
    try:
        sink = ThreadSink(
            lambda data: [os.write(writing, data[i : i + 4096]) for i in range(0, len(data), 4096)] and None
        )
        audit = audit_of(sink)
        running = asyncio.ensure_future(audit.run())
        tell(audit, resource="r" * 200_000)
        await asyncio.sleep(0.05)
        for _ in range(100):
            tell(audit)
        await audit.close(0.05)
        assert "did not take the last lines" in audit.trouble
        running.cancel()
        seen = 0
        while seen < 200_000:
            seen += len(os.read(reading, 65536))
        await sink.close()
    finally:
        os.close(reading)
        os.close(writing)


async def test_collector_gets_log_records() -> None:
    """OTLP: a record for each line with its fields as attributes; an answer other than 200 keeps the lines."""
    got: list[dict[str, object]] = []
    answers = [503, 200]

    async def logs(request: web.Request) -> web.Response:
        got.append(await request.json())
        return web.Response(status=answers.pop(0))

    app = web.Application()
    app.router.add_post("/v1/logs", logs)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    sink = sink_of(f"otlp:http://127.0.0.1:{port}", **{"service.name": "podidentity-nmi"})
    assert sink is not None
    audit = audit_of(sink)
    tell(audit)
    await audit.close()
    assert audit.trouble == f"http://127.0.0.1:{port}/v1/logs answered 503"
    sink = sink_of(f"otlp:http://127.0.0.1:{port}", **{"service.name": "podidentity-nmi"})
    assert sink is not None
    audit = audit_of(sink)
    tell(audit)
    await audit.close()
    await runner.cleanup()
    (logs_of,) = got[1]["resourceLogs"]  # type: ignore[misc]
    assert logs_of["resource"]["attributes"] == [{"key": "service.name", "value": {"stringValue": "podidentity-nmi"}}]
    (record,) = logs_of["scopeLogs"][0]["logRecords"]
    assert record["timeUnixNano"] == "1700000000000000000"
    assert {"key": "count", "value": {"intValue": "1"}} in record["attributes"]
    assert json.loads(record["body"]["stringValue"])["pod"] == "a"
    assert sink_of("off") is None
