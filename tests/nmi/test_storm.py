"""Pods come, go, follow each other at one address, lose and gain identities, IMDS fails: there is no wrong token.

``PODIDENTITY_STORM`` is the number of tokens, 3,000 by default and 20,000 among the long fault tables.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from tests.nmi.conftest import Bench, Make, Start, read_reply

from podidentity.aio.clock import Clock
from podidentity.api.core import Pod
from podidentity.api.identity import AzureAssignedIdentity
from podidentity.azure.errors import AzureUnavailable, TokenError

LONG = os.environ.get("PODIDENTITY_FAULTS") == "long"
TOKENS = int(os.environ.get("PODIDENTITY_STORM", "20000" if LONG else "3000"))
ADDRESSES = [f"127.4.0.{number}" for number in range(1, 13)]
NAMES = ["web-0", "web-1", "web-2"]
FLAGS = (
    *("--find-identity-retry-interval=0", "--retry-attempts-for-created=1", "--forceNamespaced"),
    *("--imds-rate=100000", "--imds-burst=100000", "--imds-concurrent=64"),
)
REQUEST = (
    b"GET /metadata/identity/oauth2/token?resource=https://vault.azure.net HTTP/1.1\r\n"
    b"Host: 169.254.169.254\r\nMetadata: true\r\n\r\n"
)


@dataclass
class Right:
    """An identity of a pod; ``end`` is when it was taken away, by the storm's own count of steps."""

    client_id: str
    end: float = float("inf")


@dataclass
class Guest:
    """A pod as it really is: by UID, with the rights it has had; ``gone`` from its address at a step."""

    pod: Pod
    rights: list[Right] = field(default_factory=list)
    record: AzureAssignedIdentity | None = None
    gone: bool = False


class Storm:
    """The cluster, changed at random, and what is true of it."""

    def __init__(self, bench: Bench, make: type[Make], rng: random.Random, jump: Callable[[float], None]) -> None:
        self.step = 0
        self.at: dict[str, Guest] = {}
        self.counts: Counter[str] = Counter()
        self._bench = bench
        self._make = make
        self._rng = rng
        self._jump = jump
        self._born = 0
        self._changes = {
            self.arrive: 6,
            self.leave: 2,
            self.follow: 4,
            self.grant: 6,
            self.revoke: 3,
            self.terminate: 3,
            self.break_imds: 1,
        }

    def change(self) -> None:
        """Change one thing."""
        self.step += 1
        if self._rng.random() < 0.02:
            self._jump(self._rng.choice((-7200.0, 7200.0)))
        (change,) = self._rng.choices(list(self._changes), list(self._changes.values()))
        change(self._rng.choice(ADDRESSES))

    def arrive(self, address: str) -> None:
        """A new pod at a free address, with an identity at once or without; names are used again and again."""
        if address in self.at:
            return
        self._born += 1
        namespace = f"team-{address.rpartition('.')[2]}"
        pod = self._make.pod(
            self._rng.choice(NAMES), namespace, ip=address, uid=f"uid-{self._born}", version=str(self._born)
        )
        self.at[address] = Guest(pod)
        self._bench.put_pod(pod)
        if self._rng.random() < 0.8:
            self.grant(address)

    def leave(self, address: str) -> None:
        """A pod goes; its assignment may stay behind for a while."""
        guest = self.at.pop(address, None)
        if guest is None:
            return
        guest.gone = True
        if self._rng.random() < 0.5:
            self._take(guest)
        self._bench.drop_pod(guest.pod)

    def follow(self, address: str) -> None:
        """Another pod takes the address at once."""
        self.leave(address)
        self.arrive(address)

    def grant(self, address: str) -> None:
        """A pod gets an identity of its own, which no other pod ever has."""
        guest = self.at.get(address)
        if guest is None or guest.record is not None:
            return
        self._born += 1
        right = Right(f"client-of-own-{self._born}")
        identity = self._make.identity(f"own-{self._born}", guest.pod.namespace)
        annotations = {"aadpodidentity.k8s.io/pod-uid": guest.pod.metadata.uid}
        guest.record = self._make.assigned(guest.pod, identity, annotations=annotations)
        guest.rights.append(right)
        self._bench.put_assigned(guest.record)

    def revoke(self, address: str) -> None:
        """Its assignment goes."""
        guest = self.at.get(address)
        if guest is not None:
            self._take(guest)

    def _take(self, guest: Guest) -> None:
        if guest.record is None:
            return
        self._bench.drop_assigned(guest.record)
        guest.record = None
        guest.rights[-1].end = self.step

    def terminate(self, address: str) -> None:
        """A pod is told to end: it keeps what it has, for its time of grace."""
        guest = self.at.get(address)
        if guest is None or guest.pod.metadata.deletion_timestamp is not None:
            return
        self._born += 1
        until = (datetime.fromtimestamp(self._bench.clock.wall(), UTC) + timedelta(hours=9)).isoformat()
        meta = guest.pod.metadata
        guest.pod = self._make.pod(
            meta.name, meta.namespace, ip=address, uid=meta.uid, deletion=until, version=str(self._born)
        )
        self._bench.put_pod(guest.pod)

    def break_imds(self, _address: str) -> None:
        """The next calls of the metadata service fail."""
        failure = self._rng.choice(
            (
                TokenError(429, "invalid_request", "throttled", 0.01),
                TokenError(410, "gone", "", 0.01),
                TokenError(500, "server_error", "", 0.01),
                AzureUnavailable("no route"),
                TokenError(400, "invalid_request", "Identity not found"),
            )
        )
        if len(self._bench.imds.errors) < 3:
            self._bench.imds.errors.append(failure)


