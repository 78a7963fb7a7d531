"""One call to ARM: token, attempt, deadline, our retries. What every ARM client of ours sends with."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from podidentity.aio.backoff import Backoff
from podidentity.aio.clock import Clock
from podidentity.azure import arm_request
from podidentity.azure.answers import retry_after
from podidentity.azure.arm_errors import parse_error
from podidentity.azure.arm_request import Answer
from podidentity.azure.errors import AzureError, AzureStatusError, AzureUnavailable, Throttled

if TYPE_CHECKING:
    from podidentity.aio.fence import Fence
    from podidentity.azure.arm_pipeline import ArmPipeline
    from podidentity.azure.cloud import Cloud
    from podidentity.azure.credentials import Credential

TRANSIENT: Final = frozenset({408, 500, 502, 503, 504})
GATEWAY_TIMEOUT: Final = 504
LONGEST_INLINE_WAIT: Final = 20.0
"""Seconds; a ``Retry-After`` beyond it is the caller's to wait for."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds: for one attempt, for a call with its retries, for a long-running operation."""

    attempt: float = 60.0
    call: float = 180.0
    operation: float = 900.0


class ArmCaller:
    """Sends requests to one cloud's ARM; ``base_url`` is without a slash at its end.

    With a ``fence`` no write is sent, and none sent again, while it is closed: FenceClosedError. ``patient``: a 429
    is waited out like any other passing trouble, instead of being raised at once. ``unix_socket``: a path, connected
    to instead of ARM's address.
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
        deadlines: Deadlines | None = None,
        backoff: Backoff | None = None,
        retries: int = 3,
        environ: Mapping[str, str] | None = None,
        fence: Fence | None = None,
        patient: bool = False,
        unix_socket: str = "",
    ) -> None:
        self.base_url = (base_url or cloud.resource_manager).rstrip("/")
        self.cloud = cloud
        self.clock = clock if clock is not None else Clock()
        self.deadlines = deadlines if deadlines is not None else Deadlines()
        self._credential = credential
        self._user_agent = user_agent
        self._rng = rng if rng is not None else random.Random()  # noqa: S311 - jitter, not a secret
        self._backoff = backoff if backoff is not None else Backoff(initial=1.0, factor=2.0, maximum=8.0, jitter=0.2)
        self._retries = retries
        self._environ = os.environ if environ is None else environ
        self._fence = fence
        self._patient = patient
        self._unix_socket = unix_socket
        self._pipeline: ArmPipeline | None = None

    async def call(self, method: str, url: str, body: bytes | None = None) -> Answer:
        """Send a request with our retries: transport errors and transient statuses, a bounded number of times.

        A PATCH without an answer may have begun its operation: it is not sent again, its caller reads the resource.
        """
        attempt = 0
        while True:
            try:
                return await self.attempt(method, url, body)
            except AzureError as error:
                begun = method == "PATCH" and _may_have_begun(error)
                if begun or attempt >= self._retries or not worth_waiting(error, polling=self._patient):
                    raise
                wait = error.retry_after
            await asyncio.sleep(self.pause(attempt) if wait is None else wait)
            attempt += 1

    async def attempt(self, method: str, url: str, body: bytes | None = None) -> Answer:
        """One exchange; any status but 2xx raises the tree of ``azure.errors``."""
        token = await self._credential.token(self.cloud.resource_manager_audience)
        async with deadline(self.deadlines.attempt, method):
            answer = await self._pipe().send(method, url, body, token.token)
        if 200 <= answer.status < 300:  # noqa: PLR2004 - HTTP success
            return answer
        raise parse_error(answer.status, answer.headers, answer.body, self.wait(answer))

    def pause(self, attempt: int) -> float:
        """Seconds before attempt number ``attempt`` + 1, when ARM named none."""
        return self._backoff.delay(attempt, self._rng)

    def wait(self, answer: Answer) -> float | None:
        """Seconds that the answer asks to wait."""
        return retry_after(answer.headers, self.clock.wall())

    def ours(self, url: str) -> str:
        """``url`` if it is ARM's, moved to our base address when that differs; the token goes nowhere else."""
        if arm_request.same_origin(url, self.base_url):
            return url
        if arm_request.same_origin(url, self.cloud.resource_manager):
            return self.base_url + url[len(self.cloud.resource_manager) :]
        raise AzureUnavailable("ARM named an operation at a foreign address; not followed")

    async def close(self) -> None:
        """Close the connections and the credential."""
        if self._pipeline is not None:
            await self._pipeline.close()
            self._pipeline = None
        await self._credential.close()

    def _pipe(self) -> ArmPipeline:
        if self._pipeline is None:
            from podidentity.azure.arm_pipeline import ArmPipeline  # noqa: PLC0415 - azure-core takes 0.8 s to import

            self._pipeline = ArmPipeline(
                self.base_url,
                user_agent=self._user_agent,
                environ=self._environ,
                fence=self._fence,
                unix_socket=self._unix_socket,
            )
        return self._pipeline


def _may_have_begun(error: AzureError) -> bool:
    """Whether the request may have had its effect all the same."""
    timeout = isinstance(error, AzureStatusError) and error.status == GATEWAY_TIMEOUT
    return timeout or isinstance(error, AzureUnavailable)


def worth_waiting(error: AzureError, *, polling: bool) -> bool:
    """Whether the same request may succeed later; a throttled one only for who polls."""
    if (error.retry_after or 0.0) > LONGEST_INLINE_WAIT and not polling:
        return False
    if isinstance(error, Throttled):
        return polling
    if isinstance(error, AzureStatusError):
        return error.status in TRANSIENT
    return isinstance(error, AzureUnavailable)


@contextlib.asynccontextmanager
async def deadline(seconds: float, what: str) -> AsyncIterator[None]:
    """asyncio.timeout that raises AzureUnavailable in our words."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise AzureUnavailable(f"{what}: no result within {seconds:g} s") from error
