"""How to reach the API server: from inside a cluster, or from a kubeconfig."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from podidentity.config.errors import ConfigError
from podidentity.kube.auth import FileToken
from podidentity.kube.errors import KubeUnavailable
from podidentity.kube.target import KubeSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SERVICE_ACCOUNT", "KubeSettings", "in_cluster", "load_settings"]

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def load_settings(
    kubeconfig: str,
    environ: Mapping[str, str],
    *,
    service_account: Path = SERVICE_ACCOUNT,
    option: str = "--kubeconfig",
    context: str = "",
) -> KubeSettings:
    """Load settings from the file ``kubeconfig``, or of the pod we run in when it is empty. Raises ConfigError.

    ``option``: where the user names the file, for messages; ``context``: of the file, instead of its current one.
    """
    if kubeconfig:
        from podidentity.kube.kubeconfig import load_kubeconfig  # noqa: PLC0415 - a component in a cluster has none

        return load_kubeconfig(Path(kubeconfig), environ, option=option, context=context)
    if context:
        raise ConfigError(f"--context {context}: there is no kubeconfig to take it from; use {option} to name one")
    return in_cluster(environ, service_account, option=option)


def in_cluster(
    environ: Mapping[str, str], service_account: Path = SERVICE_ACCOUNT, *, option: str = "--kubeconfig"
) -> KubeSettings:
    """Load the settings of a pod: its environment and its service account's folder. Raises ConfigError."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port:
        missing = "KUBERNETES_SERVICE_PORT" if host else "KUBERNETES_SERVICE_HOST"
        raise ConfigError(f"not in a cluster: {missing} is not set; use {option} to name a kubeconfig file")
    ca_file = service_account / "ca.crt"
    if not ca_file.is_file():
        raise ConfigError(f"{ca_file} is missing; mount the service account (automountServiceAccountToken: true)")
    token = FileToken(service_account / "token")
    try:
        token.read()
    except KubeUnavailable as error:
        raise ConfigError(f"{error}; mount the service account (automountServiceAccountToken: true)") from error
    return KubeSettings(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        ca_file=str(ca_file),
        token_source=token,
        namespace=_namespace(service_account / "namespace"),
    )


def _namespace(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip() or "default"
    except OSError:
        return "default"
