"""csi-provider put together: settings in, a running provider out."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from podidentity.aio.signals import until_signal
from podidentity.azure.cloud import Cloud, cloud_named
from podidentity.azure.entra import EntraClient
from podidentity.azure.imds import IMDS_URL, ImdsClient
from podidentity.azure.keyvault import KeyVaultClient
from podidentity.config.build import Build
from podidentity.csi.content import CertificateOptions
from podidentity.csi.metrics import CsiMetrics
from podidentity.csi.mount import Mounter, default_vault_url
from podidentity.csi.nmi import NmiClient
from podidentity.csi.server import Endpoint, Provider, ask_version, parse_endpoint, serving
from podidentity.csi.signin import SignIns
from podidentity.csi.status import health_app, listening, metrics_app
from podidentity.telemetry.logging import configure_logging, get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from podidentity.config.csi import CsiSettings


class Client(Protocol):
    """What has sessions to close."""

    async def close(self) -> None:
        """Close them."""


@dataclass(frozen=True)
class App:
    """Everything that runs, not running yet."""

    settings: CsiSettings
    endpoint: Endpoint
    provider: Provider
    clients: tuple[Client, ...]
    metrics: CsiMetrics


@dataclass(frozen=True)
class Running:
    """Where a running provider can be reached."""

    target: str
    healthz_port: int
    prometheus_port: int


def build_app(
    settings: CsiSettings,
    *,
    environ: Mapping[str, str] | None = None,
    vault_url: Callable[[Cloud, str], str] = default_vault_url,
    imds_url: str = IMDS_URL,
) -> App:
    """Put the provider together; nothing listens and nothing is asked. Raises ConfigError."""
    env = os.environ if environ is None else environ
    build = Build.of(env)
    if settings.cloud_name.casefold() != "azurestackcloud":
        cloud_named(settings.cloud_name, env)
    agent = f"aad-pod-identity/CSI/{build.version}/{build.commit}/{build.date}"
    agent = f"{agent} {settings.custom_user_agent}" if settings.custom_user_agent else agent
    metrics = CsiMetrics()
    nmi = NmiClient(
        settings.nmi_url,
        unix_socket=settings.nmi_socket,
        token_file=settings.nmi_token_file,
        user_agent=agent,
        environ=env,
    )
    vault = KeyVaultClient(user_agent=agent, environ=env)
    imds, entra = ImdsClient(imds_url, environ=env), EntraClient(environ=env)
    mounter = Mounter(
        SignIns(nmi, imds, entra),
        vault,
        cloud_name=settings.cloud_name,
        environ=env,
        certificates=CertificateOptions(
            order=settings.construct_pem_chain, split=settings.write_cert_and_key_in_separate_files
        ),
        vault_url=vault_url,
        observe=metrics.vault_request,
    )
    provider = Provider(mounter, version=build.version, observe=metrics.grpc_call)
    return App(settings, parse_endpoint(settings.endpoint), provider, (nmi, vault, imds, entra), metrics)


@asynccontextmanager
async def started(app: App) -> AsyncIterator[Running]:
    """Run the provider while entered; leaving lets running mounts end. Raises ConfigError."""
    settings = app.settings
    async with AsyncExitStack() as stack:
        for client in app.clients:
            stack.push_async_callback(client.close)
        metrics_port = await stack.enter_async_context(
            listening(metrics_app(app.metrics.render), settings.prometheus_port)
        )
        target = await stack.enter_async_context(serving(app.provider, app.endpoint))

        async def check() -> None:
            await ask_version(target, settings.healthz_timeout)

        healthz_port = await stack.enter_async_context(
            listening(health_app(settings.healthz_path, check), settings.healthz_port)
        )
        yield Running(target, healthz_port, metrics_port)


async def run(settings: CsiSettings) -> None:
    """Run until SIGTERM or SIGINT. Raises ConfigError."""
    configure_logging(log_format=settings.log_format, verbosity=settings.verbosity)
    app = build_app(settings)
    await until_signal(_serve(app))


async def _serve(app: App) -> None:
    log = get_logger()
    build = Build.of(os.environ)
    log.info("starting csi provider", version=build.version, build_date=build.date)
    async with started(app) as running:
        log.info("listening", endpoint=app.settings.endpoint, nmi=app.settings.nmi_url)
        log.info("started health probe", port=running.healthz_port)
        log.info("registered and exported metrics", port=running.prometheus_port)
        try:
            await asyncio.Event().wait()
        finally:
            log.info("shutting down")
