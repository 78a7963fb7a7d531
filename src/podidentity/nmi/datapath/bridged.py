"""Whether a bridge carries pods' packets past the node's IP layer: then only a filter of the bridge can stop them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_DEFAULT: Final = "00000000"


def bridged_uplink(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> str:
    """Return the interface of the default route if it is a bridge or a port of one, else ``""``."""
    try:
        rows = (proc / "net" / "route").read_text().splitlines()[1:]
    except OSError:
        return ""
    for row in rows:
        name, destination, *_ = row.split()
        device = sys / "class" / "net" / name
        if destination == _DEFAULT and ((device / "bridge").is_dir() or (device / "brport").is_dir()):
            return name
    return ""


def iptables_sees_bridges(proc: Path = Path("/proc")) -> bool:
    """Whether bridged packets are shown to iptables (``net.bridge.bridge-nf-call-iptables``)."""
    try:
        return (proc / "sys" / "net" / "bridge" / "bridge-nf-call-iptables").read_text().strip() == "1"
    except OSError:
        return False
