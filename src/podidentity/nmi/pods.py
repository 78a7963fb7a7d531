"""Which pod is calling: by source address, from the watch, and from the API itself when the watch does not know."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from podidentity.aio.bucket import TokenBucket
from podidentity.aio.clock import Clock
from podidentity.api.core import Pod
from podidentity.kube.errors import KubeError, NotFound
from podidentity.kube.store import Change, Store
from podidentity.nmi.waiters import Waiters

ADDRESS_INDEX: Final = "address"
UID_INDEX: Final = "uid"
_ALIVE: Final = frozenset({"Pending", "Running"})
_MOST_SHARING: Final = 4
"""More pods than this with one address are not sorted out, but refused."""


class PodApi(Protocol):
    """Direct questions to the API server; both raise KubeError."""

    async def by_address(self, address: str) -> Sequence[Pod]:
        """Return the pods of this node whose ``status.podIP`` is ``address``."""
        ...

    async def by_name(self, namespace: str, name: str) -> Pod:
        """Return one pod; NotFound when there is none."""
        ...


class PodUnknown(Exception):  # noqa: N818 - a state of knowledge
    """No pod of this node, as far as can be told now. ``passing``: a little later there may be one."""

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


def pod_addresses(pod: Pod) -> tuple[str, ...]:
    """Return the addresses that are this pod's alone: none for host network pods and those that have ended."""
    if pod.spec.host_network or pod.status.phase not in _ALIVE:
        return ()
    texts = [pod.status.pod_ip, *(entry.ip for entry in pod.status.pod_ips)]
    return tuple(dict.fromkeys(normal for text in texts if (normal := _normal(text))))


def _normal(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text)) if text else ""
    except ValueError:
        return ""


def pod_store() -> Store[Pod]:
    """Return an empty store with the indexes that pods are looked up in."""
    return Store({ADDRESS_INDEX: pod_addresses, UID_INDEX: _uid})


def _uid(pod: Pod) -> tuple[str, ...]:
    return (pod.metadata.uid,)


def is_over(pod: Pod, now: float) -> bool:
    """Whether a terminating pod's time is up at ``now`` (epoch seconds): its address may be somebody else's."""
    text = pod.metadata.deletion_timestamp
    return text is not None and _epoch(text) <= now


