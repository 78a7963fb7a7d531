"""What to do on one host: from what is wanted, recorded and attached to writes and an identity change. Pure.

Two rules carry everything. An identity is added only when a record in the API already says so, and a record keeps its
finalizer until the identity it stands for may be forgotten: so a restart at any point finds what was meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from podidentity.api.constants import STATE_ASSIGNED, STATE_CREATED
from podidentity.azure.arm import HostIdentities, IdentityPatch
from podidentity.mic import messages
from podidentity.mic.names import plain_name
from podidentity.mic.record import UNKNOWN, YES, Record, same_place, up_to_date
from podidentity.mic.wanted import AssignmentKey, Wanted
from podidentity.rules.resource_id import HostId, fold

MAX_KEYS: Final = 150
"""Identities in one PATCH, added and removed together."""


@dataclass(frozen=True, slots=True)
class Create:
    """Write a new record in this state. ``present`` is its present-before annotation."""

    want: Wanted
    present: str = ""
    state: str = STATE_CREATED


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Make a record say what is wanted now, in this state."""

    record: Record
    want: Wanted
    state: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a record: its tokens stop at once, its finalizer stays."""

    record: Record


@dataclass(frozen=True, slots=True)
class Release:
    """Drop the finalizer of a deleted record: nothing is left to clean for it."""

    record: Record


@dataclass(frozen=True, slots=True)
class Settle:
    """Set the state Assigned; ``present`` also writes the present-before annotation (empty: removes it)."""

    record: Record
    want: Wanted
    present: str | None = None


@dataclass(frozen=True, slots=True)
class Looked:
    """Note that the identity was not on the host before us."""

    record: Record


Write = Create | Rewrite | Delete | Release | Settle | Looked


@dataclass(frozen=True, slots=True)
class Item:
    """One assignment that is not settled. ``plain_free``: the original's name for its record is to be had."""

    key: AssignmentKey
    wanted: Wanted | None
    records: tuple[Record, ...]
    plain_free: bool = False


@dataclass(frozen=True, slots=True)
class IdFacts:
    """One identity on the host. ``ours``: some record says that we attached it.

    ``unlooked``: some record still waits for a look at the host. ``lingering``: some deleted record's time is not up.
    """

    wanted: bool = False
    live: bool = False
    ours: bool = False
    unlooked: bool = False
    lingering: bool = False


@dataclass(frozen=True, slots=True)
class HostView:
    """The snapshot a plan is made from.

    ``known`` is the last answer about the host; ``fresh``: it may be acted upon; ``patching``: a PATCH is in flight,
    ``known`` is from before it. ``gone``: ARM has no such host. ``blind``: the host cannot be read at present.
    ``unripe``: identities whose principal is not known yet. ``dead``: those that will not get one (they were created
    anew under their names) -> whether they may be detached.
    ``blocked``: identity -> why it is left alone for a while. ``due``: deleted records whose linger has passed.
    ``immutable``: folded client ids that are never removed.
    """

    host: HostId | None
    items: tuple[Item, ...]
    facts: Mapping[str, IdFacts] = field(default_factory=dict)
    known: HostIdentities | None = None
    fresh: bool = False
    patching: bool = False
    gone: bool = False
    blind: bool = False
    blocked: Mapping[str, str] = field(default_factory=dict)
    due: frozenset[str] = frozenset()
    unripe: AbstractSet[str] = frozenset()
    dead: Mapping[str, bool] = field(default_factory=dict)
    immutable: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Stuck:
    """A wanted assignment that cannot be made, and why, in words for an Event."""

    want: Wanted
    message: str


@dataclass(frozen=True, slots=True)
class HostPlan:
    """``look``: read the host first. ``add``, ``remove``: folded ids to change on it. ``settled``: nothing left to do.

    ``look_later``: the answer may still ripen; read again in a while.
    """

    writes: tuple[Write, ...] = ()
    look: bool = False
    look_later: bool = False
    add: frozenset[str] = frozenset()
    remove: frozenset[str] = frozenset()
    stuck: tuple[Stuck, ...] = ()
    settled: tuple[AssignmentKey, ...] = ()


