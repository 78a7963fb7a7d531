"""The simulated Azure in this process, and mic's own client of ARM but for its sockets."""

from __future__ import annotations

import functools
import json
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import aiohttp
from tests.faults.inside import Answer as Raw
from tests.faults.inside import Asked, Way, plainly
from tests.faults.life import SEED
from tests.faults.patches import Patches

from podidentity.aio.clock import Clock
from podidentity.azure.arm import ComputeClient
from podidentity.azure.arm_call import ArmCaller
from podidentity.azure.arm_request import Answer
from podidentity.azure.cloud import PUBLIC
from podidentity.azure.config import AzureConfig
from podidentity.azure.credentials import AccessToken, Credential
from podidentity.azure.errors import AzureUnavailable, TokenError
from podidentity.config.redact import SecretText
from podidentity.lab.cloud import CloudConfig, parse_seed
from podidentity.lab.cloud.server import build
from podidentity.lab.cloud.tokens import new_key


@functools.cache
def _key() -> str:
    return new_key()


class InsideArm:
    """Azure. Its clock is ``clock``'s wall: that of no process."""

    def __init__(self, folder: Path, clock: Clock, rng: Random) -> None:
        def guid() -> str:
            return str(uuid.UUID(int=rng.getrandbits(128), version=4))

        seed = parse_seed(json.dumps(SEED))
        config = CloudConfig(folder, seed, wall=clock.wall, monotonic=clock.monotonic, new_guid=guid, new_key=_key)
        self.cloud = build(config)
        self.admin = self.cloud.admin
        self.patches = Patches(self.cloud.world, clock.wall)
        self.meddler: Callable[[str, int], None] = lambda _host, _status: None
        """Told of each PATCH that was answered: of the host (folded id), and the status."""
        self._clock = clock

    def close(self) -> None:
        """Close its files."""
        self.cloud.world.close()

    async def answer(self, source: str, asked: Asked) -> Raw:
        """A process's request."""
        if asked.method != "PATCH":
            return await plainly(self.cloud.frontend.https, asked)
        host = asked.path.casefold()
        with self.patches.patch(host, source, self._clock.wall()) as answered:
            try:
                raw = await plainly(self.cloud.frontend.https, asked)
            finally:
                answered()
            self.meddler(host, raw.status)
            return raw

    def token(self, client_id: str, secret: str) -> str:
        """What Entra ID gives a principal for its secret. Raises TokenError."""
        principal = self.cloud.world.principals.get(client_id)
        if principal is None or secret not in principal.secrets:
            raise TokenError(401, "invalid_client", "no such secret")
        return self.admin.mint_token(PUBLIC.resource_manager_audience, client_id=client_id)


class InsideCredential:
    """A service principal."""

    def __init__(self, arm: InsideArm, config: AzureConfig) -> None:
        self._arm = arm
        self._config = config

    async def token(self, resource: str) -> AccessToken:
        """See Credential."""
        text = self._arm.token(self._config.client_id, self._config.client_secret.reveal())
        return AccessToken(SecretText(text), 2**31, resource)

    async def close(self) -> None:
        """Nothing is open."""


class _Pipe:
    """Stands where the client has its pipeline."""

    def __init__(self, arm: InsideArm, way: Way, source: str) -> None:
        self._arm = arm
        self._way = way
        self._source = source

    async def send(self, method: str, url: str, body: bytes | None, token: SecretText) -> Answer:
        """One exchange. Raises AzureUnavailable and FenceClosedError."""
        headers: Mapping[str, str] = {"Authorization": f"Bearer {token.reveal()}", "Content-Type": "application/json"}
        asked = Asked(method, url, headers, body or b"")
        try:
            raw = await self._way.send(asked, functools.partial(self._arm.answer, self._source))
        except aiohttp.ClientError as error:
            raise AzureUnavailable(f"{method}: {error}") from error
        return Answer(status=raw.status, headers=raw.headers, body=raw.body)

    async def close(self) -> None:
        """Nothing is open."""


class _Caller(ArmCaller):
    """Mic's calls: its retries and deadlines."""

    def __init__(self, pipe: _Pipe, credential: Credential, *, clock: Clock, rng: Random) -> None:
        super().__init__(PUBLIC, credential, user_agent="", clock=clock, rng=rng)
        self._inside = pipe

    def _pipe(self) -> _Pipe:  # type: ignore[override]  # what stands for the pipeline is asked alike
        return self._inside


class InsideCompute(ComputeClient):
    """Mic's client of ARM, its polling too, with Azure in the same process."""

    def __init__(self, arm: InsideArm, way: Way, source: str, *, credential: Credential, clock: Clock) -> None:
        super().__init__(PUBLIC, credential, user_agent=source, clock=clock)
        self._arm = _Caller(_Pipe(arm, way, source), credential, clock=clock, rng=Random(source))
