"""Every object in memory, as bytes, with the history that watches replay. Nothing here awaits: a write is one step."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from podidentity.lab.kube.disk import Disk
from podidentity.lab.kube.errors import StatusError, expired
from podidentity.lab.kube.objects import Obj, decode, dig, encode, meta

HISTORY: Final = 4096
"""Changes remembered for each resource; an older watch gets 410."""

_FLAGS: Final = frozenset(["spec.unschedulable", "spec.hostNetwork"])
"""Fields to select by that are false where they are absent."""

Key = tuple[str, str]
FieldsOf = Callable[[str], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Stored:
    """One revision of one object. ``body`` is its JSON without apiVersion and kind; ``fields`` what selectors see."""

    resource: str
    namespace: str
    name: str
    revision: int
    body: bytes
    labels: Mapping[str, str]
    fields: Mapping[str, str]

    def obj(self) -> Obj:
        """A fresh copy of the object, without apiVersion and kind."""
        found = decode(self.body)
        assert isinstance(found, dict)
        return found

    def gone(self, revision: int) -> Stored:
        """The same object as a deletion at ``revision`` tells of it."""
        obj = self.obj()
        obj["metadata"]["resourceVersion"] = str(revision)
        return replace(self, revision=revision, body=encode(obj))


@dataclass(frozen=True, slots=True)
class Change:
    """One write: ``now`` is the object as it is (ADDED, MODIFIED) or was (DELETED), with the write's revision."""

    type: str
    now: Stored
    old: Stored | None
    encoded: dict[object, bytes] = field(default_factory=dict)
    """The event as sent, for each representation: made once for all watchers."""


Listener = Callable[[Change], None]


class _Table:
    """The objects of one resource, sorted, and what happened to them."""

    def __init__(self, floor: int, history: int) -> None:
        self.objects: dict[Key, Stored] = {}
        self.keys: list[Key] = []
        self.log: deque[Change] = deque(maxlen=history)
        self.floor = floor
        self.listeners: dict[int, Listener] = {}

    def set(self, stored: Stored) -> None:
        key = (stored.namespace, stored.name)
        if key not in self.objects:
            insort(self.keys, key)
        self.objects[key] = stored

    def drop(self, key: Key) -> None:
        del self.objects[key]
        del self.keys[bisect_left(self.keys, key)]

    def record(self, change: Change) -> None:
        if len(self.log) == self.log.maxlen:
            self.floor = self.log[0].now.revision
        self.log.append(change)
        for listener in tuple(self.listeners.values()):
            listener(change)


