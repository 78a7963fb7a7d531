"""One actor per host: it plans, writes records, and changes the host's identities, one call in flight at a time.

No host waits for another: a hanging or throttled machine holds up its own pods and nobody else's. An actor ends when
nothing is wanted or recorded on its host, and is started again by the next event.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from podidentity.aio.cancelled import raise_if_cancelled
from podidentity.aio.clock import Clock
from podidentity.aio.fence import FenceClosedError
from podidentity.azure.arm import HostIdentities, IdentityPatch
from podidentity.azure.errors import AzureError, HostDeleting
from podidentity.kube.errors import ApiError, KubeError
from podidentity.mic import messages
from podidentity.mic.budget import FIRST, LAST, LATER, Budget
from podidentity.mic.memory import PATIENCE, RIPEN, HostMemory
from podidentity.mic.plan import Create, Delete, HostPlan, Release, Rewrite, Settle, Write, identity_patch, plan
from podidentity.mic.ports import Outlets
from podidentity.mic.reconcile import next_look
from podidentity.mic.report import HostReport, host_report
from podidentity.mic.wanted import AssignmentKey, Wanted
from podidentity.mic.world import Shelf, World
from podidentity.mic.writer import RecordWriter
from podidentity.rules.resource_id import HostId, fold
from podidentity.telemetry.logging import get_logger

RESTART_DELAY: Final = 5.0
TICK: Final = 0.005
ROUNDS: Final = 8
"""A plan looks at all that is open on its host; a part in so many of that may be written before the next one."""
MANY: Final = 200
REST: Final = 5e-5
"""Seconds of rest after a plan of more than MANY, for each assignment looked at: a scale set may have 20,000."""
SLICE: Final = 20
"""Hosts woken in one turn of the loop when all are: probes and the renewal of the lead do not wait for thousands."""
SETTLE: Final = 5.0
"""Seconds between two looks at a host that somebody else is changing."""


@dataclass(frozen=True, slots=True)
class AssignSettings:
    """``batch``: Kubernetes writes at a time per host. ``immutable``: folded client ids.

    Times in seconds; ``retry_interval``: before the same PATCH is tried again.
    """

    batch: int = 20
    linger: float = 120.0
    reconcile_interval: float = 180.0
    retry_interval: float = 1.0
    immutable: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Shared:
    """What all actors have in common."""

    world: World
    outlets: Outlets
    settings: AssignSettings
    clock: Clock
    rng: random.Random
    budget: Budget
    writer: RecordWriter


class HostActor:
    """Brings one host to what is wanted."""

    def __init__(self, shelf: Shelf, shared: Shared) -> None:
        self.shelf = shelf
        self.wake = asyncio.Event()
        self._shared = shared
        self._clock = shared.clock
        self._memory = HostMemory(shared.rng, linger=shared.settings.linger, immutable=shared.settings.immutable)
        self._looking_since: float | None = None
        self._patching = False
        self._in_flight = 0
        self._next_look = next_look(shelf.key, shared.clock.monotonic(), shared.settings.reconcile_interval)
        self._planned_at = shared.clock.monotonic()
        self._looked_at = 0
        self._told: dict[AssignmentKey, str] = {}
        self._log = get_logger(host=shelf.key)

    async def run(self) -> None:
        """Work until the shelf is empty."""
        worked = False
        async with asyncio.TaskGroup() as tasks:
            while True:
                self.wake.clear()
                decided = self._plan()
                deadlines = self._call_arm(tasks, decided)
                if decided.writes:
                    await self._write_some(decided.writes)
                    worked = True
                    continue
                if worked and not self._busy:
                    worked = False
                    pods, identities, bindings = self._shared.world.matcher.counts()
                    self._log.info(f"work done: true. Found {pods} pods, {identities} ids, {bindings} bindings")
                if not self._busy and self._shared.world.prune(self.shelf.key):
                    return
                await self._sleep(deadlines)
                if self._looked_at > MANY:
                    await asyncio.sleep(self._looked_at * REST)

    def forgive(self, resource: str) -> bool:
        """Try an identity that was left alone again now; whether it was."""
        return self._memory.forgive(resource)

    def report(self) -> HostReport:
        """What it tells of itself."""
        return host_report(self.shelf, self._memory, self._in_flight)

    @property
    def _busy(self) -> bool:
        return self._patching or self._looking_since is not None

    def _plan(self) -> HostPlan:
        now = self._planned_at = self._clock.monotonic()
        memory = self._memory
        memory.forget(self.shelf, now)
        view = memory.view(
            self.shelf,
            now,
            self._clock.wall(),
            patching=self._patching,
            looking_since=self._looking_since,
            taken=self._shared.world.taken,
        )
        self._looked_at = len(view.items)
        self.shelf.planned += self._looked_at
        self.shelf.touched.clear()
        decided = plan(view)
        for stuck in decided.stuck:
            self._complain(stuck.want, stuck.message)
        if memory.trouble:
            for item in view.items:
                if item.wanted is not None and item.wanted.resource:
                    self._complain(item.wanted, memory.trouble)
        for key in decided.settled:
            self.shelf.open.discard(key)
            memory.waiting.pop(key, None)
            self._told.pop(key, None)
        return decided

    def _complain(self, want: Wanted, why: str) -> None:
        """Tell users once what is in the way of an assignment."""
        if self._told.get(want.key) != messages.gist(why):
            self._told[want.key] = messages.gist(why)
            self._log.error("identity not assigned", pod=f"{want.key.namespace}/{want.key.pod}", reason=why)
            names = [rec.object.name for rec in self.shelf.records_for(want.key)]
            message = messages.apply_error(want, names[0] if names else want.key.pod, why)
            self._shared.writer.tell(want, "Warning", messages.APPLY_ERROR, message)

    def _call_arm(self, tasks: asyncio.TaskGroup, decided: HostPlan) -> list[float]:
        """Start the next call to ARM if it is time; the times at which to look again."""
        now, memory, host = self._planned_at, self._memory, self.shelf.host
        deadlines = list(memory.deadlines())
        if self._looking_since is not None:
            deadlines.append(self._looking_since + PATIENCE)
        paused = self._shared.budget.paused_until
        if host is None or self._busy or now < max(memory.not_before, paused):
            return [*deadlines, paused]
        if decided.look_later:
            deadlines.append(memory.looked_at + RIPEN)
        ripe = decided.look_later and now - memory.looked_at >= RIPEN
        settling = bool(decided.add or decided.remove) and memory.ripening.settling(now)
        if settling:
            deadlines.append(memory.looked_at + SETTLE)
            ripe = ripe or now - memory.looked_at >= SETTLE
        wanted = decided.look or ripe
        if wanted or self._drift_is_due(now):
            wait = self._shared.budget.of_host(host.key).gets.try_take()
            if wait > 0:
                deadlines.append(now + wait)
            else:
                self._looking_since = now
                tasks.create_task(self._look(host, FIRST if wanted else LAST), name=f"look {host.key}")
        elif memory.known is not None and not settling and (decided.add or decided.remove):
            deadlines.append(self._start_patch(tasks, host, memory.known, decided, now))
        deadlines.append(self._next_look)
        return deadlines

    def _drift_is_due(self, now: float) -> bool:
        """Whether to look for what others changed; with too many hosts for the interval some are put off."""
        if now < self._next_look or not any(self.shelf.wanted_by_id):
            return False
        wait = self._shared.budget.drift.try_take()
        if wait > 0:
            interval = self._shared.settings.reconcile_interval
            self._next_look = now + wait + self._shared.rng.uniform(0, interval / 10)
        return wait <= 0

    def _start_patch(
        self, tasks: asyncio.TaskGroup, host: HostId, known: HostIdentities, decided: HostPlan, now: float
    ) -> float:
        """Start a PATCH when its window is over; the time to look again."""
        at = self._memory.window(decided.add, decided.remove, now)
        if now < at:
            return at
        patch = identity_patch(known, *self._memory.narrowed(decided.add, decided.remove))
        if patch is None or not self._shared.outlets.fence.is_open:
            return now + 1
        wait = self._shared.budget.of_host(host.key).patches.try_take()
        if wait > 0:
            return now + wait
        self._patching, self._in_flight = True, len(patch.add | patch.remove)
        self._memory.patching(patch)
        tasks.create_task(self._patch(host, known, patch), name=f"patch {host.key}")
        return now + PATIENCE

    async def _look(self, host: HostId, rank: int) -> None:
        """Read the host."""
        try:
            await self._shared.budget.reads.take(rank)
            found = await self._shared.outlets.compute.get(host)
            self._memory.looked(found, self._clock.monotonic())
        except AzureError as error:
            self._log.error("reading the identities of a host failed", error=str(error))
            self._heed(error)
            self._memory.look_failed(error, host, self._clock.monotonic())
        finally:
            interval = self._shared.settings.reconcile_interval
            self._next_look = next_look(host.key, self._clock.monotonic(), interval)
            self._looking_since = None
            self.wake.set()

    async def _patch(self, host: HostId, known: HostIdentities, patch: IdentityPatch) -> None:
        """Change the host."""
        change = f"assign [{' '.join(sorted(patch.add))}], unassign [{' '.join(sorted(patch.remove))}]"
        self._log.info(f"updating user-assigned identities on {host.name}, {change}")
        try:
            if fold(known.provisioning_state) == "deleting":
                raise HostDeleting(0, "HostDeleting", f"{host.path} is being deleted")
            await self._shared.budget.writes.take(FIRST if patch.add else LATER)
            self._shared.budget.patches += 1
            await self._shared.outlets.compute.patch(host, patch)
            self._memory.patched(patch)
        except FenceClosedError as error:
            self._log.warning(f"identities on {host.name} are not updated", reason=str(error))
            self._memory.not_patched()
        except AzureError as error:
            self._log.error(f"updating user-assigned identities on {host.name} failed", error=str(error))
            now = self._clock.monotonic()
            self._heed(error)
            verdict = self._memory.patch_failed(error, patch, host, now)
            self._retell(verdict.bad)
            if verdict.host:
                self._memory.not_before = max(self._memory.not_before, now + self._shared.settings.retry_interval)
        finally:
            self._patching, self._in_flight = False, 0
            self.wake.set()

    def _heed(self, error: AzureError) -> None:
        """Have every host wait when ARM says that the controller itself is over its limit."""
        if self._shared.budget.refused(self.shelf.key, error):
            self._log.warning("Azure throttles the controller itself: nothing is asked of it for a while")

    def _retell(self, bad: frozenset[str]) -> None:
        """Let users hear again of identities that failed again."""
        for key in [key for resource in bad for key in self.shelf.wanted_by_id.get(resource, ())]:
            self._told.pop(key, None)

    async def _write_some(self, writes: Sequence[Write]) -> None:
        """Write a batch; on a host with many assignments several, so that planning does not take more than writing.

        What was touched since the plan is left to the next one.
        """
        batch = max(self._shared.settings.batch, 1)
        for start in range(0, min(len(writes), max(batch, self._looked_at // ROUNDS)), batch):
            some = [one for one in writes[start : start + batch] if not start or _key_of(one) not in self.shelf.touched]
            if some:
                await self._write(some)

    async def _write(self, writes: Sequence[Write]) -> None:
        add, gone = (sum(isinstance(one, kind) for one in writes) for kind in (Create, Delete | Release))
        where = self.shelf.host.name if self.shelf.host else self.shelf.key.removeprefix("node:")
        self._log.info(f"processing node {where}, add [{add}], del [{gone}], update [{len(writes) - add - gone}]")
        start = self._clock.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for write in writes:
                tasks.create_task(self._write_one(write))
        self._shared.outlets.meter.observe("mic_cycle_duration_seconds", self._clock.monotonic() - start)
        self._shared.outlets.meter.count("mic_cycle_count")

    async def _write_one(self, write: Write) -> None:
        key = _key_of(write)
        retry_after = None
        try:
            changed = await self._shared.writer.write(write, self.shelf.host)
        except FenceClosedError:
            changed = False
        except KubeError as error:
            changed = False
            retry_after = error.retry_after if isinstance(error, ApiError) else None
            self._log.error("writing an assigned identity failed", id="-".join(key), error=str(error))
        if changed:
            self._memory.written(key)
        else:
            # An answer that changes nothing we know would lead to the same write again at once.
            self._memory.write_failed(key, self._clock.monotonic(), retry_after)

    async def _sleep(self, deadlines: Iterable[float]) -> None:
        """Wait for an event or for the first of the times that lay ahead when the plan was made."""
        until = min((at for at in deadlines if at > self._planned_at), default=None)
        try:
            # A loop may wake a little early, within the resolution of its clock: never ask for less than TICK.
            async with asyncio.timeout(None if until is None else max(until - self._clock.monotonic(), TICK)):
                await self.wake.wait()
        except TimeoutError:
            return


def _key_of(write: Write) -> AssignmentKey:
    return write.want.key if isinstance(write, Create | Rewrite | Settle) else write.record.key


class Assigner:
    """Runs the actors of all hosts while this process leads."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._actors: dict[str, HostActor] = {}
        self._tasks: asyncio.TaskGroup | None = None

    def wake(self, shelves: Iterable[str]) -> None:
        """Something changed on these shelves; without the leadership nothing happens."""
        if self._tasks is None:
            return
        for key in shelves:
            actor = self._actors.get(key)
            if actor is not None:
                actor.wake.set()
            elif (shelf := self._shared.world.shelves.get(key)) is not None and not shelf.empty:
                self._actors[key] = actor = HostActor(shelf, self._shared)
                self._tasks.create_task(self._run(key, actor), name=f"host {key}")

    def reports(self) -> Sequence[HostReport]:
        """What the hosts that are worked on tell of themselves, in the order of their ids."""
        return [self._actors[key].report() for key in sorted(self._actors)]

    async def wake_all(self, *, reopen: bool = False) -> None:
        """Wake every host, a few in each turn of the loop; with ``reopen`` everything on it is looked at again."""
        for count, key in enumerate(tuple(self._shared.world.shelves), 1):
            shelf = self._shared.world.shelves.get(key)
            if shelf is not None and reopen:
                shelf.reopen()
            self.wake((key,))
            if count % SLICE == 0:
                await asyncio.sleep(0)

    def forgive(self, resource: str) -> None:
        """Somebody changed the AzureIdentity of this ARM id: hosts that leave it alone try it again now."""
        for actor in self._actors.values():
            if actor.forgive(resource):
                actor.wake.set()

    async def run(self) -> None:
        """Work on every host until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                await self.wake_all()
                await asyncio.Event().wait()
        finally:
            self._tasks = None
            self._actors.clear()

    async def _run(self, key: str, actor: HostActor) -> None:
        try:
            await actor.run()
        except* Exception as errors:  # noqa: BLE001 - a fault on one host must not stop the work on the others
            raise_if_cancelled()
            get_logger().error("work on a host failed and starts anew", host=key, error=repr(errors.exceptions[0]))
            await asyncio.sleep(RESTART_DELAY)
        self._actors.pop(key, None)
        self.wake([key])
