"""Whether this node's pods share a bridge, as with kubenet: there one pod can take another's address.

Looked for is what is there: the kubelet's flag (nodes of today no longer have it), the CNI configuration where it is
mounted, and kubenet's bridge itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from podidentity.config.errors import ConfigError

FLAG: Final = "--network-plugin=kubenet"
BRIDGE: Final = "cbr0"
NOT_SUPPORTED: Final = (
    "AAD Pod Identity is not supported for Kubenet. Review "
    "https://azure.github.io/aad-pod-identity/docs/configure/aad_pod_identity_on_kubenet/ for more details."
)
REMEDY: Final = (
    "--cni-results=/var/lib/cni/results, or deny NET_RAW and NET_ADMIN to pods (docs/howto/kubenet.md), "
    "then --allow-network-plugin-kubenet=true"
)
SHARED: Final = (
    "pods of this node share a bridge, where a pod with NET_RAW or NET_ADMIN can take another's address, and with it "
    "the other's tokens: deny both to pods (docs/howto/kubenet.md)"
)


class _Plugin(msgspec.Struct, frozen=True):
    type: str = ""


class _Network(msgspec.Struct, frozen=True):
    type: str = ""
    plugins: tuple[_Plugin, ...] = ()


_NETWORK: Final = msgspec.json.Decoder(_Network)


def check(
    kubelet_config: str,
    *,
    allowed: bool,
    ports_checked: bool = False,
    sys: Path = Path("/sys"),
    cni: Path = Path("/etc/cni/net.d"),
) -> str:
    """Raise ConfigError when pods share a bridge and that is neither ``allowed`` nor made safe: ``ports_checked``.

    Returns a notice, of what is allowed at whose risk or of what could not be read, else ``""``.
    """
    unread, found = _from_kubelet(kubelet_config)
    found += [*_from_cni(cni), *_from_bridge(sys)]
    if not found:
        return "" if allowed else unread
    if ports_checked:
        return ""
    if allowed:
        return f"{SHARED}; found: {'; '.join(found)}"
    raise ConfigError(f"{NOT_SUPPORTED} Found: {'; '.join(found)}. What to do: {REMEDY}")


def _from_kubelet(file: str) -> tuple[str, list[str]]:
    try:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"{file} cannot be read ({error.strerror}), so kubenet cannot be told from it", []
    return "", [f"{file} has {FLAG}"] if FLAG in text else []


def _from_cni(folder: Path) -> Sequence[str]:
    """Look at the network the runtime uses: the first file by name."""
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix in {".conf", ".conflist", ".json"})
        network = _NETWORK.decode(files[0].read_bytes()) if files else _Network()
    except (OSError, msgspec.MsgspecError):
        return []
    kinds = {network.type, *(plugin.type for plugin in network.plugins)}
    return [f"{files[0]} uses the bridge plugin"] if "bridge" in kinds else []


def _from_bridge(sys: Path) -> Sequence[str]:
    return [f"there is a bridge {BRIDGE}"] if (sys / "class" / "net" / BRIDGE / "bridge").is_dir() else []
