"""All the controller knows, sorted by host. No I/O.

Events go in, the names of the shelves they touched come out; a shelf holds what is wanted and what is recorded on one
host, and which of its assignments are open, that is, not known to be as they should. Settled ones cost nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TypeVar

from podidentity.api.core import Node
from podidentity.api.identity import AzureAssignedIdentity
from podidentity.mic.hosts import HostMap, unplaced
from podidentity.mic.match import Matched, Matcher, Problem
from podidentity.mic.record import Record, record
from podidentity.mic.sharing import Sharing
from podidentity.mic.wanted import AssignmentKey, Wanted
from podidentity.rules.resource_id import HostId

K = TypeVar("K")
V = TypeVar("V")

TOMBSTONES = 10_000
"""Uids of objects we saw go, remembered so that a late event does not bring them back."""


@dataclass(slots=True)
class Tally:
    """The records of one identity on a host: how many are not deleted, say that we attached it, wait for a look."""

    live: int = 0
    ours: int = 0
    unlooked: int = 0
    dying: set[str] = field(default_factory=set)

    def add(self, rec: Record, sign: int) -> None:
        """Count a record in (1) or out (-1)."""
        self.live += sign * (not rec.dying)
        self.ours += sign * (not rec.present_before and not rec.unlooked)
        self.unlooked += sign * (rec.unlooked and not rec.dying)
        if rec.dying and rec.held:
            (self.dying.add if sign > 0 else self.dying.discard)(rec.name)


@dataclass(slots=True)
class Shelf:
    """What concerns one host.

    ``touched``: what changed since the last plan. ``planned``: assignments looked at in all plans together.
    """

    key: str
    host: HostId | None = None
    wanted: dict[AssignmentKey, Wanted] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    records_of: defaultdict[AssignmentKey, set[str]] = field(default_factory=lambda: defaultdict(set))
    wanted_by_id: defaultdict[str, set[AssignmentKey]] = field(default_factory=lambda: defaultdict(set))
    tallies: dict[str, Tally] = field(default_factory=dict)
    open: set[AssignmentKey] = field(default_factory=set)
    touched: set[AssignmentKey] = field(default_factory=set)
    planned: int = 0

    @property
    def empty(self) -> bool:
        """Whether nothing is wanted and nothing recorded."""
        return not self.wanted and not self.records

    def reopen(self) -> None:
        """Have everything looked at again."""
        self.open.update(self.wanted, self.records_of)

    def _touch(self, key: AssignmentKey) -> None:
        self.open.add(key)
        self.touched.add(key)

    def want(self, want: Wanted) -> None:
        """Put a wanted assignment on the shelf."""
        self.unwant(want.key)
        self.wanted[want.key] = want
        self.wanted_by_id[want.resource].add(want.key)
        self._touch(want.key)

    def unwant(self, key: AssignmentKey) -> None:
        """Take a wanted assignment off."""
        want = self.wanted.pop(key, None)
        if want is not None:
            _drop(self.wanted_by_id, want.resource, key)
            self._touch(key)

    def put(self, rec: Record) -> None:
        """Put a record on the shelf, in place of its older version."""
        self.take(rec.name)
        self.records[rec.name] = rec
        self.records_of[rec.key].add(rec.name)
        self.tallies.setdefault(rec.resource, Tally()).add(rec, 1)
        self._touch(rec.key)

    def take(self, name: str) -> None:
        """Take a record off."""
        rec = self.records.pop(name, None)
        if rec is not None:
            _drop(self.records_of, rec.key, name)
            tally = self.tallies[rec.resource]
            tally.add(rec, -1)
            if not tally.live and not tally.dying:
                del self.tallies[rec.resource]
            self._touch(rec.key)

    def records_for(self, key: AssignmentKey) -> tuple[Record, ...]:
        """The records of one assignment, oldest name first."""
        return tuple(self.records[name] for name in sorted(self.records_of.get(key, ())))


@dataclass(frozen=True, slots=True)
class Touched:
    """What an event led to: the shelves to look at and what users have to mend."""

    shelves: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = ()
    warning: str = ""


class World:
    """Pods, bindings, identities, nodes and records. Each method takes one change in."""

    def __init__(self, *, force_namespaced: bool = False) -> None:
        self.matcher = Matcher(force_namespaced=force_namespaced)
        self.hosts = HostMap()
        self.sharing = Sharing()
        self.shelves: dict[str, Shelf] = {}
        self._shelf_of_record: dict[str, str] = {}
        self._names: defaultdict[str, set[str]] = defaultdict(set)
        self._wanted_on_node: defaultdict[str, dict[AssignmentKey, Wanted]] = defaultdict(dict)
        self._records_on_node: defaultdict[str, set[str]] = defaultdict(set)
        self._gone: dict[str, None] = {}

    def match(self, old: Matched | None, new: Matched | None) -> Touched:
        """A pod, binding or identity changed."""
        delta = self.matcher.apply(old, new)
        touched = set()
        for want in delta.removed:
            self._wanted_on_node[want.node].pop(want.key, None)
            if not self._wanted_on_node[want.node]:
                del self._wanted_on_node[want.node]
            touched.add(self._unwant(want, self.hosts.shelf_of(want.node)))
        for want in delta.added:
            self._wanted_on_node[want.node][want.key] = want
            touched.add(self._want(want))
        return Touched(frozenset(touched), delta.problems)

    def node(self, old: Node | None, new: Node | None) -> Touched:
        """A node changed: what is on it may have moved to another shelf."""
        move = self.hosts.apply(old, new)
        if move.before == move.after:
            return Touched(warning=move.warning)
        for want in self._wanted_on_node.get(move.node, {}).values():
            self._unwant(want, move.before)
            self._want(want)
        # A node that is gone or came back elsewhere leaves its records where they are: that host has to be cleaned.
        if move.before == unplaced(move.node):
            for name in tuple(self._records_on_node.get(move.node, ())):
                rec = self.shelves[self._shelf_of_record[name]].records[name]
                self._file(rec, self._home(rec))
        return Touched(frozenset({move.before, move.after}), warning=move.warning)

    def seen(self, obj: AzureAssignedIdentity, *, shared: bool = False) -> Touched:
        """An object as the API has it, from a watch or as the answer to our own write; older versions are ignored.

        ``shared``: its parts are shared already, it is kept as it is. A copy beside the watch's own costs memory.
        """
        old = self._record(obj.key)
        if obj.metadata.uid in self._gone or (old is not None and _older(obj, old.object)):
            return Touched()
        obj = obj if shared else self.sharing.record(obj)
        if old is not None and old.object == obj:
            self.shelves[self._shelf_of_record[old.name]].records[old.name] = replace(old, object=obj)
            return Touched()
        before = self._remove(obj.key)
        rec = record(obj)
        same = old is not None and old.object.metadata.uid == obj.metadata.uid and old.key == rec.key
        keep = before if same and before and rec.host is None and self.hosts.host_of(obj.spec.node_name) is None else ""
        after = self._file(rec, keep or self._home(rec))
        return Touched(frozenset(name for name in (before, after) if name))

    def gone(self, key: str, uid: str) -> Touched:
        """An object is no more; ``uid`` keeps a late event from taking its successor away."""
        self._gone[uid] = None
        if len(self._gone) > TOMBSTONES:
            del self._gone[next(iter(self._gone))]
        rec = self._record(key)
        if rec is None or rec.object.metadata.uid != uid:
            return Touched()
        return Touched(frozenset({self._remove(key)}))

    def taken(self, name: str) -> bool:
        """Whether a record of this name exists in any namespace: the original looks records up by name alone."""
        return bool(self._names.get(name))

    def reserve(self, name: str, key: str) -> None:
        """Hold ``name`` for the object ``namespace/name`` about to be created; ``release`` gives it back."""
        self._names[name].add(key)

    def release(self, name: str, key: str) -> None:
        """Give a reserved name back unless its object exists."""
        if key not in self._shelf_of_record:
            _drop(self._names, name, key)

    def prune(self, key: str) -> bool:
        """Forget an empty shelf; whether it was forgotten."""
        shelf = self.shelves.get(key)
        if shelf is not None and shelf.empty:
            del self.shelves[key]
            return True
        return shelf is None

    def _record(self, name: str) -> Record | None:
        shelf = self._shelf_of_record.get(name)
        return self.shelves[shelf].records.get(name) if shelf is not None else None

    def _home(self, rec: Record) -> str:
        """The shelf a record belongs on: the host written on it, whatever its node is on now, else its node's."""
        return rec.host.key if rec.host is not None else self.hosts.shelf_of(rec.object.spec.node_name)

    def _file(self, rec: Record, home: str) -> str:
        before = self._shelf_of_record.get(rec.name)
        if before is not None and before != home:
            self.shelves[before].take(rec.name)
        shelf = self._shelf(home, rec.object.spec.node_name)
        if shelf.host is None:
            shelf.host = rec.host
        shelf.put(rec)
        self._shelf_of_record[rec.name] = home
        self._names[rec.object.name].add(rec.name)
        self._records_on_node[rec.object.spec.node_name].add(rec.name)
        return home

    def _remove(self, name: str) -> str:
        home = self._shelf_of_record.pop(name, "")
        if not home:
            return ""
        rec = self.shelves[home].records[name]
        self.shelves[home].take(name)
        _drop(self._names, rec.object.name, name)
        _drop(self._records_on_node, rec.object.spec.node_name, name)
        return home

    def _want(self, want: Wanted) -> str:
        key = self.hosts.shelf_of(want.node)
        self._shelf(key, want.node).want(want)
        return key

    def _unwant(self, want: Wanted, key: str) -> str:
        shelf = self.shelves.get(key)
        if shelf is not None and shelf.wanted.get(want.key) is want:
            shelf.unwant(want.key)
        return key

    def _shelf(self, key: str, node: str) -> Shelf:
        shelf = self.shelves.get(key)
        if shelf is None:
            shelf = self.shelves[key] = Shelf(key)
        if shelf.host is None:
            host = self.hosts.host_of(node)
            shelf.host = host if host is not None and host.key == key else None
        return shelf


def _older(obj: AzureAssignedIdentity, known: AzureAssignedIdentity) -> bool:
    """Whether ``obj`` is an outdated view of ``known``; versions are compared as numbers within one object."""
    if obj.metadata.uid != known.metadata.uid:
        return False
    new, old = obj.metadata.resource_version, known.metadata.resource_version
    return new.isdecimal() and old.isdecimal() and int(new) < int(old)


def _drop(index: defaultdict[K, set[V]], value: K, member: V) -> None:
    members = index[value]
    members.discard(member)
    if not members:
        del index[value]