async def visit(storm: Storm, bench: Bench, address: str, rng: random.Random) -> str:
    """One process of a pod, which asks on one connection, maybe longer than its pod lives; a wrong token, or ""."""
    guest = storm.at.get(address)
    if guest is None:
        await asyncio.sleep(0.05)
        return ""
    reader, writer = await bench.connect(address)
    sure = False
    try:
        for _ in range(rng.randint(1, 12)):
            if guest.gone and address not in storm.at and rng.random() < 0.9:
                return ""  # few ask on from an address that nobody has: each waits for five seconds
            begun = storm.step
            writer.write(REQUEST)
            reply = await read_reply(reader)
            storm.counts[str(reply.status)] += 1
            sure = sure or storm.at.get(address) is guest
            if not sure:
                return ""  # who was at the address when the kernel made the connection cannot be told
            if reply.status == 200:
                got = reply.json["client_id"]
                if not any(right.client_id == got and right.end >= begun for right in guest.rights):
                    return f"{address}: {got} for {guest.pod.metadata.uid}, steps {begun} to {storm.step}"
            if reply.headers["connection"] == "close":
                return ""
            if rng.random() < 0.1:
                storm.change()
    except (asyncio.IncompleteReadError, ConnectionError):
        storm.counts["closed"] += 1
    finally:
        writer.close()
    return ""


@pytest.mark.faults
async def test_no_pod_ever_gets_what_is_not_its_own(start: Start, make: type[Make]) -> None:
    """Whoever opened a connection gets tokens of its own identities only, and none after they were taken away."""
    shift = [0.0]
    real = Clock()
    clock = Clock(wall=lambda: real.wall() + shift[0])
    bench = await start(*FLAGS, clock=clock)
    rng = random.Random(int(os.environ.get("PODIDENTITY_STORM_SEED", "7")))
    storm = Storm(bench, make, rng, lambda seconds: shift.__setitem__(0, shift[0] + seconds))
    wrong: list[str] = []

    async def live(address: str, own: random.Random) -> None:
        while storm.counts["200"] < TOKENS and not wrong:
            found = await visit(storm, bench, address, own)
            if found:
                wrong.append(found)
            await asyncio.sleep(0)

    async def blow() -> None:
        while storm.counts["200"] < TOKENS and not wrong:
            storm.change()
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as group:
        for address in ADDRESSES:
            for _ in range(8):
                group.create_task(live(address, random.Random(rng.random())))
        group.create_task(blow())
    assert wrong == []
    assert storm.counts["200"] >= TOKENS
    assert storm.counts["503"] > 0
