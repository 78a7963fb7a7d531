"""Sessions, trust and bounded reads: what every Azure client of ours shares."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp

from podidentity.azure.errors import AzureUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes of an answer that are read at most."""


def tls_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """A verifying context that trusts the system's roots and those of ``SSL_CERT_FILE`` and ``REQUESTS_CA_BUNDLE``.

    Raises AzureUnavailable naming the variable when its file cannot be used.
    """
    context = ssl.create_default_context()
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        path = environ.get(variable, "")
        if not path:
            continue
        try:
            if Path(path).is_dir():
                context.load_verify_locations(capath=path)
            else:
                context.load_verify_locations(cafile=path)
        except (OSError, ssl.SSLError) as error:
            raise AzureUnavailable(f"{variable}={path}: cannot be used as a CA bundle ({error})") from error
    return context


def new_session(
    *,
    environ: Mapping[str, str] | None = None,
    proxies: bool,
    timeout: float,
    connect_timeout: float = 10.0,
    tls: bool = True,
    unix_socket: str = "",
    request_class: type[aiohttp.ClientRequest] = aiohttp.ClientRequest,
) -> aiohttp.ClientSession:
    """A session without cookies and without decompression; must be made in a running loop.

    ``unix_socket``: a path, connected to instead of the host in the URL. ``tls`` False: for plain HTTP only, no CA
    bundle is read. ``proxies``: whether ``HTTPS_PROXY`` and its kin count. Times are seconds: ``timeout`` for a whole
    exchange.
    """
    trust: ssl.SSLContext | bool = tls_context(os.environ if environ is None else environ) if tls else True
    connector: aiohttp.BaseConnector = (
        aiohttp.UnixConnector(unix_socket, limit=0) if unix_socket else aiohttp.TCPConnector(ssl=trust, limit=0)
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=proxies,
        request_class=request_class,
        timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=connect_timeout),
    )


async def read_bounded(chunks: AsyncIterator[bytes], limit: int = MAX_BODY) -> bytes:
    """All chunks joined; AzureUnavailable when they are more than ``limit`` bytes."""
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise AzureUnavailable(f"the answer is larger than {limit} bytes")
        parts.append(chunk)
    return b"".join(parts)
