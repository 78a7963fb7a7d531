"""ARM compute: read and change the identities of VMs and scale sets."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from podidentity.aio.backoff import Backoff
from podidentity.aio.clock import Clock
from podidentity.azure import arm_request
from podidentity.azure.arm_call import ArmCaller, Deadlines, deadline, worth_waiting
from podidentity.azure.arm_request import Answer, HostIdentities, IdentityPatch, UserAssigned
from podidentity.azure.errors import AzureError, HostDeleting, Throttled

if TYPE_CHECKING:
    from podidentity.aio.fence import Fence
    from podidentity.azure.cloud import Cloud
    from podidentity.azure.credentials import Credential
    from podidentity.rules.resource_id import HostId

__all__ = ["ComputeClient", "Deadlines", "HostIdentities", "IdentityPatch", "UserAssigned"]

POLL_FAILURES: Final = 3

Metrics = Callable[[str, float, AzureError | None], None]
OnAnswer = Callable[["HostId", Mapping[str, str]], None]


class ComputeClient:
    """GET and PATCH of a host's identities. Deals with retries, polling and deadlines; never waits out a 429.

    ``on_answer`` hears of the headers of each good answer to a GET or PATCH, with the host it is about.
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
        api_version: str = arm_request.API_VERSION,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        metrics: Metrics | None = None,
        on_answer: OnAnswer | None = None,
        deadlines: Deadlines | None = None,
        backoff: Backoff | None = None,
        retries: int = 3,
        environ: Mapping[str, str] | None = None,
        fence: Fence | None = None,
    ) -> None:
        self._arm = ArmCaller(
            cloud,
            credential,
            user_agent=user_agent,
            base_url=base_url,
            clock=clock,
            rng=rng,
            deadlines=deadlines,
            backoff=backoff,
            retries=retries,
            environ=environ,
            fence=fence,
        )
        self._deadlines = self._arm.deadlines
        self._api_version = api_version
        self._metrics = metrics
        self._on_answer = on_answer

    async def get(self, host: HostId) -> HostIdentities:
        """Read what the host has. Raises the tree of ``azure.errors``."""
        with self._metered(arm_request.operation_type(host, "get")):
            async with deadline(self._deadlines.call, "GET"):
                answer = await self._arm.call("GET", self._url(host))
            self._tell(host, answer)
            return arm_request.parse_host(answer.body)

    async def patch(self, host: HostId, patch: IdentityPatch, *, known: HostIdentities | None = None) -> None:
        """Change the host's identities; returns when the operation has ended well, raises its error otherwise.

        ``known`` is what the last GET said: a host that is being deleted is refused with HostDeleting, unsent.
        """
        if known is not None and known.provisioning_state.lower() == "deleting":
            raise HostDeleting(0, "HostDeleting", f"{host.name} is being deleted")
        with self._metered(arm_request.operation_type(host, "update")):
            async with deadline(self._deadlines.operation, "PATCH"):
                await self._patch_and_follow(host, patch)

    async def close(self) -> None:
        """Close the connections and the credential."""
        await self._arm.close()

    def _url(self, host: HostId) -> str:
        return arm_request.host_url(self._arm.base_url, host, self._api_version)

    def _tell(self, host: HostId, answer: Answer) -> None:
        if self._on_answer is not None:
            self._on_answer(host, answer.headers)

    async def _patch_and_follow(self, host: HostId, patch: IdentityPatch) -> None:
        url = self._url(host)
        async with deadline(self._deadlines.call, "PATCH"):
            answer = await self._arm.call("PATCH", url, arm_request.patch_body(patch))
        self._tell(host, answer)
        progress = arm_request.started(
            answer.status, answer.headers, answer.body, resource_url=url, retry_after=self._arm.wait(answer)
        )
        while not progress.done:
            await asyncio.sleep(progress.delay)
            polled = await self._poll(self._arm.ours(progress.url))
            progress = arm_request.advanced(progress, polled.status, polled.body, self._arm.wait(polled))

    async def _poll(self, url: str) -> Answer:
        """One poll. A few failures in a row are waited out: the change is already under way."""
        failures = 0
        while True:
            try:
                return await self._arm.attempt("GET", url)
            except AzureError as error:
                failures += not isinstance(error, Throttled)
                if failures > POLL_FAILURES or not worth_waiting(error, polling=True):
                    raise
                wait = error.retry_after
            await asyncio.sleep(self._arm.pause(max(failures - 1, 0)) if wait is None else wait)

    @contextlib.contextmanager
    def _metered(self, name: str) -> Iterator[None]:
        """Report how long a call took and how it ended; a cancelled one is not reported."""
        start = self._arm.clock.monotonic()

        def report(failure: AzureError | None) -> None:
            if self._metrics is not None:
                self._metrics(name, self._arm.clock.monotonic() - start, failure)

        try:
            yield
        except AzureError as error:
            report(error)
            raise
        report(None)
