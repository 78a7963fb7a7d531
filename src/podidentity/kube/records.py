"""The leader's record in its two forms, and what may be concluded from one. Pure, no I/O.

The original keeps it as JSON in an annotation of an Endpoints object, with times of whole seconds; a Lease has fields
of its own, with microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Generic, TypeVar

import msgspec

from podidentity.api.core import Endpoints, Lease, LeaseSpec
from podidentity.api.meta import KubeObject, ObjectMeta
from podidentity.api.resources import ENDPOINTS, LEASES, Resource

T = TypeVar("T", bound=KubeObject)

ANNOTATION: Final = "control-plane.alpha.kubernetes.io/leader"


@dataclass(frozen=True, slots=True)
class Record:
    """Who leads. ``duration`` in seconds; times are RFC 3339 texts; an empty ``holder`` has released it."""

    holder: str
    duration: int
    acquired: str
    renewed: str
    transitions: int


class _Annotation(msgspec.Struct, frozen=True, rename="camel"):
    holder_identity: str = ""
    lease_duration_seconds: int = 0
    acquire_time: str | None = None
    renew_time: str | None = None
    leader_transitions: int = 0


_ANNOTATION: Final = msgspec.json.Decoder(_Annotation)


@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """How one kind of object carries the record. ``read`` gives None when it carries none."""

    resource: Resource[T]
    read: Callable[[T], Record | None]
    write: Callable[[T, Record], T]
    empty: Callable[[str, str], T]
    stamp: Callable[[float], str]


def seconds_stamp(wall: float) -> str:
    """Write a time (seconds since the epoch) as the original does: ``2026-01-31T12:00:00Z``."""
    return datetime.fromtimestamp(int(wall), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_stamp(wall: float) -> str:
    """Write a time (seconds since the epoch) as a Lease has it: ``2026-01-31T12:00:00.000001Z``."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def read_endpoints(obj: Endpoints) -> Record | None:
    """Read the annotation; one that cannot be read is a record of a holder we do not know."""
    text = obj.metadata.annotations.get(ANNOTATION, "")
    if not text:
        return None
    try:
        found = _ANNOTATION.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return Record(holder=f"unreadable: {text[:100]}", duration=0, acquired="", renewed=text, transitions=0)
    return Record(
        holder=found.holder_identity,
        duration=found.lease_duration_seconds,
        acquired=found.acquire_time or "",
        renewed=found.renew_time or "",
        transitions=found.leader_transitions,
    )


def write_endpoints(obj: Endpoints, record: Record) -> Endpoints:
    """Put the record in; everything else stays."""
    text = msgspec.json.encode(
        _Annotation(
            holder_identity=record.holder,
            lease_duration_seconds=record.duration,
            acquire_time=record.acquired or None,
            renew_time=record.renewed or None,
            leader_transitions=record.transitions,
        )
    ).decode()
    meta = msgspec.structs.replace(obj.metadata, annotations={**obj.metadata.annotations, ANNOTATION: text})
    return msgspec.structs.replace(obj, metadata=meta)


def read_lease(obj: Lease) -> Record | None:
    """Read a Lease's spec; one that nobody ever held has no record."""
    spec = obj.spec
    if spec == LeaseSpec():
        return None
    return Record(
        holder=spec.holder_identity or "",
        duration=spec.lease_duration_seconds or 0,
        acquired=spec.acquire_time or "",
        renewed=spec.renew_time or "",
        transitions=spec.lease_transitions or 0,
    )


def write_lease(obj: Lease, record: Record) -> Lease:
    """Put the record in; everything else stays."""
    spec = LeaseSpec(
        holder_identity=record.holder,
        lease_duration_seconds=record.duration,
        acquire_time=record.acquired or None,
        renew_time=record.renewed or None,
        lease_transitions=record.transitions,
    )
    return msgspec.structs.replace(obj, spec=spec)


ENDPOINTS_FORM: Final = Form(
    ENDPOINTS,
    read_endpoints,
    write_endpoints,
    lambda namespace, name: Endpoints(metadata=ObjectMeta(namespace=namespace, name=name)),
    seconds_stamp,
)
LEASE_FORM: Final = Form(
    LEASES,
    read_lease,
    write_lease,
    lambda namespace, name: Lease(metadata=ObjectMeta(namespace=namespace, name=name)),
    micro_stamp,
)


def next_record(old: Record | None, *, holder: str, duration: float, now: str, ours: bool) -> Record:
    """Make the record to write: a renewal when the old one is ``ours``, else a change of leader.

    ``duration`` in seconds is rounded up: whoever reads it waits rather longer than shorter.
    """
    whole = math.ceil(duration)
    if old is None:
        return Record(holder, whole, now, now, 0)
    if ours:
        return Record(holder, whole, old.acquired or now, now, old.transitions)
    return Record(holder, whole, now, now, old.transitions + 1)


def released(old: Record, now: str) -> Record:
    """Make the record that lets anybody take over at once, in the shape the original's library writes."""
    return Record("", 1, now, now, old.transitions)


def patience(record: Record, *, identity: str, duration: float) -> float:
    """Seconds a record must stay unchanged before it is dead; 0 when nobody holds it.

    Our own identity in a record we did not write is a process before us, or a twin: half the duration, after which a
    holder has given up by its own renew deadline. A record that names no duration is given ours.
    """
    if not record.holder:
        return 0.0
    named = float(record.duration) if record.duration > 0 else duration
    return named / 2 if record.holder == identity else named
