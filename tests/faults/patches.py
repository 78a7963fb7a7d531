"""What PATCHes did at the simulated Azure: who sent them, what came off, and which were there at the same time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.faults.judge import Made
from tests.faults.ledger import Removal

from podidentity.lab.cloud.model import Host
from podidentity.lab.cloud.world import World


@dataclass(eq=False)
class _Flight:
    """A PATCH on its way: from its arrival until its operation has ended."""

    source: str
    until: float = math.inf


class Patches:
    """Watches over a world's hosts. Times are those of ``now``."""

    def __init__(self, world: World, now: Callable[[], float]) -> None:
        self.made: list[Made] = []
        self.removals: list[Removal] = []
        self.overlaps: list[tuple[float, str, str, str]] = []
        """When, on which host, whose PATCH came while whose was still in flight."""
        self._world = world
        self._now = now
        self._flights: dict[str, list[_Flight]] = {host.key: [] for host in world.hosts.values()}
        self._last = self.attached()
        self.before = dict(self._last)

    def attached(self) -> dict[str, frozenset[str]]:
        """Folded id of each host -> folded ids of its identities, changes that are under way done."""
        return {host.key: frozenset(host.identity.user) for host in self._world.hosts.values()}

    def by_hand(self, host: str, *, took: str = "", put: str = "") -> None:
        """Somebody took an identity (folded id) off, or put one on, that has to stay from then on."""
        self._last[host] = (self._last[host] | {put} if put else self._last[host]) - {took}
        self.before[host] |= {put} if put else set()

    @contextlib.contextmanager
    def patch(self, host: str, source: str, earliest: float) -> Iterator[Callable[[], None]]:
        """A PATCH of ``host`` (folded id) arrives; the function it gives is called when it was answered."""
        at = self._now()
        self.made.append(Made(earliest, at, source, f"PATCH {host}"))
        flights = self._flights.setdefault(host, [])
        flights[:] = [flight for flight in flights if flight.until > at]
        self.overlaps += [(at, host, source, flight.source) for flight in flights]
        flight = _Flight(source)
        flights.append(flight)

        def answered() -> None:
            flight.until = self._ends(host, at)
            self.compare(host, source)

        try:
            yield answered
        finally:
            flight.until = min(flight.until, max(self._ends(host, at), self._now()))

    def compare(self, host: str, source: str) -> None:
        """Note what came off a host since the last look."""
        found = self._world.hosts.get(host)
        those = frozenset(found.identity.user) if found else frozenset()
        self.removals += [Removal(self._now(), host, one, source) for one in sorted(self._last[host] - those)]
        self._last[host] = those

    def _ends(self, host: str, since: float) -> float:
        """When the operation ends that began on the host after ``since``; then, when there is none."""
        found: Host | None = self._world.hosts.get(host)
        operation = self._world.operations.get(found.operation) if found and found.operation else None
        return operation.ends if operation is not None and operation.starts >= since else since


def forget_roles(world: World, client_id: str) -> None:
    """Take every role from a principal."""
    principal = world.object_id_of(client_id)
    found = [one for one in world.assignments.values() if one.principal_id == principal]
    world.commit(*(world.assignments.drop(one.id.casefold()) for one in found))
