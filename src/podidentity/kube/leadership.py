"""One leader at a time: the original's Endpoints record first, then the Lease of the same name; both or nothing."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from podidentity.aio.cancelled import raise_if_cancelled
from podidentity.aio.clock import Clock
from podidentity.aio.fence import FenceClosedError
from podidentity.api.meta import KubeObject
from podidentity.kube.errors import AlreadyExists, Conflict, Forbidden, KubeError, NotFound
from podidentity.kube.records import ENDPOINTS_FORM, LEASE_FORM, Form, Record, next_record, patience, released
from podidentity.telemetry.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from podidentity.aio.fence import Fence
    from podidentity.api.core import Endpoints, Lease
    from podidentity.kube.client import KubeClient

T = TypeVar("T", bound=KubeObject)

BOTH: Final = "endpointsleases"
LEASES_ONLY: Final = "leases"

_JITTER: Final = 0.1
"""While acquiring, a pause is up to this much longer. The original's is 1.2: it sees a leader's end that much later."""
_TICK: Final = 0.005
"""Seconds; a loop may wake a little early, within the resolution of its clock: never sleep for less."""


@dataclass(frozen=True, slots=True)
class ElectionSettings:
    """Who contends for what. ``lease_duration`` in seconds; the renew deadline is half, the retry period a quarter.

    ``lock``: ``endpointsleases`` holds the Endpoints record and the Lease, ``leases`` the Lease alone.
    """

    identity: str
    namespace: str
    name: str
    lease_duration: float
    lock: str = BOTH

    @property
    def renew_deadline(self) -> float:
        """Seconds after the last renewal at which leading stops."""
        return self.lease_duration / 2

    @property
    def retry_period(self) -> float:
        """Seconds between renewals."""
        return self.lease_duration / 4


class Lock(Generic[T]):
    """One object that carries a record. ``renewed_at`` is the monotonic time the last successful write was *sent*."""

    def __init__(self, client: KubeClient, form: Form[T], settings: ElectionSettings, clock: Clock) -> None:
        self.kind = form.resource.plural
        self.held = False
        self.renewed_at = -math.inf
        self._client = client
        self._form = form
        self._settings = settings
        self._clock = clock
        self._object: T | None = None
        self._record: Record | None = None
        self._changed_at = -math.inf
        self._ours: deque[Record] = deque(maxlen=8)
        self._unsure = False

    @property
    def holder(self) -> str:
        """Who holds it as far as we saw, empty when nobody does."""
        return self._record.holder if self._record else ""

    async def try_hold(self) -> bool:
        """Renew it, or take it when it is free; False when another holds it. Raises KubeError."""
        if not self.held:
            await self.look()
        for _ in range(2):
            if not self.held and self.free_in() > 0:
                return False
            try:
                await self._write(self._next())
            except (Conflict, AlreadyExists, NotFound):
                await self.look()
                self.held = self._is_ours()
            else:
                self.held = True
                return True
        return False

    def free_in(self) -> float:
        """Return the seconds until the record may be taken if it does not change, 0 when it may be taken now."""
        record = self._record
        if record is None or self._is_ours():
            return 0.0
        wait = patience(record, identity=self._settings.identity, duration=self._settings.lease_duration)
        return max(0.0, self._changed_at + wait - self._clock.monotonic())

    async def release(self) -> None:
        """Let anybody take it at once, if it is still ours. Raises KubeError."""
        self.held = False
        self.renewed_at = -math.inf
        if self._unsure:
            await self.look()
        record = self._record
        if record is None or not self._is_ours() or not record.holder:
            return
        with suppress(Conflict, NotFound):
            await self._write(released(record, self._form.stamp(self._clock.wall())))
        self.renewed_at = -math.inf

    def _is_ours(self) -> bool:
        """Whether we wrote the record that is there: not only its holder's name but every field is ours."""
        return self._record is not None and self._record in self._ours

    def _next(self) -> Record:
        now = self._form.stamp(self._clock.wall())
        settings = self._settings
        ours = self._is_ours() and self.holder == settings.identity
        return next_record(self._record, holder=settings.identity, duration=settings.lease_duration, now=now, ours=ours)

    async def look(self) -> None:
        """Read the record, so that the time it has been unchanged is known. Raises KubeError."""
        settings = self._settings
        try:
            self._see(await self._client.get(self._form.resource, settings.name, settings.namespace))
        except NotFound:
            self._object = self._record = None
            self._unsure = False

    async def _write(self, record: Record) -> None:
        """Write the record over the object last seen; a Conflict when somebody wrote in between."""
        sent = self._clock.monotonic()
        self._ours.append(record)
        self._unsure = True  # until the answer is here: it may be there already when we are cancelled or cut off
        form, old = self._form, self._object
        if old is None:
            fresh = form.write(form.empty(self._settings.namespace, self._settings.name), record)
            self._see(await self._client.create(form.resource, fresh))
        else:
            self._see(await self._client.replace(form.resource, form.write(old, record)))
        self.renewed_at = sent

    def _see(self, obj: T) -> None:
        record = self._form.read(obj)
        self._unsure = False
        if record != self._record:
            self._changed_at = self._clock.monotonic()
        self._object, self._record = obj, record


