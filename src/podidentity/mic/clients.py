"""What mic talks with: Kubernetes, as three clients, and ARM."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from podidentity.aio.clock import Clock
from podidentity.aio.fence import Fence
from podidentity.azure.arm import ComputeClient
from podidentity.azure.config import AzureConfigSource
from podidentity.azure.credentials import credential_for
from podidentity.azure.errors import AzureError
from podidentity.config.build import Build
from podidentity.config.mic import MicSettings
from podidentity.kube.client import KubeClient
from podidentity.kube.settings import load_settings
from podidentity.mic.budget import Budget
from podidentity.mic.credential import CurrentCredential
from podidentity.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Clients:
    """Three clients, so that no part uses up another's budget: built-in objects, custom resources, leadership."""

    core: KubeClient
    custom: KubeClient
    election: KubeClient


def burst(settings: MicSettings) -> int:
    """Calls at once within ``--clientQps``, as the original has it."""
    return max(int(settings.qps), 1)


async def open_clients(
    stack: AsyncExitStack,
    settings: MicSettings,
    build: Build,
    environ: Mapping[str, str],
    *,
    clock: Clock,
    fence: Fence,
) -> Clients:
    """Open them; ``stack`` closes them. ConfigError."""
    kube = load_settings(settings.kubeconfig, environ)
    agent = build.user_agent("MIC", settings.custom_user_agent)
    qps, most = settings.qps, burst(settings)
    return Clients(
        core=await stack.enter_async_context(KubeClient(kube, user_agent=agent, qps=qps, burst=most, clock=clock)),
        custom=await stack.enter_async_context(
            KubeClient(kube, user_agent=agent, qps=qps, burst=most, clock=clock, fence=fence)
        ),
        election=await stack.enter_async_context(KubeClient(kube, user_agent=agent, clock=clock)),
    )


def compute_client(
    source: AzureConfigSource, settings: MicSettings, build: Build, metrics: Metrics, *, fence: Fence, budget: Budget
) -> ComputeClient:
    """Return a client of ARM with the credentials of the day; it is metered and tells the budget what is left."""

    def meter(operation: str, seconds: float, error: AzureError | None) -> None:
        if error is None:
            metrics.observe("cloud_provider_operations_duration_seconds", seconds, operation_type=operation)
        else:
            metrics.count("cloud_provider_operations_errors_count", operation_type=operation)

    return ComputeClient(
        source.current().cloud,
        CurrentCredential(source.current, credential_for),
        user_agent=build.user_agent("MIC", settings.custom_user_agent),
        api_version=settings.compute_api_version,
        metrics=meter,
        on_answer=lambda host, headers: budget.heard(host.key, headers),
        fence=fence,
    )
