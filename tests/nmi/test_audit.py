"""Every decision of nmi is audited: who, as what, for what, and why."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from tests.nmi.conftest import VAULT, Make, Start, until

from podidentity.azure.errors import TokenError
from podidentity.nmi.connection import Limits
from podidentity.nmi.datapath.refusals import Refusals
from podidentity.nmi.verdict import RULES
from podidentity.telemetry.metrics import Metrics

TOKEN = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJvaWQiOiIxIn0.c2lnbmF0dXJl"


class Sink:
    """Keeps the lines."""

    def __init__(self) -> None:
        self.text = ""

    async def write(self, lines: Sequence[bytes]) -> None:
        """Take lines."""
        self.text += "".join(f"{line.decode()}\n" for line in lines)

    async def close(self) -> None:
        """Nothing to release."""

    @property
    def events(self) -> list[dict[str, object]]:
        """Return the lines as objects."""
        return [json.loads(line) for line in self.text.splitlines()]


async def test_token_given_is_audited_with_pod_and_identity(start: Start, make: type[Make]) -> None:
    """The event names pod, UID, service account, identity, resource and rule, and holds no token and no client id."""
    sink = Sink()
    bench = await start(sink=sink)
    pod = make.pod(service_account="robot")
    bench.put_pod(pod)
    bench.put_assigned(make.assigned(pod))
    first = await bench.token()
    await until(lambda: bool(sink.text))
    for _ in range(3):
        assert (await bench.token()).status == 200
    await bench.close_audit()
    assert [event["count"] for event in sink.events] == [1, 3]
    event = sink.events[0]
    del event["first"], event["last"], event["request"]
    assert event == {
        "kind": "audit",
        "count": 1,
        "node": "node-0",
        "pod": "team/web",
        "uid": "uid-web",
        "serviceAccount": "robot",
        "source": "127.1.0.1",
        "path": "/metadata/identity/oauth2/token",
        "caller": "",
        "identity": "team/app",
        "resource": VAULT,
        "verdict": "allow",
        "rule": "assigned",
        "status": 200,
    }
    assert first.json["access_token"] not in sink.text
    assert "client-of-app" not in sink.text
    assert f"request={sink.events[0]['request']}" in bench.log.getvalue()


@pytest.mark.parametrize(
    ("target", "source", "rule", "status"),
    [
        ("/metadata/identity/oauth2/token?resource=r", "127.1.0.9", "pod-not-yet", 503),
        ("/metadata/identity/oauth2/token?resource=r", "127.0.0.1", "node-address", 403),
        ("/metadata/identity/oauth2/token", "127.1.0.1", "query", 400),
        ("/metadata/identity/oauth2/%74oken?resource=r", "127.1.0.1", "target", 400),
        ("/nothing", "127.1.0.1", "path", 404),
        ("/metadata/instance?api-version=2021-02-01", "127.1.0.1", "blocked", 403),
        ("/metadata/versions", "127.1.0.1", "document", 200),
        ("/metadata/identity/oauth2/token?resource=r&client_id=other", "127.1.0.1", "not-in-time", 404),
    ],
)
async def test_refusals_say_why(  # noqa: PLR0917 - a table
    start: Start, make: type[Make], target: str, source: str, rule: str, status: int
) -> None:
    """Each way to be refused has a rule of its own in the event and in the metric."""
    sink = Sink()
    bench = await start("--block-instance-metadata", "--retry-attempts-for-created=0", sink=sink)
    pod = make.pod()
    bench.put_pod(pod)
    bench.put_assigned(make.assigned(pod))
    assert (await bench.get(target, source)).status == status
    await bench.close_audit()
    (event,) = sink.events
    assert (event["rule"], event["status"], event["source"]) == (rule, status, source)
    assert event["verdict"] == RULES[rule][0]
    assert bench.app.journal.refusals == ({} if status == 200 else {rule: 1})


@pytest.mark.parametrize(
    ("raw", "rule", "status"),
    [
        (b"GET / SPDY/9\r\n\r\n", "malformed", 400),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100 + b"\r\n", "too-large", 431),
        (b"GET /nothing HTTP/1.1\r\n\r\n" * 20, "pipelined", 429),
        (b"GET / HTTP/1.1\r\nX: ", "too-slow", 408),
        (b"", "connections", 503),
    ],
)
async def test_refused_before_it_is_a_request(
    start: Start, make: type[Make], raw: bytes, rule: str, status: int
) -> None:
    """What the parser and the limits of a connection refuse is counted by cause and audited as its pod's."""
    sink = Sink()
    bench = await start(sink=sink, limits=Limits(header_time=0.2, connections_per_source=0 if not raw else 4))
    bench.put_pod(make.pod())
    reader, writer = await bench.connect("127.1.0.1")
    writer.write(raw)
    assert f" {status} ".encode() in await reader.read()
    writer.close()
    await bench.close_audit()
    (event,) = [event for event in sink.events if event["rule"] == rule]
    assert (event["pod"], event["status"], event["count"]) == ("team/web", status, 1)
    assert bench.app.journal.refusals[rule] == 1


