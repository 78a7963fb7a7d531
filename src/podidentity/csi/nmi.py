"""nmi's host endpoint: the token of a named pod."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import aiohttp
import msgspec
import yarl

from podidentity.azure.answers import excerpt
from podidentity.azure.errors import AzureUnavailable
from podidentity.azure.http import new_session, read_bounded
from podidentity.config.redact import SecretText
from podidentity.csi.errors import MountError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BODY: Final = 256 * 1024
REFUSED_PAUSE: Final = 0.3
REFUSED_RETRIES: Final = 3


class _Token(msgspec.Struct, frozen=True):
    access_token: str = ""


class _Answer(msgspec.Struct, frozen=True):
    token: _Token | None = None
    clientid: str = ""


class NmiClient:
    """Asks nmi on this node. No proxy, no redirect; ``timeout`` is seconds, as long as nmi may wait for an identity.

    ``unix_socket``: nmi's socket, asked instead of the host in ``base_url``. ``token_file``: a projected token that
    says who is asking, read anew each time because the kubelet renews it.

    A connection that is refused is tried again a few times: nmi may be restarting.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout: float = 110.0,
        user_agent: str = "",
        unix_socket: str = "",
        token_file: str = "",
        environ: Mapping[str, str] | None = None,
        session: aiohttp.ClientSession | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout = timeout
        self._user_agent = user_agent
        self._unix_socket = unix_socket
        self._token_file = token_file
        self._environ = os.environ if environ is None else environ
        self._session = session
        self._owned = session is None

    async def token(self, resource: str, *, pod_namespace: str, pod_name: str) -> SecretText:
        """Get the pod's token for ``resource``. Raises MountError."""
        url = f"{self._base_url}/host/token/?resource={quote(resource, safe='')}"
        headers = {"podns": pod_namespace, "podname": pod_name, "Accept": "application/json"}
        if self._user_agent:
            headers["User-Agent"] = self._user_agent
        if self._token_file:
            headers["Authorization"] = f"Bearer {await self._own_token()}"
        status, body = await self._get(url, headers)
        if status != 200:  # noqa: PLR2004 - HTTP OK
            raise MountError(f"nmi response failed with status code: {status}, response body: {excerpt(body, 1000)}")
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise MountError("nmi answered with something that is not a token") from error
        if answer.token is None or not answer.token.access_token or not answer.clientid:
            raise MountError("nmi did not return expected values in response: token and clientid")
        return SecretText(answer.token.access_token)

    async def close(self) -> None:
        """Close the session if it is ours."""
        if self._owned and self._session is not None:
            await self._session.close()
            self._session = None

    async def _own_token(self) -> str:
        try:
            return (await asyncio.to_thread(Path(self._token_file).read_text, encoding="ascii")).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise MountError(f"the token to show to nmi cannot be read: {error}") from error

    async def _get(self, url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        if self._session is None:
            self._session = new_session(
                environ=self._environ,
                proxies=False,
                timeout=self._timeout,
                connect_timeout=5.0,
                tls=False,
                unix_socket=self._unix_socket,
            )
        attempt = 0
        while True:
            try:
                async with self._session.get(
                    yarl.URL(url, encoded=True),
                    headers=headers,
                    allow_redirects=False,
                    skip_auto_headers=("Accept-Encoding",),
                    timeout=aiohttp.ClientTimeout(total=self._timeout),
                ) as response:
                    return response.status, await read_bounded(response.content.iter_any(), MAX_BODY)
            except TimeoutError as error:
                raise MountError(f"nmi at {self._base_url} did not answer within {self._timeout:g} s") from error
            except (aiohttp.ClientError, OSError, ValueError, AzureUnavailable) as error:
                if not isinstance(error, aiohttp.ClientConnectorError) or attempt >= REFUSED_RETRIES:
                    text = " ".join(str(error).split())[:200] or type(error).__name__
                    raise MountError(f"nmi at {self._base_url} cannot be reached: {text}; is it running?") from error
            attempt += 1
            await asyncio.sleep(REFUSED_PAUSE * attempt)
