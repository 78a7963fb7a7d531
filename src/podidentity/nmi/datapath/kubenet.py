"""Whether this node runs kubenet, on which one pod can take another's address."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from podidentity.config.errors import ConfigError

FLAG: Final = "--network-plugin=kubenet"
NOT_SUPPORTED: Final = (
    "AAD Pod Identity is not supported for Kubenet. Review "
    "https://azure.github.io/aad-pod-identity/docs/configure/aad_pod_identity_on_kubenet/ for more details."
)


def check(kubelet_config: str, *, allowed: bool) -> str:
    """Raise ConfigError when the kubelet's file asks for kubenet and that is not ``allowed``.

    Returns a notice when the file cannot be read, which says nothing about kubenet, else ``""``.
    """
    if allowed:
        return ""
    try:
        text = Path(kubelet_config).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"{kubelet_config} cannot be read ({error.strerror}), so kubenet cannot be told from it"
    if FLAG in text:
        raise ConfigError(NOT_SUPPORTED)
    return ""
