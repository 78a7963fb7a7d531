"""The gRPC side: Version, Mount and the health check on a Unix socket or a TCP address."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import grpc
import grpc.aio

from podidentity.config.errors import ConfigError
from podidentity.csi.errors import MountError
from podidentity.csi.mount import recorded_versions
from podidentity.csi.parameters import parse_mount
from podidentity.csi.proto import health_pb2, provider_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from podidentity.csi.mount import Mounter

API: Final = "v1alpha1"
SERVICE: Final = "v1alpha1.CSIDriverProvider"
HEALTH_SERVICE: Final = "grpc.health.v1.Health"
RUNTIME_NAME: Final = "secrets-store-csi-driver-provider-azure"
MAX_MESSAGE: Final = 2000
"""Characters of an error: gRPC carries it in a header of at most 8 KiB."""
MARGIN: Final = 1.0
"""Seconds before the caller's deadline at which a mount gives up and says so."""
GRACE: Final = 5.0
"""Seconds running mounts get when the server stops."""


class Endpoint(NamedTuple):
    """Where to listen: ``unix`` and a path, or ``tcp`` and host:port."""

    scheme: str
    address: str

    @property
    def target(self) -> str:
        """The address as gRPC writes it."""
        return f"unix:{self.address}" if self.scheme == "unix" else self.address


def parse_endpoint(text: str) -> Endpoint:
    """Read ``unix:///path`` or ``tcp://host:port``. Raises ConfigError."""
    scheme, separator, address = text.partition("://")
    if not separator or scheme.lower() not in {"unix", "tcp"} or not address:
        raise ConfigError(f"invalid endpoint: {text}; use unix:///path/azure.sock or tcp://127.0.0.1:port")
    return Endpoint(scheme.lower(), address)


class Provider:
    """The service's methods. ``observe`` gets (method, seconds, gRPC code) of each call."""

    def __init__(
        self, mounter: Mounter, *, version: str, observe: Callable[[str, float, str], None] | None = None
    ) -> None:
        self._mounter = mounter
        self._version = version
        self._observe = observe

    async def version(
        self, _request: provider_pb2.VersionRequest, _context: grpc.aio.ServicerContext
    ) -> provider_pb2.VersionResponse:
        """Say what this is."""
        return provider_pb2.VersionResponse(version=API, runtime_name=RUNTIME_NAME, runtime_version=self._version)

    async def mount(
        self, request: provider_pb2.MountRequest, context: grpc.aio.ServicerContext
    ) -> provider_pb2.MountResponse:
        """Fetch a volume's files; a failure ends the call with code UNKNOWN and one line."""
        start = time.monotonic()
        code = "Canceled"
        try:
            wanted = parse_mount(request.attributes, request.secrets, request.permission)
            async with asyncio.timeout(deadline(context.time_remaining())):
                files = await self._mounter.mount(wanted)
            code = "OK"
        except MountError as error:
            code = "Unknown"
            await context.abort(grpc.StatusCode.UNKNOWN, str(error)[:MAX_MESSAGE])
        except TimeoutError:
            code = "DeadlineExceeded"
            text = "failed to mount objects, error: the driver's deadline came before nmi and Key Vault had answered"
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, text)
        finally:
            if self._observe is not None:
                self._observe(f"/{SERVICE}/Mount", time.monotonic() - start, code)
        return provider_pb2.MountResponse(
            object_version=[
                provider_pb2.ObjectVersion(id=id_, version=version) for id_, version in recorded_versions(files).items()
            ],
            files=[provider_pb2.File(path=file.path, mode=file.mode, contents=file.contents) for file in files],
        )

    async def check(
        self, _request: health_pb2.HealthCheckRequest, _context: grpc.aio.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Answer the standard health check."""
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


def deadline(remaining: float | None) -> float | None:
    """Seconds a mount may take so that its answer still arrives; ``remaining`` is what the caller waits, if it says."""
    return None if remaining is None else max(remaining - MARGIN, remaining / 2)


def build_server(provider: Provider) -> grpc.aio.Server:
    """Return the gRPC server with both services, bound to nothing yet. To be called in a running loop."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                SERVICE,
                {
                    "Version": _unary(provider.version, provider_pb2.VersionRequest, provider_pb2.VersionResponse),
                    "Mount": _unary(provider.mount, provider_pb2.MountRequest, provider_pb2.MountResponse),
                },
            ),
            grpc.method_handlers_generic_handler(
                HEALTH_SERVICE,
                {"Check": _unary(provider.check, health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse)},
            ),
        )
    )
    return server


@asynccontextmanager
async def serving(provider: Provider, endpoint: Endpoint, *, grace: float = GRACE) -> AsyncIterator[str]:
    """Serve on the endpoint while entered; gives the address bound (a TCP port 0 resolved).

    Leaving lets running calls end within ``grace`` seconds and removes the socket. Raises ConfigError when the
    endpoint is somebody else's or cannot be bound.
    """
    server = build_server(provider)
    bound = _bind(server, endpoint)
    try:
        await server.start()
        yield bound
    finally:
        await server.stop(grace)
        if endpoint.scheme == "unix":
            remove_socket(endpoint.address)


async def ask_version(target: str, seconds: float) -> str:
    """Dial the address and ask for the version, as the driver would, for at most ``seconds``.

    Gives the runtime's name. Raises OSError.
    """
    async with grpc.aio.insecure_channel(target) as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/Version",
            request_serializer=provider_pb2.VersionRequest.SerializeToString,
            response_deserializer=provider_pb2.VersionResponse.FromString,
        )
        try:
            answer = await call(provider_pb2.VersionRequest(version=API), timeout=seconds, wait_for_ready=False)
        except grpc.aio.AioRpcError as error:
            raise OSError(f"{error.code().name}: {error.details()}") from error
        return str(answer.runtime_name)


def _unary(
    method: Callable[..., Awaitable[object]], request: type[object], response: type[object]
) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(
        method,
        request_deserializer=request.FromString,  # type: ignore[attr-defined]  # generated messages have it
        response_serializer=response.SerializeToString,  # type: ignore[attr-defined]  # generated messages have it
    )


def _bind(server: grpc.aio.Server, endpoint: Endpoint) -> str:
    if endpoint.scheme == "unix":
        make_way(endpoint.address)
    before = os.umask(0o077)
    try:
        port = server.add_insecure_port(endpoint.target)
    except RuntimeError as error:
        raise ConfigError(f"cannot listen on {endpoint.scheme}://{endpoint.address}; is the address free?") from error
    finally:
        os.umask(before)
    if endpoint.scheme == "unix":
        return endpoint.target
    return f"{endpoint.address.rpartition(':')[0]}:{port}"


def remove_socket(path: str) -> None:
    """Remove the socket's file if it is still there."""
    Path(path).unlink(missing_ok=True)


def make_way(path: str) -> None:
    """Remove a socket nobody listens on. Raises ConfigError for one that is alive, and for what is no socket."""
    try:
        kind = Path(path).lstat().st_mode
    except FileNotFoundError:
        if not Path(path).parent.is_dir():
            raise ConfigError(f"{path}: its folder is missing; create it or mount it") from None
        return
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if not stat.S_ISSOCK(kind):
        raise ConfigError(f"{path}: is not a socket; remove it or choose another --endpoint")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            Path(path).unlink(missing_ok=True)
            return
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror or error}") from error
    raise ConfigError(f"{path}: another provider serves there; stop it or choose another --endpoint")
