"""docs/reference/errors.md, row by row: what nmi answers, and what the unmodified SDKs make of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.nmi.conftest import Bench, Make, Start
from tests.nmi.sdk.road import Outcome, Way, javascript_command, outcomes, python_command

from podidentity.azure.errors import AzureError, AzureUnavailable, TokenError

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/errors.md"
FLAGS = ("--find-identity-retry-interval=0", "--retry-attempts-for-created=1")
ROW = re.compile(r"^\| `([a-z0-9-]+)` \|(.*)\|$", re.MULTILINE)
CELL = re.compile(r"`(\w+)`(?: after (\d+) tries, (\d+) s)?")


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the page."""

    status: str
    error: str
    retry_after: str
    python: str
    javascript: str


def page() -> dict[str, Line]:
    """Every row, by its name."""
    found = {}
    for name, rest in ROW.findall(PAGE.read_text()):
        _cause, status, error, header, python, javascript = (cell.strip() for cell in rest.split("|"))
        found[name] = Line(
            status, error.strip("`"), header.removeprefix("`Retry-After: ").strip("`"), python, javascript
        )
    return found


class World:
    """The pods of all rows, each at an address of its own, and the agents they ask.

    ``flagged`` has --set-retry-after-header, ``paused`` a metadata service that asked for a pause.
    """

    def __init__(self, bench: Bench, flagged: Bench, paused: Bench, make: type[Make]) -> None:
        self.bench = bench
        self.flagged_bench = flagged
        self.paused_bench = paused
        self._make = make
        self.ways: dict[str, Way] = {}
        self.benches = {one.port: one for one in (bench, flagged, paused)}
        for name, setup in SETUPS.items():
            setup(self, name)

    def entitled(self, name: str, refusal: Exception | None = None, bench: Bench | None = None, **spec: object) -> None:
        """Give the row's pod an identity; ``refusal`` is what the metadata service says to it."""
        chosen = bench or self.bench
        pod = self._make.pod(name, ip=self.pod(name, chosen))
        chosen.put_assigned(self._make.assigned(pod, self._make.identity(name, **spec)))  # type: ignore[arg-type]
        if refusal is not None:
            chosen.imds.refusals[f"https://{name}.test"] = refusal

    def pod(self, name: str, bench: Bench | None = None, **fields: object) -> str:
        """Put the row's pod; its address."""
        chosen = bench or self.bench
        address = f"127.2.0.{len(self.ways) + 1}"
        chosen.put_pod(self._make.pod(name, ip=address, **fields))  # type: ignore[arg-type]
        self.ways[name] = Way(chosen.port, address)
        return address

    def proxied(self, name: str) -> None:
        """A pod whose requests pass a proxy."""
        self.entitled(name)
        self.ways[name] = Way(self.bench.port, self.ways[name].source, b"X-Forwarded-For: 10.0.0.1\r\n")

    def from_node(self, name: str) -> None:
        """Requests from the node's own address."""
        self.ways[name] = Way(self.bench.port, "127.0.0.1")

    def shared(self, name: str) -> None:
        """Two pods with one address."""
        self.bench.put_pod(self._make.pod(f"{name}-too", ip=self.pod(name)))

    def throttled(self, name: str) -> None:
        """A pod whose metadata service asks for a pause."""
        pause = TokenError(429, "invalid_request", "Temporarily throttled, too many requests", 30.0)
        self.entitled(name, pause, self.paused_bench)

    def flagged(self, name: str) -> None:
        """A pod without identity, and --set-retry-after-header."""
        self.pod(name, self.flagged_bench)

    def wrong_secret(self, name: str) -> None:
        """A service principal whose secret Entra ID does not take."""
        self.bench.api.secrets[f"team/{name}"] = {"clientSecret": b"wrong"}
        self.entitled(name, type_=1, secret=name)


def refused(error: Exception) -> Callable[[World, str], None]:
    """The metadata service raises ``error``."""

    def setup(world: World, name: str) -> None:
        world.entitled(name, error)

    return setup


SETUPS: dict[str, Callable[[World, str], object]] = {
    "token": lambda world, name: world.entitled(name),
    "proxied": World.proxied,
    "identity-not-found": refused(TokenError(400, "invalid_request", "Identity not found")),
    "no-identity": lambda world, name: world.pod(name),
    "no-identity-flag": World.flagged,
    "node": World.from_node,
    "two-pods": World.shared,
    "throttled": World.throttled,
    "gone": refused(TokenError(410, "gone", "the service is being updated", 40.0)),
    "unreachable": refused(AzureUnavailable("no route")),
    "imds-broken": refused(TokenError(500, "server_error", "it broke")),
    "imds-nonsense": refused(AzureError("the answer is no token")),
    "other-client-id": lambda world, name: world.entitled(name, client_id="client-of-somebody-else"),
    "no-secret": lambda world, name: world.entitled(name, type_=1, secret="missing"),
    "wrong-secret": World.wrong_secret,
    "fault": refused(RuntimeError("surprise")),
    "no-agent": lambda _world, _name: None,
}


@pytest.fixture
async def world(start: Start, make: type[Make]) -> World:
    """Three agents with a pod for each row."""
    flagged = await start(*FLAGS, "--set-retry-after-header")
    return World(await start(*FLAGS), flagged, await start(*FLAGS), make)


def test_every_row_has_its_setup() -> None:
    """The page and the tests know the same causes."""
    assert list(page()) == list(SETUPS)


async def test_answers_are_those_of_the_page(world: World) -> None:
    """Status, error word and Retry-After of every row."""
    lines = {name: line for name, line in page().items() if name in world.ways}
    found = await asyncio.gather(*(answer(world, name) for name in lines))
    assert dict(zip(lines, found, strict=True)) == {
        name: (line.status, line.error, line.retry_after) for name, line in lines.items()
    }


async def answer(world: World, name: str) -> tuple[str, str, str]:
    """What a row is answered: status, error word, Retry-After."""
    way = world.ways[name]
    target = f"/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://{name}.test"
    more = {"X_Forwarded_For": "10.0.0.1"} if way.header else {}
    reply = await world.benches[way.port].get(target, way.source, **more)
    return str(reply.status), reply.json.get("error", ""), reply.headers.get("retry-after", "")


async def test_what_the_python_sdk_makes_of_it(world: World) -> None:
    """azure-identity raises what the page says, after as many tries and as long a wait."""
    found = await outcomes(python_command(), world.ways, page())
    assert differences(found, {name: line.python for name, line in page().items()}) == {}


async def test_what_the_javascript_sdk_makes_of_it(world: World) -> None:
    """@azure/identity raises what the page says, after as many tries and about as long a wait."""
    found = await outcomes(javascript_command(), world.ways, page())
    assert differences(found, {name: line.javascript for name, line in page().items()}) == {}


def differences(found: dict[str, Outcome], said: dict[str, str]) -> dict[str, str]:
    """Rows where an SDK did something else.

    Seconds may differ by a third, for pauses have jitter, and be 5 more on a machine that does much else.
    """
    wrong = {}
    for name, cell in said.items():
        match = CELL.match(cell)
        assert match is not None, cell
        outcome = found[name]
        tries, seconds = int(match[2] or 1), float(match[3] or 0)
        same = outcome.name == match[1] and outcome.tries == tries
        if not same or not seconds * 2 / 3 - 1 <= outcome.waited <= seconds * 4 / 3 + 5:
            wrong[name] = f"`{outcome.name}` after {outcome.tries} tries, {outcome.waited:.0f} s ({outcome.words})"
    return wrong