def _epoch(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


@dataclass(frozen=True, slots=True)
class _Learned:
    pod: Pod
    until: float
    newest: int


class PodFinder:
    """Finds the pod behind an address.

    ``node`` limits everything to this node. ``patience`` is how long (seconds) an address may stay unknown before the
    caller is told to come back; ``api_rate`` the direct questions a second; what they taught counts for ``memory`` s.
    ``newest`` numbers the youngest network interface: what is known of a pod says nothing of a younger one.
    ``confirm_rate``: how many pods a second may be asked for because of that.
    """

    def __init__(
        self,
        store: Store[Pod],
        api: PodApi,
        *,
        node: str,
        clock: Clock,
        patience: float = 5.0,
        memory: float = 5.0,
        api_rate: float = 5.0,
        confirm_rate: float = 50.0,
        waiters: Waiters | None = None,
        newest: Callable[[], int] = lambda: 0,
    ) -> None:
        self._store = store
        self._api = api
        self._node = node
        self._clock = clock
        self._patience = patience
        self._memory = memory
        self._bucket = TokenBucket(api_rate, 2 * api_rate, clock)
        self._confirming = TokenBucket(confirm_rate, 2 * confirm_rate, clock)
        self._newest = newest
        self._heard: dict[str, int] = {}
        self._waiters = waiters or Waiters(per_key=32, total=512)
        self._learned: OrderedDict[tuple[str, ...], _Learned] = OrderedDict()

    def on_change(self, change: Change[Pod]) -> None:
        """Take a change of the store: those who wait for the new pod's addresses are told."""
        if change.old is not None:
            self._heard.pop(change.old.metadata.uid, None)
        if change.new is not None:
            self._heard[change.new.metadata.uid] = self._newest()
            for address in pod_addresses(change.new):
                self._waiters.wake(address)

    def known(self, address: str) -> Pod | None:
        """Return the one living pod with ``address`` in the store; None when there is none, or more than one."""
        pods = self._store.by_index(ADDRESS_INDEX, address)
        if len(pods) == 1:
            pod = pods[0]
            if pod.metadata.deletion_timestamp is None or not is_over(pod, self._clock.wall()):
                return pod
            return None
        if not pods:
            return None
        alive = self._alive(pods)
        return alive[0] if len(alive) == 1 else None

    def doubts(self, pod: Pod, interface: int) -> bool:
        """Whether a connection by ``interface`` may be another pod's: it is younger than the last news of ``pod``."""
        return interface > self._heard.get(pod.metadata.uid, 0)

    async def find(self, address: str, interface: int = 0) -> Pod:
        """Return the pod with ``address``; raises :class:`PodUnknown` or TooManyWaiting.

        Unknown: one question to the API, then wait for the watch. More than one: both are read afresh, and the one
        that is not terminating is it; should that leave two, or none, nobody gets anything. A pod that is in doubt
        (see :meth:`doubts`) is read afresh too.
        """
        deadline = asyncio.get_running_loop().time() + self._patience
        with self._waiters.hold(address) as news:
            asked, moved = False, ""
            while True:
                pod = self.known(address)
                if pod is not None and pod.metadata.uid != moved:
                    if not self.doubts(pod, interface) or await self._confirm(pod, address):
                        return pod
                    moved = pod.metadata.uid
                several = self._alive(self._store.by_index(ADDRESS_INDEX, address))
                if len(several) > 1:
                    return await self._settle(address, several, interface)
                if not asked:
                    asked = True
                    pod = await self._ask(address, interface)
                    if pod is not None:
                        return pod
                    continue
                if not await news.wait_until(deadline):
                    raise PodUnknown(f"no pod of this node has the address {address}", passing=True)

    async def named(self, namespace: str, name: str) -> Pod:
        """Return the pod of that name if it is on this node and has not ended; raises :class:`PodUnknown`."""
        pod = self._store.get(f"{namespace}/{name}")
        if pod is None:
            pod = await self._ask_by_name(namespace, name)
        ended = pod.status.phase not in ("", *_ALIVE) or is_over(pod, self._clock.wall())
        if ended or pod.spec.node_name != self._node:
            raise PodUnknown(f"pod {namespace}/{name} does not run on this node", passing=False)
        return pod

    def _alive(self, pods: Iterable[Pod]) -> list[Pod]:
        now = self._clock.wall()
        return [pod for pod in pods if not is_over(pod, now)]

    async def _confirm(self, pod: Pod, address: str) -> bool:
        """Whether the API says, asked now, that ``pod`` has ``address`` still."""
        unsure = PodUnknown(f"whether {address} is another pod's now cannot be told", passing=True)
        if self._confirming.try_take() > 0:
            raise unsure
        newest = self._newest()
        try:
            fresh = await self._api.by_name(pod.namespace, pod.name)
        except NotFound:
            return False
        except KubeError as error:
            raise unsure from error
        same = fresh.metadata.uid == pod.metadata.uid and address in pod_addresses(fresh)
        if not same or is_over(fresh, self._clock.wall()):
            return False
        if pod.metadata.uid in self._heard:
            self._heard[pod.metadata.uid] = max(newest, self._heard[pod.metadata.uid])
        return True

    async def _ask(self, address: str, interface: int) -> Pod | None:
        """Ask the API for the pod with this address, unless that was done just now or too often."""
        learned = self._recall((address,), interface)
        if learned is not None:
            return learned
        if self._bucket.try_take() > 0:
            return None
        newest = self._newest()
        try:
            pods = await self._api.by_address(address)
        except KubeError:
            return None
        fits = [pod for pod in self._alive(pods) if pod.spec.node_name == self._node and address in pod_addresses(pod)]
        if len(fits) > 1:
            fits = [pod for pod in fits if pod.metadata.deletion_timestamp is None]
        if len(fits) != 1:
            return None
        return self._remember((address,), fits[0], newest)

    async def _settle(self, address: str, pods: Sequence[Pod], interface: int) -> Pod:
        """Decide between pods that the watch gives the same address."""
        key = (address, *sorted(f"{pod.metadata.uid}/{pod.metadata.resource_version}" for pod in pods))
        learned = self._recall(key, interface)
        if learned is not None:
            return learned
        newest = self._newest()
        refusal = PodUnknown(f"more than one pod of this node has the address {address}", passing=True)
        if len(pods) > _MOST_SHARING or self._bucket.try_take(len(pods)) > 0:
            raise refusal
        fresh = []
        for pod in pods:
            try:
                fresh.append(await self._api.by_name(pod.namespace, pod.name))
            except NotFound:
                continue
            except KubeError as error:
                raise refusal from error
        fits = [
            pod
            for pod in fresh
            if pod.metadata.deletion_timestamp is None
            and pod.spec.node_name == self._node
            and address in pod_addresses(pod)
        ]
        if len(fits) != 1:
            raise refusal
        return self._remember(key, fits[0], newest)

    async def _ask_by_name(self, namespace: str, name: str) -> Pod:
        missing = PodUnknown(f"pod {namespace}/{name} does not run on this node", passing=False)
        if self._bucket.try_take() > 0:
            raise PodUnknown("too many questions about pods that are not known", passing=True)
        try:
            return await self._api.by_name(namespace, name)
        except NotFound as error:
            raise missing from error
        except KubeError as error:
            raise PodUnknown("the Kubernetes API cannot be asked", passing=True) from error

    def _recall(self, key: tuple[str, ...], interface: int) -> Pod | None:
        learned = self._learned.get(key)
        if learned is None or interface > learned.newest:
            return None
        over = self._clock.monotonic() >= learned.until or is_over(learned.pod, self._clock.wall())
        return None if over else learned.pod

    def _remember(self, key: tuple[str, ...], pod: Pod, newest: int) -> Pod:
        self._learned[key] = _Learned(pod, self._clock.monotonic() + self._memory, newest)
        while len(self._learned) > 256:  # noqa: PLR2004 - a bound, not a meaning
            self._learned.popitem(last=False)
        return pod
