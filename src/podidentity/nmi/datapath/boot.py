"""The guard from boot on: a systemd unit of the node that loads it before the kubelet starts any pod.

Nothing is started or reloaded: the files are there at the next boot, which is when they are needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from podidentity.config.errors import ConfigError
from podidentity.nmi.datapath import iptables, rules
from podidentity.nmi.datapath.rules import Datapath

UNIT: Final = "podidentity-guard.service"
_FOLDER: Final = "etc/podidentity"
_FILES: Final = (f"{_FOLDER}/guard", f"{_FOLDER}/guard6", f"{_FOLDER}/guard-bridge")
_SYSTEMD: Final = "etc/systemd/system"
_WANTS: Final = (f"{_SYSTEMD}/multi-user.target.wants", f"{_SYSTEMD}/kubelet.service.wants")
_PROGRAMS: Final = ("usr/sbin/nft", "sbin/nft", "usr/sbin/iptables-restore", "sbin/iptables-restore")


def unit(*commands: str) -> str:
    """Return the unit that runs ``commands`` before the kubelet."""
    starts = "".join(f"ExecStart={command}\n" for command in commands)
    return f"""[Unit]
Description=Keeps pods off the Azure metadata service until nmi runs
DefaultDependencies=no
After=local-fs.target systemd-modules-load.service
Before=network-pre.target kubelet.service
Wants=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
{starts}
[Install]
WantedBy=multi-user.target kubelet.service
"""


def files(path: Datapath, program: str) -> Mapping[str, str]:
    """Return the files to write, below the node's root; ``program``: the node's nft or iptables-restore, absolute.

    A kernel without a filter for bridges, or for IPv6, must not cost the rest: that part is a file that may fail.
    """
    guard, guard6, bridge = _FILES
    service = f"{_SYSTEMD}/{UNIT}"
    if program.endswith("nft"):
        commands = (f"{program} -f /{guard}", f"-{program} -f /{bridge}")
        return {guard: rules.guard(path), bridge: rules.bridge(path), service: unit(*commands)}
    words = "--noflush --wait 5"
    commands = (f"{program} {words} /{guard}", f"-{iptables.six(program)} {words} /{guard6}")
    return {
        guard: iptables.restore(iptables.guard(path), {}),
        guard6: iptables.restore(iptables.guard6(path), {}),
        service: unit(*commands),
    }


def install(path: Datapath, root: str) -> str:
    """Write the files below ``root``, the node's file system, and enable the unit; return the program it runs.

    ConfigError when the node has no such program, or when its files cannot be written.
    """
    base = Path(root)
    program = next((name for name in _PROGRAMS if (base / name).exists()), "")
    if not program:
        raise ConfigError(f"{root} has neither nft nor iptables-restore in /usr/sbin: is --host-root the node's own /?")
    try:
        for name, text in files(path, f"/{program}").items():
            file = base / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        for folder in _WANTS:
            link = base / folder / UNIT
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(f"../{UNIT}")
    except OSError as error:
        raise ConfigError(f"the boot guard cannot be written below {root}: {error}") from error
    return f"/{program}"


def uninstall(root: str) -> None:
    """Remove what :func:`install` wrote. ConfigError when that cannot be done."""
    base = Path(root)
    names = [f"{folder}/{UNIT}" for folder in _WANTS] + [f"{_SYSTEMD}/{UNIT}"]
    try:
        for name in [*names, *_FILES]:
            (base / name).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"the boot guard cannot be removed from {root}: {error}") from error
