"""The one place that imports azure-core for ARM: a pipeline that sends one request and reads the answer, bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import aiohttp
from azure.core.exceptions import AzureError as SdkError
from azure.core.pipeline.policies import RequestIdPolicy, UserAgentPolicy
from azure.core.pipeline.transport import AioHttpTransport
from azure.core.rest import AsyncHttpResponse, HttpRequest
from azure.mgmt.core import AsyncARMPipelineClient

from podidentity.aio.fenced_request import fenced
from podidentity.azure.arm_request import Answer
from podidentity.azure.errors import AzureUnavailable
from podidentity.azure.http import new_session, read_bounded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from podidentity.aio.fence import Fence
    from podidentity.config.redact import SecretText

CONNECT_TIMEOUT: Final = 10.0
READ_TIMEOUT: Final = 60.0
EXCHANGE_TIMEOUT: Final = 120.0


class ArmPipeline:
    """azure-mgmt-core's client: request ids and user agent, no retry and no redirect. Make it in a running loop.

    With a ``fence`` no write is sent while it is closed. ``unix_socket``: a path, connected to instead of the address.
    """

    def __init__(
        self,
        base_url: str,
        *,
        user_agent: str,
        environ: Mapping[str, str],
        fence: Fence | None,
        unix_socket: str = "",
    ) -> None:
        self._session = new_session(
            environ=environ,
            proxies=not unix_socket,
            timeout=EXCHANGE_TIMEOUT,
            tls=base_url.startswith("https:"),
            unix_socket=unix_socket,
            request_class=fenced(fence) if fence is not None else aiohttp.ClientRequest,
        )
        transport = AioHttpTransport(session=self._session, session_owner=False)
        agent = UserAgentPolicy(user_agent_use_env=False)
        agent.add_user_agent(user_agent)
        policies: list[Any] = [RequestIdPolicy(), agent]
        self._client: AsyncARMPipelineClient[HttpRequest, AsyncHttpResponse] = AsyncARMPipelineClient(
            base_url, policies=policies, transport=transport
        )

    async def send(self, method: str, url: str, body: bytes | None, token: SecretText) -> Answer:
        """One exchange, any status. Raises AzureUnavailable when there is no answer, FenceClosedError when unsent."""
        headers = {"Authorization": f"Bearer {token.reveal()}", "Accept": "application/json"}
        headers["Accept-Encoding"] = "identity"
        if body is not None:
            headers["Content-Type"] = "application/json; charset=utf-8"
        request = HttpRequest(method, url, headers=headers, content=body)
        try:
            response = await self._client.send_request(
                request, stream=True, connection_timeout=CONNECT_TIMEOUT, read_timeout=READ_TIMEOUT
            )
            async with response:
                content = await read_bounded(response.iter_raw())
        except (TimeoutError, SdkError, aiohttp.ClientError, OSError) as error:
            raise AzureUnavailable(f"{method} {_shown(url)}: {_text(error)}") from error
        return Answer(status=response.status_code, headers=dict(response.headers.items()), body=content)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
        await self._session.close()


def _shown(url: str) -> str:
    return url.partition("?")[0]


def _text(error: BaseException) -> str:
    return " ".join(str(getattr(error, "message", "") or error).split())[:300] or type(error).__name__