class Store:
    """``fields_of(resource)`` gives the field selectors of a resource: name to path."""

    def __init__(self, disk: Disk, fields_of: FieldsOf, *, history: int = HISTORY) -> None:
        self._disk = disk
        self._fields_of = fields_of
        self._history = history
        self._tables: dict[str, _Table] = {}
        self._listener = 0
        self.revision = max(disk.revision(), 1)
        self._start = self.revision
        for resource, namespace, name, revision, body in disk.load():
            self._table(resource).set(self._stored(resource, (namespace, name), revision, body, decode(body)))

    def _table(self, resource: str) -> _Table:
        found = self._tables.get(resource)
        if found is None:
            found = self._tables[resource] = _Table(self._start, self._history)
        return found

    def _stored(self, resource: str, key: Key, revision: int, body: bytes, obj: Obj) -> Stored:
        namespace, name = key
        fields = {"metadata.name": name, "metadata.namespace": namespace}
        for field_name, text in self._fields_of(resource).items():
            path, _, missing = text.partition("=")
            value = dig(obj, *path.split("."))
            if value is None and path in _FLAGS:
                value = False
            told = str(value).lower() if isinstance(value, bool) else str(value)
            fields[field_name] = missing if value is None else told
        labels = meta(obj).get("labels") or {}
        return Stored(resource, namespace, name, revision, body, labels, fields)

    def get(self, resource: str, namespace: str, name: str) -> Stored | None:
        """The object as it is now."""
        return self._table(resource).objects.get((namespace, name))

    def scan(self, resource: str, namespace: str = "", after: Key = ("", "")) -> Iterator[Stored]:
        """Objects sorted by namespace and name; only of ``namespace`` when given; only behind the key ``after``."""
        table = self._table(resource)
        start = bisect_left(table.keys, max(after, (namespace, "")))
        for key in table.keys[start:]:
            if namespace and key[0] != namespace:
                return
            if key > after and key in table.objects:
                yield table.objects[key]

    def scan_at(self, resource: str, revision: int, namespace: str = "", after: Key = ("", "")) -> Iterator[Stored]:
        """As :meth:`scan`, of the objects as they were at ``revision``; raises as :meth:`check_age`."""
        self.check_age(resource, revision)
        table = self._table(resource)
        then: dict[Key, Stored | None] = {}
        for change in reversed(table.log):
            if change.now.revision <= revision:
                break
            then[change.now.namespace, change.now.name] = change.old
        if not then:
            yield from self.scan(resource, namespace, after)
            return
        for key in sorted(table.objects.keys() | then.keys()):
            found = then[key] if key in then else table.objects[key]
            if found is not None and key > after and (not namespace or key[0] == namespace):
                yield found

    def count(self, resource: str) -> int:
        """How many objects there are."""
        return len(self._table(resource).keys)

    def resources(self) -> tuple[str, ...]:
        """The resources that hold an object."""
        return tuple(sorted(resource for resource, table in self._tables.items() if table.keys))

    def put(self, resource: str, obj: Obj) -> Stored:
        """Write ``obj`` (its ``metadata.resourceVersion`` is set here) and tell every listener."""
        metadata = obj["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        revision = self.revision + 1
        metadata["resourceVersion"] = str(revision)
        bare = {key: value for key, value in obj.items() if key not in {"apiVersion", "kind"}}
        stored = self._stored(resource, (namespace, name), revision, encode(bare), bare)
        table = self._table(resource)
        self._disk.put(resource, namespace, name, revision, stored.body)
        old = table.objects.get((namespace, name))
        self.revision = revision
        table.set(stored)
        table.record(Change("MODIFIED" if old else "ADDED", stored, old))
        return stored

    def remove(self, resource: str, obj: Obj) -> Stored:
        """Delete the stored object that ``obj`` is about; both get the revision of the deletion.

        Watches are told of the object as it was stored last, whatever else ``obj`` says.
        """
        metadata = obj["metadata"]
        key = metadata.get("namespace", ""), metadata["name"]
        table = self._table(resource)
        old = table.objects[key]
        revision = self.revision + 1
        metadata["resourceVersion"] = str(revision)
        gone = old.gone(revision)
        self._disk.put(resource, *key, revision, None)
        self.revision = revision
        table.drop(key)
        table.record(Change("DELETED", gone, old))
        return gone

    def check_age(self, resource: str, revision: int) -> None:
        """Raise 410 when changes after ``revision`` are forgotten already, 504 when it lies in the future."""
        floor = self._table(resource).floor
        if revision < floor:
            raise expired(revision, floor)
        if revision > self.revision:
            message = f"Timeout: Too large resource version: {revision}, current: {self.revision}"
            cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            raise StatusError(504, message, reason="Timeout", details={"causes": [cause], "retryAfterSeconds": 1})

    def forgotten(self, resource: str, revision: int) -> bool:
        """Whether the objects as they were at ``revision`` cannot be told any more."""
        return revision != 0 and revision < self._table(resource).floor

    def since(self, resource: str, revision: int) -> list[Change]:
        """Every remembered change after ``revision``, none when it is yet to come; raises 410 when it is too old."""
        self.check_age(resource, min(revision, self.revision))
        return [change for change in self._table(resource).log if change.now.revision > revision]

    def listen(self, resource: str, listener: Listener) -> int:
        """Call ``listener`` with every change from now on; it must not block. The number is for :meth:`unlisten`."""
        self._listener += 1
        self._table(resource).listeners[self._listener] = listener
        return self._listener

    def unlisten(self, resource: str, number: int) -> None:
        """Stop calling."""
        self._table(resource).listeners.pop(number, None)

    def forget(self) -> None:
        """Forget the history of every resource: watches of older revisions get 410, as after a compaction."""
        self._start = self.revision
        for table in self._tables.values():
            table.log.clear()
            table.floor = self.revision

    def close(self) -> None:
        """Close the file."""
        self._disk.close()