async def test_connections_that_the_filter_refused_are_told_by_source(start: Start, make: type[Make]) -> None:
    """Nobody sees them but the filter, which counts: the difference of two looks is audited, folded, and counted."""
    sink, counts = Sink(), {"127.1.0.1": 5, "10.0.0.9": 1}
    bench = await start(sink=sink)
    bench.put_pod(make.pod())

    class Packets:
        async def refusals(self) -> dict[str, int]:
            return dict(counts)

    refusals = Refusals(Packets(), bench.app.journal.limited)
    await refusals.look()
    counts["127.1.0.1"] = 12
    await refusals.look()
    counts.clear()
    counts["127.1.0.1"] = 2
    await refusals.look()
    await bench.close_audit()
    found = [(event["pod"], event["source"], event["status"], event["count"]) for event in sink.events]
    assert {one[:3] for one in found} == {("team/web", "127.1.0.1", 0), ("", "10.0.0.9", 0)}
    assert sum(int(str(one[3])) for one in found) == bench.app.journal.refusals["connections"] == 15
    assert bench.log.getvalue().count("connections are refused: more than --pod-connections") == 2


async def test_trouble_at_azure_and_exceptions_are_told_apart(start: Start, make: type[Make]) -> None:
    """A token Azure did not give is an error of an allowed request; an excepted pod's is a pass."""
    sink = Sink()
    bench = await start(sink=sink)
    pod, free = make.pod(), make.pod("free", ip="127.1.0.2", labels={"app": "mic"})
    bench.put_pod(pod, free)
    bench.put_assigned(make.assigned(pod))
    bench.put_exception(make.exception({"app": "mic"}))
    bench.imds.errors.append(TokenError(400, "invalid_request", "Identity not found"))
    assert (await bench.token()).status == 400
    assert (await bench.token("127.1.0.2")).status == 200
    await bench.close_audit()
    found = [(event["pod"], event["verdict"], event["rule"], event["identity"]) for event in sink.events]
    assert found == [("team/web", "error", "no-token", "team/app"), ("team/free", "pass", "exception", "")]


async def test_token_in_a_resource_is_not_audited(start: Start, make: type[Make]) -> None:
    """Whoever pastes a token where the resource belongs does not find it in the audit."""
    sink = Sink()
    bench = await start("--retry-attempts-for-created=0", sink=sink)
    bench.put_pod(make.pod())
    await bench.token(resource=TOKEN)
    await bench.close_audit()
    assert sink.events[0]["resource"] == "(a token)"
    assert "c2lnbmF0dXJl" not in sink.text


async def test_labels_of_metrics_are_bounded(start: Start, make: type[Make]) -> None:
    """Namespaces and resources beyond a limit share one label, whatever pods make up."""
    bench = await start()
    for number in range(70):
        pod = make.pod(f"web{number}", f"ns{number}", ip=f"127.1.1.{number}")
        bench.put_pod(pod)
        bench.put_assigned(make.assigned(pod, make.identity(namespace=f"ns{number}")))
        assert (await bench.token(f"127.1.1.{number}", resource=f"r{number % 40}")).status == 200
    text = bench.metrics.render().decode()
    count = "aadpodidentity_nmi_operations_duration_seconds_count"
    lines = [line for line in text.splitlines() if line.startswith(count)]
    assert 'namespace="other"' in text
    assert 'resource="other"' in text
    assert len({line.split('namespace="')[1].split('"')[0] for line in lines}) == 65
    assert len({line.split('resource="')[1].split('"')[0] for line in lines}) == 33


def test_total_is_shown_as_a_counter() -> None:
    """A value that is kept elsewhere is read when somebody looks, under a counter's name."""
    metrics = Metrics()
    hits = 3
    metrics.before_render(lambda: metrics.total("nmi_token_cache_hits_count", hits))
    assert "aadpodidentity_nmi_token_cache_hits_count 3.0" in metrics.render().decode()
    hits = 5
    assert "aadpodidentity_nmi_token_cache_hits_count 5.0" in metrics.render().decode()