class Leadership:
    """Contends for the locks of ``settings`` and runs a function while it holds all of them.

    ``client`` should be one of its own, without a request budget others can use up. ``on_transition`` hears True when
    leading begins and False when it has ended. ``fence`` is open while we lead, at each renewal up to its own renew
    deadline: hand it to whatever writes as the leader.
    """

    def __init__(
        self,
        client: KubeClient,
        settings: ElectionSettings,
        *,
        fence: Fence,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        on_transition: Callable[[bool], None] | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock or Clock()
        self._rng = rng or random.Random()  # noqa: S311 - spreads candidates, guards nothing
        self._on_transition = on_transition
        self._fence = fence
        lease = Lock(client, LEASE_FORM, settings, self._clock)
        self._locks: tuple[Lock[Endpoints] | Lock[Lease], ...] = (lease,)
        if settings.lock != LEASES_ONLY:  # in doubt both: an original may be running
            self._locks = (Lock(client, ENDPOINTS_FORM, settings, self._clock), lease)
        self.refused = ""
        """Which right is missing to contend, empty when none is."""
        self._reported: set[str] = set()
        self._log = get_logger()

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Contend for ever; while leading, run ``lead()`` as a task and cancel it before a record can expire.

        When ``lead()`` returns, the locks are released and contended for again; its exception is raised (in an
        ExceptionGroup) after the release, but FenceClosedError only says that leading is over. Cancelled: ``lead()`` is
        cancelled and awaited, then the locks are released.
        """
        try:
            while True:
                await self._acquire()
                if await self._lead(lead):
                    await self._release()
                    await asyncio.sleep(self._settings.retry_period)
        finally:
            await self._release()

    async def _acquire(self) -> None:
        name = f"{self._settings.namespace}/{self._settings.name}"
        self._log.info(f"attempting to acquire leader lease  {name}...")
        while not await self._attempt():  # noqa: ASYNC110 - what is waited for happens on a server
            await asyncio.sleep(self._pause())
        self._reported.clear()
        self._log.info(f"successfully acquired lease {name}")

    async def _attempt(self) -> bool:
        """Try once to hold all locks; what goes wrong is logged once."""
        try:
            async with asyncio.timeout(self._settings.renew_deadline):
                held = await self._hold_all()
                self.refused = ""
                return held and self._left() > 0
        except Forbidden as error:
            again, self.refused = bool(self.refused), f"cannot contend for leadership: {error}"
            self._report(self.refused, "cannot contend for leadership", error)
            if again:  # one that just started refuses everybody, until it has read its roles
                await self._release()
            await asyncio.sleep(self._settings.lease_duration if again else self._settings.retry_period)
        except TimeoutError:
            self._report("timeout", "cannot contend for leadership", TimeoutError("no answer in time"))
        except KubeError as error:
            self._report(type(error).__name__, "cannot contend for leadership", error)
        return False

    async def _hold_all(self) -> bool:
        """Hold the locks in order; the first that another holds ends it, earlier ones stay ours.

        Later ones are looked at, so that all of a dead leader's records are known to be dead at the same time.
        """
        for number, lock in enumerate(self._locks, 1):
            if not await lock.try_hold():
                self._fence.close()
                if self._first(f"{lock.kind} {lock.holder}"):
                    self._log.info("waiting for the leader", lock=lock.kind, holder=lock.holder)
                for later in self._locks[number:]:
                    await later.look()
                return False
        return True

    def _pause(self) -> float:
        """Seconds to the next attempt: the retry period with jitter, sooner when a record can be dead before that."""
        retry = self._settings.retry_period
        soonest = max(lock.free_in() for lock in self._locks) + retry * 0.1 * self._rng.random()
        holding = any(lock.held for lock in self._locks)
        jittered = retry if holding else retry * (1 + _JITTER * self._rng.random())
        return min(jittered, max(soonest, retry * 0.1))

    async def _lead(self, lead: Callable[[], Awaitable[None]]) -> bool:
        """Lead until it ends by itself (True) or leadership is lost (False)."""
        self._fence.open_until(self._deadline())
        self._tell(leading=True)
        ended = False
        try:
            async with asyncio.TaskGroup() as group:
                keeping = group.create_task(self._keep())
                leading = group.create_task(_as_coroutine(lead))
                await asyncio.wait({keeping, leading}, return_when=asyncio.FIRST_COMPLETED)
                ended = leading.done()
                keeping.cancel()
                leading.cancel()
        except* FenceClosedError:
            ended = False
        finally:
            self._fence.close()
            self._tell(leading=False)
        raise_if_cancelled()
        return ended

    async def _keep(self) -> None:
        """Renew until the renew deadline passes or another took a lock."""
        retry, pause = self._settings.retry_period, 0.0
        while True:
            due = retry + min(lock.renewed_at for lock in self._locks) - self._clock.monotonic()
            await asyncio.sleep(max(min(max(due, pause), self._left()), _TICK))
            if self._left() <= 0:
                self._log.error("failed to renew the leader lease in time, stopped leading")
                return
            try:
                async with asyncio.timeout(min(retry, self._left())):
                    held = await self._hold_all()
            except (KubeError, TimeoutError) as error:
                self._report(type(error).__name__, "cannot renew the leader lease, trying again", error)
                pause = retry / 4
                continue
            pause = 0.0
            self._reported.clear()
            if not held:
                self._log.error("the leader lease was taken by another, stopped leading")
                return
            self._fence.open_until(self._deadline())

    def _left(self) -> float:
        """Seconds until the renew deadline."""
        return self._deadline() - self._clock.monotonic()

    def _deadline(self) -> float:
        """When, on the monotonic clock, the lock renewed longest ago is in doubt."""
        return min(lock.renewed_at for lock in self._locks) + self._settings.renew_deadline

    async def _release(self) -> None:
        """Release the locks, last first; what cannot be released expires by itself."""
        for lock in reversed(self._locks):
            try:
                async with asyncio.timeout(self._settings.retry_period):
                    await lock.release()
            except (KubeError, TimeoutError) as error:
                said = str(error) or "no answer in time"
                self._log.warning("cannot release the leader lease, it will expire", lock=lock.kind, error=said)

    def _tell(self, *, leading: bool) -> None:
        if self._on_transition is not None:
            self._on_transition(leading)

    def _report(self, kind: str, message: str, error: BaseException) -> None:
        if self._first(kind):
            self._log.warning(message, error=str(error) or type(error).__name__)

    def _first(self, kind: str) -> bool:
        """Whether this kind of trouble was not logged yet since all was well."""
        known = kind in self._reported
        self._reported.add(kind)
        return not known


async def _as_coroutine(lead: Callable[[], Awaitable[None]]) -> None:
    await lead()
