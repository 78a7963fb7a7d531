"""Settings of csi-provider. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from podidentity.config import goflag
from podidentity.config.errors import ConfigError, UsageError
from podidentity.config.flags import BOOL, DURATION, PORT, TEXT, Flag
from podidentity.config.settings import CommonSettings, above_zero, flag, flag_table, one_of, read_flags, switch

_WITHOUT_EFFECT: Final[tuple[Flag[bool] | Flag[int] | Flag[str], ...]] = (
    Flag("enable-pprof", BOOL, default=False, help=""),
    Flag("pprof-port", PORT, 6060, ""),
    Flag("token-proxy-url", TEXT, "", ""),
    Flag("sni-name", TEXT, "", ""),
    Flag("metrics-backend", TEXT, "Prometheus", "", one_of("Prometheus", "prometheus")),
)
_SCHEMES: Final = ("unix://", "tcp://")


def _path(text: str) -> str:
    return "" if text.startswith("/") else "must start with /"


@dataclass(frozen=True, slots=True, kw_only=True)
class CsiSettings(CommonSettings):
    """Flags and environment of csi-provider; durations are seconds. ``nmi_url``: no slash at its end."""

    endpoint: str = flag("endpoint", TEXT, "unix:///tmp/azure.sock", "where the CSI driver calls: unix:// or tcp://")
    log_format_json: bool = switch("log-format-json", "log JSON")
    healthz_port: int = flag("healthz-port", PORT, 8989, "port of health")
    healthz_path: str = flag("healthz-path", TEXT, "/healthz", "path of health", _path)
    healthz_timeout: float = flag("healthz-timeout", DURATION, 5.0, "time health may take", above_zero)
    prometheus_port: int = flag("prometheus-port", PORT, 8898, "port of metrics")
    construct_pem_chain: bool = switch("construct-pem-chain", "order certificates from leaf to root", default=True)
    write_cert_and_key_in_separate_files: bool = switch(
        "write-cert-and-key-in-separate-files", "write .crt and .key beside the combined file"
    )
    cloud_name: str = flag("cloud-name", TEXT, "AzurePublicCloud", "cloud of classes that name none")
    nmi_socket: str = flag("nmi-socket", TEXT, "", "nmi's Unix socket, instead of its port on loopback")
    nmi_token_file: str = flag(
        "nmi-token-file", TEXT, "", "projected service-account token to show to nmi (audience podidentity-nmi)"
    )
    nmi_url: str = "http://127.0.0.1:2579"

    @property
    def log_format(self) -> str:
        """``text`` or ``json``, as the other components say it."""
        return "json" if self.log_format_json else "text"


FLAGS: Final = flag_table(
    CsiSettings,
    "csi-provider",
    _WITHOUT_EFFECT,
    (
        "podidentity csi-provider --endpoint=unix:///provider/azure.sock",
        "podidentity csi-provider --endpoint=unix:///provider/azure.sock --nmi-socket=/run/podidentity/host-token.sock",
    ),
)
"""All flags."""


def csi_settings(argv: Sequence[str], environ: Mapping[str, str]) -> CsiSettings:
    """Build the settings from the arguments after ``csi-provider``. Errors: ``config.errors``."""
    given = read_flags(CsiSettings, argv, goflag.parse, FLAGS)
    scheme = next((one for one in _SCHEMES if given.endpoint.lower().startswith(one)), "")
    if not scheme or len(given.endpoint) == len(scheme):
        raise UsageError(f"invalid endpoint: {given.endpoint}; write --endpoint=unix:///path or tcp://host:port")
    return replace(given, nmi_url=_nmi_url(environ.get("PODIDENTITY_NMI_URL") or given.nmi_url))


def _nmi_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        wrong = parts.scheme != "http" or not parts.hostname or parts.port == 0 or parts.path not in {"", "/"}
    except ValueError:
        wrong = True
    if wrong or parts.query or parts.fragment or parts.username is not None:
        raise ConfigError(
            f'PODIDENTITY_NMI_URL: "{text}" is no address of nmi; write for example http://127.0.0.1:2579'
        )
    return text.rstrip("/")