def plan(view: HostView) -> HostPlan:
    """Decide for every open assignment of one host."""
    planner = _Planner(view)
    for item in view.items:
        planner.item(item)
    planner.missing()
    planner.incomplete()
    return HostPlan(
        writes=tuple(planner.writes),
        look=planner.look and view.host is not None and not view.patching,
        look_later=planner.look_later,
        add=frozenset(planner.add),
        remove=frozenset(planner.remove),
        stuck=tuple(planner.stuck),
        settled=tuple(planner.settled),
    )


def identity_patch(known: HostIdentities, add: frozenset[str], remove: frozenset[str]) -> IdentityPatch | None:
    """The change to ask for, ``None`` when the host is already so; adds come before removes when not all fit.

    The type keeps a system-assigned identity; ``None`` is sent only when nothing at all remains.
    """
    present = set(known.user_assigned)
    adds = sorted(add - present)[:MAX_KEYS]
    removes = sorted((remove - add) & present)[: MAX_KEYS - len(adds)]
    if not adds and not removes:
        return None
    remain = (present - set(removes)) | set(adds)
    kinds = ["SystemAssigned"] if "systemassigned" in fold(known.type) else []
    kinds += ["UserAssigned"] if remain else []
    return IdentityPatch(type=", ".join(kinds) or "None", add=frozenset(adds), remove=frozenset(removes))


