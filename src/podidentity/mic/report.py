"""What one host's actor tells of itself, without an id. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from podidentity.mic.memory import HostMemory
from podidentity.mic.world import Shelf


@dataclass(frozen=True, slots=True)
class HostReport:
    """One host now. Counts of identities, but ``assignments`` and ``waiting``: of pods' assignments.

    ``present``: of those wanted, how many the host had when it was last read, None when that is not known.
    ``oldest``, ``quarantined_since``: monotonic seconds, None when there is none.
    """

    name: str
    kind: str
    assignments: int
    waiting: int
    oldest: float | None
    wanted: int
    present: int | None
    in_flight: int
    quarantined: int
    quarantined_since: float | None
    trouble: bool


def host_report(shelf: Shelf, memory: HostMemory, in_flight: int) -> HostReport:
    """Look at one host."""
    wanted = {resource for resource in shelf.wanted_by_id if resource}
    known = memory.known
    blocked = [pause.since for resource, pause in memory.quarantine() if resource in wanted]
    return HostReport(
        name=shelf.host.name if shelf.host else "",
        kind=shelf.host.kind if shelf.host else "",
        assignments=len(shelf.wanted),
        waiting=len(memory.waiting),
        oldest=min(memory.waiting.values(), default=None),
        wanted=len(wanted),
        present=None if known is None else sum(resource in known.user_assigned for resource in wanted),
        in_flight=in_flight,
        quarantined=len(blocked),
        quarantined_since=min(blocked, default=None),
        trouble=bool(memory.trouble),
    )


def shown(one: HostReport, now: float, wall: float) -> Mapping[str, object]:
    """As ``/status`` shows it; ``now`` monotonic, ``wall`` seconds since the epoch."""

    def stamp(at: float | None) -> str | None:
        return None if at is None else f"{datetime.fromtimestamp(wall - (now - at), UTC):%FT%TZ}"

    return {
        "host": one.name or None,
        "kind": one.kind or None,
        "assignments": one.assignments,
        "waiting": one.waiting,
        "waitingSince": stamp(one.oldest),
        "identitiesWanted": one.wanted,
        "identitiesPresent": one.present,
        "identitiesInFlight": one.in_flight,
        "identitiesQuarantined": one.quarantined,
        "quarantinedSince": stamp(one.quarantined_since),
        "inTrouble": one.trouble,
    }


def oldest(reports: Iterable[HostReport]) -> float | None:
    """When the assignment that waits longest began to, None when none waits."""
    return min((one.oldest for one in reports if one.oldest is not None), default=None)
