"""Which tool keeps this node's datapath, and how its changes are noticed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from podidentity.config.errors import ConfigError
from podidentity.nmi.datapath import iptables, nft
from podidentity.nmi.datapath.bridged import iptables_sees_bridges
from podidentity.nmi.datapath.iptables import Iptables
from podidentity.nmi.datapath.keeper import Backend
from podidentity.nmi.datapath.nft import Nft
from podidentity.nmi.datapath.programs import Run, run_program
from podidentity.nmi.datapath.rules import Datapath

AUTO, NFT = "auto", "nft"
POLL_SECONDS: Final = 1.0
_IPV6: Final = Path("/proc/net/if_inet6")
_FLAVOURS: Final = ("iptables-nft", "iptables-legacy", "iptables")
_IPTABLES_WORDS: Final = (b"aad-", b"PREROUTING", b"INPUT", b"FORWARD", b"OUTPUT")

Which = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Choice:
    """A back end; ``words`` of netlink's notices that concern it. None: it must be looked at all the time."""

    name: str
    backend: Backend
    words: tuple[bytes, ...]
    path: Datapath


def choose(wanted: str, path: Datapath, *, which: Which = shutil.which) -> Choice:
    """Return the back end ``wanted`` (the flag); ``auto`` is nft where it is installed, else iptables."""
    if wanted == AUTO:
        wanted = NFT if which(NFT) or not which("iptables") else "iptables"
    if wanted == NFT:
        return Choice(NFT, Nft(path), (b"podidentity",), path)
    legacy = _is_legacy(wanted, which)
    tables = Iptables(path, program=wanted, sees_bridges=iptables_sees_bridges(), ipv6=_IPV6.exists())
    return Choice("iptables-legacy" if legacy else wanted, tables, () if legacy else _IPTABLES_WORDS, path)


def _is_legacy(program: str, which: Which) -> bool:
    """Whether the program is iptables' legacy variant: of its changes the kernel gives no notice."""
    return "legacy" in Path(which(program) or program).resolve().name


class Tool(Protocol):
    """One tool, asked about what it has in place. Methods raise ConfigError and DatapathFailed."""

    async def installed(self) -> bool:
        """Whether anything of the datapath is there."""
        ...

    async def uninstall(self) -> None:
        """Remove it, the guard last."""
        ...


@dataclass(frozen=True, slots=True)
class NftTool:
    """nft's tables."""

    run: Run = nft.run_nft

    async def installed(self) -> bool:
        """Whether any table is there."""
        return await nft.installed(self.run)

    async def uninstall(self) -> None:
        """Remove the tables."""
        await nft.uninstall(self.run)


@dataclass(frozen=True, slots=True)
class IptablesTool:
    """The chains of one program of iptables, the original's among them."""

    program: str
    run: Run = run_program

    async def installed(self) -> bool:
        """Whether any chain is there."""
        return await iptables.installed(self.program, self.run)

    async def uninstall(self) -> None:
        """Remove the chains."""
        await iptables.uninstall(self.program, self.run)


def tools(*, which: Which = shutil.which) -> list[Tool]:
    """Return every tool of this node: what either has in place is removed. ConfigError when there is none."""
    found: list[Tool] = [NftTool()] if which(NFT) else []
    programs = [name for name in _FLAVOURS[:2] if which(name)] or [name for name in _FLAVOURS[2:] if which(name)]
    found += [IptablesTool(name) for name in programs]
    if not found:
        raise ConfigError("neither nft nor iptables is installed, so there is nothing to remove the datapath with")
    return found
