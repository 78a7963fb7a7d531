"""A keyed set of objects with indexes; it says what each list and event changed. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from podidentity.api.meta import KubeObject

T = TypeVar("T", bound=KubeObject)

ADDED: Final = "ADDED"
MODIFIED: Final = "MODIFIED"
DELETED: Final = "DELETED"
BOOKMARK: Final = "BOOKMARK"
UNREADABLE: Final = "UNREADABLE"
"""Ours, not the API's: an object whose content does not fit its type; for a store it is not there."""


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[T]):
    """One event of a watch. ``object`` is None for BOOKMARK and UNREADABLE; ``key`` is empty for BOOKMARK."""

    type: str
    object: T | None
    resource_version: str
    key: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """What changed: added has no ``old``, deleted has no ``new``."""

    old: T | None
    new: T | None


def split(change: Change[T]) -> tuple[Change[T], ...]:
    """Give a change as its consumers see it: another uid under the same name is a deletion, then an addition."""
    old, new = change.old, change.new
    if old is None or new is None or old.metadata.uid == new.metadata.uid:
        return (change,)
    return Change(old, None), Change(None, new)


Index = Callable[[T], Iterable[str]]


class Store(Generic[T]):
    """Objects by ``obj.key``. ``indexes`` maps an index's name to a function giving an object's values in it."""

    def __init__(self, indexes: Mapping[str, Index[T]] | None = None) -> None:
        self._items: dict[str, T] = {}
        self._index_of: dict[str, Index[T]] = dict(indexes or {})
        self._buckets: dict[str, dict[str, dict[str, T]]] = {name: {} for name in self._index_of}

    def __len__(self) -> int:
        """How many objects there are."""
        return len(self._items)

    def get(self, key: str) -> T | None:
        """Return the object with this key (``namespace/name`` or ``name``), or None."""
        return self._items.get(key)

    def by_index(self, index: str, value: str) -> tuple[T, ...]:
        """Return the objects with ``value`` in ``index``, in the order they came; KeyError without that index."""
        return tuple(self._buckets[index].get(value, {}).values())

    def values(self) -> Iterable[T]:
        """All objects; a snapshot, safe to iterate while the store changes."""
        return tuple(self._items.values())

    def replace_all(self, items: Iterable[T]) -> list[Change[T]]:
        """Make the store hold exactly ``items``; gives only what differs, deletions first.

        A name with another uid is a deletion and an addition.
        """
        fresh = {item.key: item for item in items}
        changes = [self._remove(key) for key in [key for key in self._items if key not in fresh]]
        for item in fresh.values():
            change = self._upsert(item)
            if change is not None:
                changes.extend(split(change))
        return changes

    def apply(self, event: WatchEvent[T]) -> Change[T] | None:
        """Take one watch event in; gives what it changed. See ``split`` for a name that came back with another uid."""
        if event.type == BOOKMARK:
            return None
        if event.object is None or event.type == DELETED:
            return self._remove(event.key, event.object) if event.key in self._items else None
        return self._upsert(event.object)

    def _upsert(self, item: T) -> Change[T] | None:
        old = self._items.get(item.key)
        if old is not None and old.metadata.uid == item.metadata.uid and _same(old, item):
            return None
        return self._put(item.key, old, item)

    def _put(self, key: str, old: T | None, item: T) -> Change[T]:
        if old is not None:
            self._unindex(key, old)
        self._items[key] = item
        for name, values_of in self._index_of.items():
            buckets = self._buckets[name]
            for value in values_of(item):
                buckets.setdefault(value, {})[key] = item
        return Change(old, item)

    def _remove(self, key: str, last: T | None = None) -> Change[T]:
        """Take an object out; ``last`` is its final state when the API told it."""
        stored = self._items.pop(key)
        self._unindex(key, stored)
        same_object = last is not None and last.metadata.uid == stored.metadata.uid
        return Change(last if same_object else stored, None)

    def _unindex(self, key: str, item: T) -> None:
        for name, values_of in self._index_of.items():
            buckets = self._buckets[name]
            for value in values_of(item):
                bucket = buckets.get(value)
                if bucket is not None:
                    bucket.pop(key, None)
                    if not bucket:
                        del buckets[value]


def _same(old: KubeObject, new: KubeObject) -> bool:
    """Whether nothing happened: same version, or no versions at all and equal content."""
    version = new.metadata.resource_version
    return old.metadata.resource_version == version if version else old == new
