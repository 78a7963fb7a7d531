"""ARM compute: read and change the identities of VMs and scale sets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from podidentity.aio.backoff import Backoff
from podidentity.aio.clock import Clock
from podidentity.azure import arm_request
from podidentity.azure.answers import retry_after
from podidentity.azure.arm_errors import parse_error
from podidentity.azure.arm_request import Answer, HostIdentities, IdentityPatch, UserAssigned
from podidentity.azure.errors import AzureError, AzureStatusError, AzureUnavailable, HostDeleting, Throttled

if TYPE_CHECKING:
    from podidentity.aio.fence import Fence
    from podidentity.azure.arm_pipeline import ArmPipeline
    from podidentity.azure.cloud import Cloud
    from podidentity.azure.credentials import Credential
    from podidentity.rules.resource_id import HostId

__all__ = ["ComputeClient", "Deadlines", "HostIdentities", "IdentityPatch", "UserAssigned"]

TRANSIENT: Final = frozenset({408, 500, 502, 503, 504})
LONGEST_INLINE_WAIT: Final = 20.0
"""Seconds; a ``Retry-After`` beyond it is the caller's to wait for."""
POLL_FAILURES: Final = 3

Metrics = Callable[[str, float, AzureError | None], None]


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds: for one attempt, for a call with its retries, for a long-running operation."""

    attempt: float = 60.0
    call: float = 180.0
    operation: float = 900.0


class ComputeClient:
    """GET and PATCH of a host's identities. Deals with retries, polling and deadlines; never waits out a 429.

    ``metrics`` is called once per ``get`` and ``patch`` with (operation type, seconds, error or None).
    With a ``fence`` no PATCH is sent, and none sent again, while it is closed: FenceClosedError.
    """

    def __init__(
        self,
        cloud: Cloud,
        credential: Credential,
        *,
        user_agent: str,
        base_url: str | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        metrics: Metrics | None = None,
        deadlines: Deadlines | None = None,
        backoff: Backoff | None = None,
        retries: int = 3,
        environ: Mapping[str, str] | None = None,
        fence: Fence | None = None,
    ) -> None:
        self._cloud = cloud
        self._credential = credential
        self._user_agent = user_agent
        self._base_url = (base_url or cloud.resource_manager).rstrip("/")
        self._clock = clock if clock is not None else Clock()
        self._rng = rng if rng is not None else random.Random()  # noqa: S311 - jitter, not a secret
        self._metrics = metrics
        self._deadlines = deadlines if deadlines is not None else Deadlines()
        self._backoff = backoff if backoff is not None else Backoff(initial=1.0, factor=2.0, maximum=8.0, jitter=0.2)
        self._retries = retries
        self._environ = os.environ if environ is None else environ
        self._fence = fence
        self._pipeline: ArmPipeline | None = None

    async def get(self, host: HostId) -> HostIdentities:
        """Read what the host has. Raises the tree of ``azure.errors``."""
        with self._metered(arm_request.operation_type(host, "get")):
            async with _deadline(self._deadlines.call, "GET"):
                answer = await self._call("GET", arm_request.host_url(self._base_url, host), None)
            return arm_request.parse_host(answer.body)

    async def patch(self, host: HostId, patch: IdentityPatch, *, known: HostIdentities | None = None) -> None:
        """Change the host's identities; returns when the operation has ended well, raises its error otherwise.

        ``known`` is what the last GET said: a host that is being deleted is refused with HostDeleting, unsent.
        """
        if known is not None and known.provisioning_state.lower() == "deleting":
            raise HostDeleting(0, "HostDeleting", f"{host.name} is being deleted")
        with self._metered(arm_request.operation_type(host, "update")):
            async with _deadline(self._deadlines.operation, "PATCH"):
                await self._patch_and_follow(host, patch)

    async def close(self) -> None:
        """Close the connections and the credential."""
        if self._pipeline is not None:
            await self._pipeline.close()
            self._pipeline = None
        await self._credential.close()

    async def _patch_and_follow(self, host: HostId, patch: IdentityPatch) -> None:
        url = arm_request.host_url(self._base_url, host)
        async with _deadline(self._deadlines.call, "PATCH"):
            answer = await self._call("PATCH", url, arm_request.patch_body(patch))
        progress = arm_request.started(
            answer.status, answer.headers, answer.body, resource_url=url, retry_after=self._wait(answer)
        )
        while not progress.done:
            await asyncio.sleep(progress.delay)
            polled = await self._poll(self._ours(progress.url))
            progress = arm_request.advanced(progress, polled.status, polled.body, self._wait(polled))

    async def _poll(self, url: str) -> Answer:
        """One poll. A few failures in a row are waited out: the change is already under way."""
        failures = 0
        while True:
            try:
                return await self._attempt("GET", url, None)
            except AzureError as error:
                failures += not isinstance(error, Throttled)
                if failures > POLL_FAILURES or not _worth_waiting(error, polling=True):
                    raise
                wait = error.retry_after
            await asyncio.sleep(self._backoff.delay(max(failures - 1, 0), self._rng) if wait is None else wait)

    async def _call(self, method: str, url: str, body: bytes | None) -> Answer:
        """Send a request with our retries: transport errors and transient statuses, a bounded number of times."""
        attempt = 0
        while True:
            try:
                return await self._attempt(method, url, body)
            except AzureError as error:
                if attempt >= self._retries or not _worth_waiting(error, polling=False):
                    raise
                wait = error.retry_after
            await asyncio.sleep(self._backoff.delay(attempt, self._rng) if wait is None else wait)
            attempt += 1

    async def _attempt(self, method: str, url: str, body: bytes | None) -> Answer:
        token = await self._credential.token(self._cloud.resource_manager_audience)
        async with _deadline(self._deadlines.attempt, method):
            answer = await self._pipe().send(method, url, body, token.token)
        if 200 <= answer.status < 300:  # noqa: PLR2004 - HTTP success
            return answer
        raise parse_error(answer.status, answer.headers, answer.body, self._wait(answer))

    @contextlib.contextmanager
    def _metered(self, name: str) -> Iterator[None]:
        """Report how long a call took and how it ended; a cancelled one is not reported."""
        start = self._clock.monotonic()

        def report(failure: AzureError | None) -> None:
            if self._metrics is not None:
                self._metrics(name, self._clock.monotonic() - start, failure)

        try:
            yield
        except AzureError as error:
            report(error)
            raise
        report(None)

    def _wait(self, answer: Answer) -> float | None:
        return retry_after(answer.headers, self._clock.wall())

    def _ours(self, url: str) -> str:
        """``url`` if it is ARM's, moved to our base address when that differs; the token goes nowhere else."""
        if arm_request.same_origin(url, self._base_url):
            return url
        if arm_request.same_origin(url, self._cloud.resource_manager):
            return self._base_url + url[len(self._cloud.resource_manager) :]
        raise AzureUnavailable("ARM named an operation at a foreign address; not followed")

    def _pipe(self) -> ArmPipeline:
        if self._pipeline is None:
            from podidentity.azure.arm_pipeline import ArmPipeline  # noqa: PLC0415 - azure-core takes 0.8 s to import

            self._pipeline = ArmPipeline(
                self._base_url, user_agent=self._user_agent, environ=self._environ, fence=self._fence
            )
        return self._pipeline


def _worth_waiting(error: AzureError, *, polling: bool) -> bool:
    if (error.retry_after or 0.0) > LONGEST_INLINE_WAIT and not polling:
        return False
    if isinstance(error, Throttled):
        return polling
    if isinstance(error, AzureStatusError):
        return error.status in TRANSIENT
    return isinstance(error, AzureUnavailable)


@contextlib.asynccontextmanager
async def _deadline(seconds: float, what: str) -> AsyncIterator[None]:
    """asyncio.timeout that raises AzureUnavailable in our words."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise AzureUnavailable(f"{what}: no result within {seconds:g} s") from error
