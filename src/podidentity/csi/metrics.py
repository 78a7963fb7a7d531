"""The provider's two histograms, under the original's names."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Histogram, generate_latest

BUCKETS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 1, 1.5, 2, 2.5, 3, 5, 10, 15, 30)
_COMMON: Final = {"provider": "azure", "os_type": "linux", "service_name": "secrets-store-csi-driver-provider-azure"}


class CsiMetrics:
    """Time of Key Vault requests and of gRPC calls, in seconds.

    The labels ``object_name`` and ``grpc_message`` stay empty and ``error`` is one of a few words: what users write
    into their classes neither multiplies the series nor shows in them.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._vault = Histogram(
            "keyvault_request",
            "Distribution of how long it took to get from keyvault",
            (*_COMMON, "object_type", "object_name", "error"),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._grpc = Histogram(
            "grpc_request",
            "Distribution of how long it took for the gRPC requests",
            (*_COMMON, "grpc_method", "grpc_code", "grpc_message"),
            buckets=BUCKETS,
            registry=self._registry,
        )

    def vault_request(self, object_type: str, seconds: float, error: str) -> None:
        """Record one request to Key Vault; ``error`` is empty, a status, ``unavailable`` or ``canceled``."""
        self._vault.labels(**_COMMON, object_type=object_type, object_name="", error=error).observe(seconds)

    def grpc_call(self, method: str, seconds: float, code: str) -> None:
        """Record one gRPC call; ``code`` as Go spells it (OK, Unknown)."""
        self._grpc.labels(**_COMMON, grpc_method=method, grpc_code=code, grpc_message="").observe(seconds)

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)