class _Planner:
    """One pass over the items; collects what the plan consists of."""

    def __init__(self, view: HostView) -> None:
        self.view = view
        self.writes: list[Write] = []
        self.look = False
        self.look_later = False
        self.add: set[str] = set()
        self.remove: set[str] = set()
        self.stuck: list[Stuck] = []
        self.settled: list[AssignmentKey] = []

    def item(self, item: Item) -> None:
        """Decide for one assignment."""
        want = item.wanted
        live = [rec for rec in item.records if not rec.dying]
        dying = [rec for rec in item.records if rec.dying]
        keeper = _keeper(live, want) if want is not None else None
        self.writes.extend(Delete(rec) for rec in live if rec is not keeper)
        for rec in dying:
            self._dying(rec)
        if want is None:
            if not item.records:
                self.settled.append(item.key)
        elif keeper is None:
            # With nothing on the host to answer for, the name is waited for; else the successor comes first.
            if want.resource or not any(rec.held for rec in dying):
                self._create(want)
        elif self._keep(keeper, want) and len(item.records) == 1 and not self._rename(item, keeper, want):
            self.settled.append(item.key)

    def missing(self) -> None:
        """Collect what records promise and the host lacks."""
        view = self.view
        if view.known is None or not view.fresh or view.patching:
            return
        absent = {
            key
            for key, facts in view.facts.items()
            if facts.wanted and facts.live and not facts.unlooked and key not in view.known.user_assigned
        }
        self.add |= absent - set(view.blocked)

    def incomplete(self) -> None:
        """Collect what the host has of identities that were created anew: detached now, they are missing next time."""
        view = self.view
        ours = {key for key, facts in view.facts.items() if facts.wanted and facts.live and facts.ours}
        self.look_later = self.look_later or bool(ours & view.unripe)
        if view.known is None or not view.fresh or view.patching:
            return
        self.remove |= {key for key in ours - set(view.blocked) if view.dead.get(key)}

    def _facts(self, resource: str) -> IdFacts:
        return self.view.facts.get(resource, IdFacts())

    def _create(self, want: Wanted) -> None:
        view = self.view
        if not want.resource:
            self.writes.append(Create(want, state=STATE_ASSIGNED))
        elif view.host is None:
            self.stuck.append(Stuck(want, messages.not_on_azure(want.node)))
        elif view.known is not None and (view.fresh or view.patching):
            found = view.known.user_assigned.get(want.resource)
            foreign = found is not None and not self._facts(want.resource).ours
            usable = found is not None and fold(found.client_id) == want.client_id
            state = STATE_ASSIGNED if usable else STATE_CREATED
            self.writes.append(Create(want, YES if foreign else "", state))
        elif view.blind or view.gone:
            ours = self._facts(want.resource).ours
            self.writes.append(Create(want, "" if ours else UNKNOWN))
        else:
            self.look = True

    def _rename(self, item: Item, rec: Record, want: Wanted) -> bool:
        """Go on with a record of the original's name, once that is free; whether there is something to do for it.

        A pod that came back got a record of another name while its predecessor's still stood for the identity.
        """
        unseen = bool(want.resource) and (self.view.host is None or self.view.blind or self.view.gone)
        if unseen or rec.object.name == plain_name(item.key) or not item.plain_free:
            return False
        self._create(want)
        return True

    def _keep(self, rec: Record, want: Wanted) -> bool:
        """Bring a record that stays to Assigned; whether it is there."""
        if not up_to_date(rec, want):
            verified = rec.assigned and rec.client_id == want.client_id
            self.writes.append(Rewrite(rec, want, STATE_ASSIGNED if verified else STATE_CREATED))
            return False
        if rec.assigned:
            return True
        if not want.resource:
            self.writes.append(Settle(rec, want))
        elif self.view.host is None:
            self.stuck.append(Stuck(want, messages.not_on_azure(want.node)))
        elif self.view.gone:
            self.stuck.append(Stuck(want, messages.host_gone(self.view.host)))
        elif want.resource in self.view.blocked:
            self.stuck.append(Stuck(want, self.view.blocked[want.resource]))
        else:
            self._attach(rec, want)
        return False

    def _attach(self, rec: Record, want: Wanted) -> None:
        view = self.view
        found = view.known.user_assigned.get(want.resource) if view.known is not None else None
        usable = view.known is not None and (view.fresh or view.patching)
        if found is None:
            if not usable:
                self.look = True
            elif view.fresh and not view.patching and rec.unlooked:
                self.writes.append(Looked(rec))
        elif want.resource in view.dead:
            if not usable:
                self.look = True
            elif not (view.dead[want.resource] and self._facts(want.resource).ours):
                self.stuck.append(Stuck(want, messages.created_anew(want)))
        elif fold(found.client_id) == want.client_id:
            if usable:
                foreign = YES if not self._facts(want.resource).ours else ""
                self.writes.append(Settle(rec, want, foreign if rec.unlooked else None))
            else:
                self.look = True
        elif not found.client_id:
            self.look_later = True
        else:
            self.stuck.append(Stuck(want, messages.wrong_client_id(want, found.client_id)))

    def _dying(self, rec: Record) -> None:
        view, facts = self.view, self._facts(rec.resource)
        if not rec.held:
            return
        nothing_to_clean = not rec.resource or view.host is None or view.gone
        if nothing_to_clean or rec.present_before or rec.unlooked or rec.client_id in view.immutable or facts.live:
            self.writes.append(Release(rec))
        elif facts.wanted or view.patching:
            return
        elif view.known is not None and view.fresh and not view.known.updating and self._clean(rec):
            self.writes.append(Release(rec))  # an operation under way may still fail, and the identity be back
        elif rec.name in view.due:
            self._due(rec, facts)

    def _clean(self, rec: Record) -> bool:
        found = self.view.known.user_assigned.get(rec.resource) if self.view.known is not None else None
        return found is None or fold(found.client_id) in self.view.immutable

    def _due(self, rec: Record, facts: IdFacts) -> None:
        if facts.lingering:
            self.writes.append(Release(rec))  # a record deleted later keeps the memory
        elif not self.view.fresh:
            self.look = self.look or rec.resource not in self.view.blocked
        elif rec.resource not in self.view.blocked:
            self.remove.add(rec.resource)


def _keeper(live: list[Record], want: Wanted) -> Record | None:
    """The record to go on with: the original's name first, then the oldest."""
    plain = plain_name(want.key)
    fitting = [rec for rec in live if same_place(rec, want)]
    return min(fitting, key=lambda rec: _seniority(rec, plain), default=None)


def _seniority(rec: Record, plain: str) -> tuple[bool, str, str]:
    meta = rec.object.metadata
    return meta.name != plain, meta.creation_timestamp or "", rec.name
