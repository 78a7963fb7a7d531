"""A client for the owner's API on its Unix socket: for those who run the simulated Azure in another process."""

from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import msgspec

from podidentity.lab.cloud.admin import AdminError

_TIMEOUT = 30.0


class AdminClient:
    """`call` sends one of the requests in `podidentity.lab.cloud.admin`; use it as an async context manager.

    OSError and aiohttp.ClientError when nobody listens, AdminError for what is refused.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.UnixConnector(path=str(self._socket))
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(self, method: str, path: str, body: object = None) -> dict[str, object]:
        """The answer to one request; `body` is sent as JSON."""
        if self._session is None:
            raise AdminError("the client is not open")
        data = None if body is None else msgspec.json.encode(body)
        async with self._session.request(method, f"http://cloud{path}", data=data) as reply:
            answer = msgspec.json.decode(await reply.read(), type=dict[str, object])
        if reply.status != 200:  # noqa: PLR2004 - the only status of success here
            raise AdminError(str(answer.get("error", reply.status)))
        return answer
