"""Sockets and TLS to the API server, from settings."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp.client_exceptions import UnixClientConnectorError
from aiohttp.client_proto import ResponseHandler

from podidentity.config.errors import ConfigError

if TYPE_CHECKING:
    from aiohappyeyeballs import AddrInfoType
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.tracing import Trace

    from podidentity.kube.target import KubeSettings

KEEP_ALIVE: Final = 30.0
"""Seconds an idle connection is kept."""

PROBES: Final = {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
"""A silent connection is probed after 15 s, and given up when three probes, 5 s apart, are not answered."""


class TlsFiles:
    """The TLS context of these settings, made again when one of its files changes (rotated authority or key)."""

    def __init__(self, settings: KubeSettings) -> None:
        self._settings = settings
        self._paths = [
            Path(name) for name in (settings.ca_file, settings.client_cert_file, settings.client_key_file) if name
        ]
        self._context: ssl.SSLContext | None = None
        self._seen: list[tuple[int, int]] = []

    def context(self) -> ssl.SSLContext:
        """Return the context for the next connection. Raises ConfigError; a half-written rotation keeps the old one."""
        try:
            seen = [(stat.st_mtime_ns, stat.st_ino) for stat in (path.stat() for path in self._paths)]
            if self._context is None or seen != self._seen:
                self._context, self._seen = build_context(self._settings), seen
        except OSError as error:
            if self._context is None:
                raise ConfigError(f"cannot read {error.filename}: {error.strerror}") from error
        except ConfigError:
            if self._context is None:
                raise
        return self._context


def build_context(settings: KubeSettings) -> ssl.SSLContext:
    """Build a client's TLS context. Raises ConfigError naming what cannot be used, OSError for a missing file."""
    data = settings.ca_data.decode(errors="replace") or None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None, cadata=data)
    except ssl.SSLError as error:
        source = settings.ca_file or "certificate-authority-data"
        raise ConfigError(f"{source} holds no usable certificate authority: {error.reason or error}") from error
    if settings.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.client_cert_file or settings.client_cert_data:
        try:
            _load_client_certificate(context, settings)
        except (ssl.SSLError, ValueError) as error:
            source = settings.client_cert_file or "client-certificate-data"
            raise ConfigError(f"{source} and its key cannot be used as client certificate: {error}") from error
    return context


def _load_client_certificate(context: ssl.SSLContext, settings: KubeSettings) -> None:
    """OpenSSL's binding reads files only, so data goes through a private folder that is gone on return."""
    with tempfile.TemporaryDirectory(prefix="podidentity-") as folder:
        cert, key = settings.client_cert_file, settings.client_key_file
        if settings.client_cert_data:
            cert = _write(Path(folder) / "tls.crt", settings.client_cert_data)
        if settings.client_key_data:
            key = _write(Path(folder) / "tls.key", settings.client_key_data)
        context.load_cert_chain(cert, key or None, password="")


def _write(path: Path, data: bytes) -> str:
    path.touch(mode=0o600)
    path.write_bytes(data)
    return str(path)


class _UnixTlsConnector(aiohttp.UnixConnector):
    """aiohttp's Unix connector speaks no TLS; this one does."""

    async def _create_connection(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own
    ) -> ResponseHandler:
        if not req.is_ssl():
            return await super()._create_connection(req, traces, timeout)
        context = req.ssl if isinstance(req.ssl, ssl.SSLContext) else ssl.create_default_context()
        host = req.server_hostname or req.url.raw_host
        try:
            async with asyncio.timeout(timeout.sock_connect):
                _, protocol = await self._loop.create_unix_connection(
                    lambda: ResponseHandler(self._loop), self.path, ssl=context, server_hostname=host
                )
        except ssl.SSLCertVerificationError as error:
            raise aiohttp.ClientConnectorCertificateError(req.connection_key, error) from error
        except ssl.SSLError as error:
            raise aiohttp.ClientConnectorSSLError(req.connection_key, error) from error
        except OSError as error:
            raise UnixClientConnectorError(self.path, req.connection_key, error) from error
        return protocol


def connector(settings: KubeSettings) -> aiohttp.BaseConnector:
    """Build the pool of connections; call it inside a running loop."""
    if settings.unix_socket:
        return _UnixTlsConnector(settings.unix_socket, limit=0, keepalive_timeout=KEEP_ALIVE)
    return aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE, socket_factory=_probed_socket)


def _probed_socket(address: AddrInfoType) -> socket.socket:
    """Make a socket whose silence is asked about: a watch is told within half a minute that nobody is there."""
    family, kind, protocol = address[:3]
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in PROBES.items():
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    return sock
