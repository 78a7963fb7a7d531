"""Puts the rule sets in place with the ``nft`` tool, checks that they are, and repairs them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import msgspec

from podidentity.nmi.datapath import rules
from podidentity.nmi.datapath.ports import Port, table_of
from podidentity.nmi.datapath.programs import DatapathFailed, Run, run_program
from podidentity.nmi.datapath.rules import Datapath
from podidentity.telemetry.logging import Logger, get_logger


class _Counter(msgspec.Struct, frozen=True):
    packets: int = 0


class _Element(msgspec.Struct, frozen=True):
    val: str
    counter: _Counter = _Counter()


class _Wrapped(msgspec.Struct, frozen=True):
    elem: _Element


class _Set(msgspec.Struct, frozen=True):
    elem: tuple[_Wrapped, ...] = ()


class _Object(msgspec.Struct, frozen=True):
    set: _Set = _Set()


class _Listing(msgspec.Struct, frozen=True):
    nftables: tuple[_Object, ...] = ()


_CANNOT: Final = "Could not process rule"
_LISTING: Final = msgspec.json.Decoder(_Listing)


async def run_nft(args: tuple[str, ...], text: str) -> str:
    """Run ``nft``; errors as :func:`run_program`."""
    return await run_program(("nft", *args), text)


class Nft:
    """The tables of one node. ``bridge`` is False once the kernel has turned out to have no bridge filter."""

    def __init__(self, path: Datapath, *, run: Run = run_nft, log: Logger | None = None) -> None:
        self._unlimited = rules.redirect(rules.unlimited(path))
        self._texts = {
            rules.GUARD: rules.guard(path),
            rules.BRIDGE: rules.bridge(path),
            rules.REDIRECT: rules.redirect(path),
        }
        self._log = log or get_logger()
        self._metadata_ip = path.metadata_ip
        self._lock = asyncio.Lock()
        self._run = run
        self._listed: dict[str, str] = {}
        self.bridge = True

    async def install_guard(self) -> str:
        """Install the first layer. Returns why the bridge's part is missing, or ``""``. Raises DatapathFailed."""
        await self._install(rules.GUARD)
        try:
            await self._install(rules.BRIDGE)
        except DatapathFailed as failed:
            self.bridge = False
            return str(failed)
        self.bridge = True
        return ""

    async def install_redirect(self) -> None:
        """Install the second layer; the guard must be there. Raises DatapathFailed.

        A kernel that cannot count connections costs the limits, not the redirect.
        """
        try:
            await self._install(rules.REDIRECT)
        except DatapathFailed as failed:
            if _CANNOT not in str(failed) or not self._limits:
                raise
            await self._put(rules.REDIRECT, self._unlimited)
            self._texts[rules.REDIRECT] = self._unlimited
            self._log.warning("one pod's connections are not limited: this kernel cannot", error=str(failed))

    async def install_ports(self, ports: frozenset[Port]) -> None:
        """Have the bridge check port and address: these pairs, and no others. Raises DatapathFailed."""
        async with self._lock:
            self._texts[rules.PORTS] = table_of(ports, self._metadata_ip)
            await self._install(rules.PORTS)

    async def changed(self) -> list[str]:
        """Return the tables that are not as we left them."""
        found = []
        for table, listed in self._listed.items():
            try:
                now = await self._list(table)
            except DatapathFailed:
                now = ""
            if now != listed:
                found.append(table)
        return found

    async def repair(self) -> list[str]:
        """Put back what :meth:`changed` finds, each table in one transaction; returns their names."""
        async with self._lock:
            found = await self.changed()
            for name in found:
                await self._install(name)
        return found

    async def refusals(self) -> Mapping[str, int]:
        """Return the connections refused for a limit, by source, since the redirect was installed or put back."""
        if not self._limits:
            return {}
        table = rules.REDIRECT.split()
        listed = await self._run(("-j", "list", "set", *table, rules.REFUSED), "")
        try:
            found = _LISTING.decode(listed)
        except msgspec.MsgspecError as error:
            raise DatapathFailed(f"set {rules.REFUSED} reads as no set: {error}") from error
        return {one.elem.val: one.elem.counter.packets for part in found.nftables for one in part.set.elem}

    @property
    def _limits(self) -> bool:
        """Whether the redirect limits a source's connections."""
        return self._texts[rules.REDIRECT] != self._unlimited

    async def _install(self, table: str) -> None:
        await self._put(table, self._texts[table])

    async def _put(self, table: str, text: str) -> None:
        await self._run(("-f", "-"), text)
        listed = await self._list(table)
        missing = [line for line in _chains(text) if line not in listed]
        if missing:
            raise DatapathFailed(f"table {table} lacks {missing[0]} right after it was installed")
        self._listed[table] = listed

    async def _list(self, table: str) -> str:
        """Return a table without what passing packets change: counters, and the elements of the redirect's sets."""
        terse = ("-t",) if table == rules.REDIRECT else ()
        return await self._run(("-s", "-n", *terse, "list", "table", *table.split()), "")


async def uninstall(run: Run = run_nft) -> None:
    """Remove everything from this node, the redirect first and the guard last. Raises DatapathFailed, ConfigError."""
    await run(("-f", "-"), rules.remove(rules.REDIRECT))
    for bridged in (rules.PORTS, rules.BRIDGE):
        try:
            await run(("-f", "-"), rules.remove(bridged))
        except DatapathFailed as failed:
            if await _exists(run, bridged):
                raise failed from None
    await run(("-f", "-"), rules.remove(rules.GUARD))


async def installed(run: Run = run_nft) -> bool:
    """Whether any of the tables is on this node. Raises ConfigError."""
    return any([await _exists(run, table) for table in (rules.REDIRECT, rules.PORTS, rules.BRIDGE, rules.GUARD)])


async def _exists(run: Run, table: str) -> bool:
    try:
        await run(("-s", "list", "table", *table.split()), "")
    except DatapathFailed:
        return False
    return True


def _chains(text: str) -> list[str]:
    return [line.strip().rstrip("{").strip() for line in text.splitlines() if line.strip().startswith("chain ")]
