"""csi-provider put together: settings in, a running provider out."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from podidentity.aio.signals import until_signal
from podidentity.azure.cloud import Cloud, cloud_named
from podidentity.azure.keyvault import KeyVaultClient
from podidentity.config.build import Build
from podidentity.csi.metrics import CsiMetrics
from podidentity.csi.mount import Mounter, default_vault_url
from podidentity.csi.nmi import NmiClient
from podidentity.csi.server import Endpoint, Provider, ask_version, parse_endpoint, serving
from podidentity.csi.status import health_app, listening, metrics_app
from podidentity.telemetry.logging import configure_logging, get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from podidentity.config.csi import CsiSettings


@dataclass(frozen=True)
class App:
    """Everything that runs, not running yet."""

    settings: CsiSettings
    endpoint: Endpoint
    provider: Provider
    nmi: NmiClient
    vault: KeyVaultClient
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
) -> App:
    """Put the provider together; nothing listens and nothing is asked. Raises ConfigError."""
    env = os.environ if environ is None else environ
    build = Build.of(env)
    if settings.cloud_name.casefold() != "azurestackcloud":
        cloud_named(settings.cloud_name, env)
    agent = f"aad-pod-identity/CSI/{build.version}/{build.commit}/{build.date}"
    agent = f"{agent} {settings.custom_user_agent}" if settings.custom_user_agent else agent
    metrics = CsiMetrics()
    nmi = NmiClient(settings.nmi_url, user_agent=agent, environ=env)
    vault = KeyVaultClient(user_agent=agent, environ=env)
    mounter = Mounter(
        nmi, vault, cloud_name=settings.cloud_name, environ=env, vault_url=vault_url, observe=metrics.vault_request
    )
    provider = Provider(mounter, version=build.version, observe=metrics.grpc_call)
    return App(settings, parse_endpoint(settings.endpoint), provider, nmi, vault, metrics)


@asynccontextmanager
async def started(app: App) -> AsyncIterator[Running]:
    """Run the provider while entered; leaving lets running mounts end. Raises ConfigError."""
    settings = app.settings
    async with AsyncExitStack() as stack:
        stack.push_async_callback(app.nmi.close)
        stack.push_async_callback(app.vault.close)
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
