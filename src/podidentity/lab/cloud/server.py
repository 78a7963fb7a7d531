"""The simulated Azure as one asyncio application: `serve` starts it in this process, `__main__` in one of its own."""

import os
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from podidentity.lab.cloud.admin import Admin, AdminService
from podidentity.lab.cloud.arm.service import Arm
from podidentity.lab.cloud.buckets import Buckets
from podidentity.lab.cloud.counters import Counters
from podidentity.lab.cloud.entra import Entra
from podidentity.lab.cloud.faults import Faults, FaultSwitch
from podidentity.lab.cloud.frontend import VAULT_PREFIX, Frontend
from podidentity.lab.cloud.imds import Imds
from podidentity.lab.cloud.keyvault import KeyVault
from podidentity.lab.cloud.planting import plant
from podidentity.lab.cloud.seed import Seed
from podidentity.lab.cloud.tokens import Issuer, new_key
from podidentity.lab.cloud.world import World, random_guid

_KEEPALIVE = 75.0
_SHUTDOWN = 1.0
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class CloudConfig:
    """What to serve and where.

    Port 0 takes a free one. `tls` is (certificate, key) as PEM files, None serves plain HTTP. The seed counts when
    `state_dir` is new only. `wall` gives seconds since the epoch, `monotonic` seconds, `new_guid` fresh ids and
    `new_key` the PEM of the RSA key that a new tenant signs tokens with.
    """

    state_dir: Path
    seed: Seed
    https: Address = ("127.0.0.1", 0)
    imds: tuple[Address, ...] = (("127.0.0.1", 0),)
    tls: tuple[Path, Path] | None = None
    admin_socket: Path | None = None
    faults: Faults = field(default_factory=Faults)
    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    new_guid: Callable[[], str] = random_guid
    new_key: Callable[[], str] = new_key


@dataclass(frozen=True, slots=True)
class Running:
    """A simulated Azure that listens. `arm_url`, `entra_url` and `vault_url` work without its host names."""

    https_url: str
    imds_urls: tuple[str, ...]
    admin: Admin
    world: World

    @property
    def imds_url(self) -> str:
        """The first IMDS listener, without a slash at the end."""
        return self.imds_urls[0]

    @property
    def arm_url(self) -> str:
        """Base of ARM."""
        return self.https_url

    @property
    def entra_url(self) -> str:
        """Base of Entra ID: the tenant follows."""
        return self.https_url

    def vault_url(self, vault: str) -> str:
        """Base of a vault: `/secrets/...` follows."""
        return f"{self.https_url}{VAULT_PREFIX}{vault}"


@dataclass(frozen=True, slots=True)
class Cloud:
    """The services over one world, before anything listens."""

    frontend: Frontend
    admin: Admin
    world: World


def build(config: CloudConfig) -> Cloud:
    """Open the state, plant the seed when it is new, and wire up the services. SeedError, OSError, sqlite3.Error."""
    world = World(config.state_dir, wall=config.wall, new_guid=config.new_guid)
    try:
        if not world.planted:
            plant(world, config.seed, config.new_key)
        return _wire(config, world)
    except BaseException:
        world.close()
        raise


def _wire(config: CloudConfig, world: World) -> Cloud:
    issuer = Issuer(world.directory.tenant_id, world.directory.signing_key)
    faults, counters, buckets = FaultSwitch(config.faults), Counters(), Buckets(config.monotonic)
    vaults = KeyVault(world, issuer)
    admin = Admin(world=world, issuer=issuer, faults=faults, counters=counters, vaults=vaults, buckets=buckets)
    frontend = Frontend(
        world=world,
        faults=faults,
        counters=counters,
        arm=Arm(world, issuer, faults, buckets),
        entra=Entra(world, issuer, faults),
        vaults=vaults,
        imds=Imds(world, issuer, faults, buckets),
        admin=AdminService(admin),
    )
    return Cloud(frontend, admin, world)


@asynccontextmanager
async def serve(config: CloudConfig) -> AsyncIterator[Running]:
    """Run it in this process until the block ends. OSError when an address is taken."""
    context = _tls(config.tls) if config.tls else None
    cloud = build(config)
    async with AsyncExitStack() as stack:
        stack.callback(cloud.world.close)
        port = await _listen(stack, cloud.frontend.https, config.https, context)
        imds = [(host, await _listen(stack, cloud.frontend.imds, (host, wanted))) for host, wanted in config.imds]
        if config.admin_socket is not None:
            await _listen_unix(stack, cloud.frontend.admin, config.admin_socket)
        yield Running(
            https_url=f"{'https' if context else 'http'}://{_authority(config.https[0], port)}",
            imds_urls=tuple(f"http://{_authority(host, bound)}" for host, bound in imds),
            admin=cloud.admin,
            world=cloud.world,
        )


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _tls(files: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    return context


Handler = Callable[[web.BaseRequest], Any]


async def _runner(stack: AsyncExitStack, handler: Handler) -> web.ServerRunner:
    server = web.Server(handler, access_log=None, keepalive_timeout=_KEEPALIVE)
    runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    return runner


async def _listen(
    stack: AsyncExitStack, handler: Handler, address: Address, context: ssl.SSLContext | None = None
) -> int:
    """Listen on an address; the port that was taken."""
    runner = await _runner(stack, handler)
    await web.TCPSite(runner, *address, ssl_context=context, backlog=1024).start()
    return int(runner.addresses[0][1])


def _vacate(path: Path) -> None:
    """Make room for a socket: one that a killed process left is in the way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)


async def _listen_unix(stack: AsyncExitStack, handler: Handler, path: Path) -> None:
    _vacate(path)
    runner = await _runner(stack, handler)
    await web.UnixSite(runner, str(path)).start()
    os.chmod(path, 0o600)  # noqa: PTH101 - a system call that does not block
