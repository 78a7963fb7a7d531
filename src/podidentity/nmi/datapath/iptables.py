"""The same two layers with iptables, for nodes without nft; either of its back ends (nf_tables or legacy).

Chain and rules of the redirect are the original's, so that what people look at (``iptables -t nat -S aad-metadata``)
reads as it did, except that pods are sent to the node's own address.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from podidentity.config.errors import ConfigError
from podidentity.nmi.datapath.programs import DatapathFailed, Run, run_program
from podidentity.nmi.datapath.rules import BURST, WIRESERVER_IP, WIRESERVER_PORTS, Datapath, nat64, unlimited
from podidentity.nmi.datapath.xtables import lock_holder, speaks_of_lock
from podidentity.telemetry.logging import Logger, get_logger

GUARD: Final = "guard"
GUARD6: Final = "guard6"
REDIRECT: Final = "redirect"
_WAIT: Final = ("--wait", "5")
"""Seconds to wait for the lock that all iptables programs share."""

_RESET: Final = "-j REJECT --reject-with tcp-reset"
_REFUSING: Final = re.compile(rf"\[(\d+):\d+\] -A aad-agent-port .*{_RESET}")
_CANNOT: Final = re.compile(r"line:? \d+ failed|match|hashlimit|connlimit")
_SOMEBODY: Final = "(several)"
"""Stands for the sources of refused connections: iptables counts them together."""

_CHAINS: Final = (
    ("nat", "PREROUTING", "aad-metadata"),
    ("nat", "OUTPUT", "aad-metadata-own"),
    ("raw", "PREROUTING", "aad-source"),
    ("filter", "INPUT", "aad-agent-port"),
    ("filter", "FORWARD", "aad-guard"),
)
"""Every chain of ours: table, the chain that jumps there, name; in the order of their removal."""

Saved = Mapping[str, Sequence[str]]
"""Rules by table, as ``iptables-save`` prints them."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain of ours and the built-in one whose first rule jumps there."""

    table: str
    parent: str
    name: str
    rules: tuple[str, ...]

    @property
    def jump(self) -> str:
        """The rule that leads here, without its verb."""
        return f"{self.parent} -j {self.name}"


def guard(path: Datapath) -> list[Chain]:
    """Return the first layer: nothing that is forwarded reaches the metadata address."""
    rules = [f"-d {path.metadata_ip}/32 -p tcp {_RESET}", f"-d {path.metadata_ip}/32 -j DROP"]
    if path.block_wireserver:
        ports = ",".join(str(port) for port in WIRESERVER_PORTS)
        rules.append(f"-d {WIRESERVER_IP}/32 -p tcp -m multiport --dports {ports} {_RESET}")
    return [Chain("filter", "FORWARD", "aad-guard", tuple(rules))]


def guard6(path: Datapath) -> list[Chain]:
    """Return the first layer's part in ip6tables: the metadata address behind NAT64."""
    return [Chain("filter", "FORWARD", "aad-guard", (f"-d {nat64(path.metadata_ip)}/128 -j DROP",))]


def six(program: str) -> str:
    """Return the program for IPv6 beside ``program``."""
    return program.replace("iptables", "ip6tables", 1)


def redirect(path: Datapath) -> list[Chain]:
    """Return the second layer, the redirect itself last."""
    ip, port = path.metadata_ip, path.metadata_port
    to = f"-d {ip}/32 -p tcp -m tcp --dport {port}"
    here = f"-p tcp -m tcp --dport {path.port}"
    agent_port = ("-i lo -j RETURN", f"{here} -m conntrack ! --ctorigdst {ip} -j DROP", *_limits(path, here))
    found = [Chain("filter", "INPUT", "aad-agent-port", agent_port)]
    if path.source_check:
        found.append(Chain("raw", "PREROUTING", "aad-source", (f"-d {ip}/32 -m rpfilter --invert -j DROP",)))
    found.append(Chain("nat", "OUTPUT", "aad-metadata-own", (f"{to} -j ACCEPT",)))
    send = f"! -s 127.0.0.1/32 {to} -j DNAT --to-destination {path.target}:{path.port}"
    found.append(Chain("nat", "PREROUTING", "aad-metadata", (send, "-j RETURN")))
    return found


def _limits(path: Datapath, here: str) -> list[str]:
    """Return the rules that refuse a source's new connections beyond its limits: see ``rules``."""
    new, rate = f"{here} -m conntrack --ctstate NEW", path.connection_rate
    by_rate = (
        f"-m hashlimit --hashlimit-above {rate}/sec --hashlimit-burst {BURST} --hashlimit-mode srcip "
        "--hashlimit-name podidentity"
    )
    by_count = f"-m connlimit --connlimit-above {path.connections} --connlimit-mask 32 --connlimit-saddr"
    wanted = ([by_rate] if rate else []) + ([by_count] if path.connections else [])
    return [f"{new} {limit} {_RESET}" for limit in wanted]


def count_refusals(text: str) -> int:
    """Return how many connections the limits have refused, from what ``iptables-save -c`` prints."""
    found = (_REFUSING.match(line) for line in text.splitlines())
    return sum(int(one[1]) for one in found if one)


def parse(text: str) -> Saved:
    """Read what ``iptables-save`` prints."""
    tables: dict[str, list[str]] = {}
    rules: list[str] = []
    for line in text.splitlines():
        if line.startswith("*"):
            rules = tables.setdefault(line[1:].strip(), [])
        elif line.startswith("-A "):
            rules.append(line[3:].strip())
    return tables


def restore(chains: Sequence[Chain], saved: Saved) -> str:
    """Return the text that puts ``chains`` in place of what is there, each table in one transaction."""
    lines = []
    for table in dict.fromkeys(chain.table for chain in chains):
        own = [chain for chain in chains if chain.table == table]
        lines.append(f"*{table}")
        lines += [f":{chain.name} - [0:0]" for chain in own]
        for chain in own:
            lines += [f"-A {chain.name} {rule}" for rule in chain.rules]
            lines += [f"-D {chain.jump}"] * saved.get(table, ()).count(chain.jump)
            lines.append(f"-I {chain.parent} 1 -j {chain.name}")
        lines.append("COMMIT")
    return "\n".join(lines) + "\n"


def remove(saved: Saved, declared: str) -> str:
    """Return the text that removes every chain of ours that ``declared`` (``iptables-save``'s output) has."""
    lines = []
    for table, parent, name in _CHAINS:
        if f":{name} " not in declared:
            continue
        jump = f"{parent} -j {name}"
        lines += [f"*{table}", *[f"-D {jump}"] * saved.get(table, ()).count(jump), f"-F {name}", f"-X {name}", "COMMIT"]
    return "\n".join(lines) + "\n" if lines else ""


def rules_of(chain: Chain, saved: Saved) -> list[str]:
    """Return what is in a chain."""
    return [rule for rule in saved.get(chain.table, ()) if rule.startswith(f"{chain.name} ")]


def leads_there(chain: Chain, saved: Saved) -> bool:
    """Whether the parent's first rule, and only that, jumps to the chain."""
    parent = [rule for rule in saved.get(chain.table, ()) if rule.startswith(f"{chain.parent} ")]
    return parent[:1] == [chain.jump] and parent.count(chain.jump) == 1


class _Tables:
    """Layers (chains by name) kept with one program: of IPv4, or of IPv6."""

    def __init__(
        self, program: str, layers: Mapping[str, Sequence[Chain]], run: Run, lock_holder: Callable[[], str]
    ) -> None:
        self._program = program
        self._layers = layers
        self._run = run
        self._lock_holder = lock_holder
        self._listed: dict[str, list[list[str]]] = {}

    async def install(self, layer: str) -> None:
        """Put one layer in place. Raises DatapathFailed."""
        await self._install(layer, await self.save())

    async def changed(self) -> list[str]:
        """Return the layers that are not as we left them."""
        return self._changed(await self.save()) if self._listed else []

    async def repair(self) -> list[str]:
        """Put back what :meth:`changed` finds; returns the names of the layers."""
        if not self._listed:
            return []
        saved = await self.save()
        found = self._changed(saved)
        for layer in found:
            await self._install(layer, saved)
        return found

    async def save(self) -> Saved:
        """Return what is there."""
        return parse(await self._run((f"{self._program}-save",), ""))

    async def count_refusals(self) -> int:
        """Return how many connections the limits have refused."""
        return count_refusals(await self._run((f"{self._program}-save", "-c", "-t", "filter"), ""))

    def _changed(self, saved: Saved) -> list[str]:
        return [layer for layer in self._listed if not self._in_place(layer, saved)]

    def _in_place(self, layer: str, saved: Saved) -> bool:
        chains = self._layers[layer]
        listed = [rules_of(chain, saved) for chain in chains]
        return listed == self._listed[layer] and all(leads_there(chain, saved) for chain in chains)

    async def _install(self, layer: str, saved: Saved) -> None:
        chains = self._layers[layer]
        try:
            await self._run((f"{self._program}-restore", "--noflush", *_WAIT), restore(chains, saved))
        except DatapathFailed as failed:
            if not speaks_of_lock(str(failed)):
                raise
            raise DatapathFailed(f"{_WAIT[1]} s were not enough: {self._lock_holder()}") from failed
        now = await self.save()
        listed = [rules_of(chain, now) for chain in chains]
        for chain, rules in zip(chains, listed, strict=True):
            if len(rules) != len(chain.rules) or not leads_there(chain, now):
                raise DatapathFailed(f"chain {chain.name} is not as it must be right after it was installed")
        self._listed[layer] = listed


class Iptables:
    """The chains of one node. ``program``: ``iptables``, ``iptables-nft`` or ``iptables-legacy``.

    ``sees_bridges``: bridged packets are shown to iptables. ``ipv6``: the node has it; ip6tables guards too.
    """

    def __init__(
        self,
        path: Datapath,
        *,
        program: str,
        sees_bridges: bool,
        ipv6: bool = False,
        run: Run = run_program,
        lock_holder: Callable[[], str] = lock_holder,
        log: Logger | None = None,
    ) -> None:
        self._path = path
        self._layers = {GUARD: guard(path), REDIRECT: redirect(path)}
        self._four = _Tables(program, self._layers, run, lock_holder)
        self._six = _Tables(six(program), {GUARD6: guard6(path)}, run, lock_holder) if ipv6 else None
        self._sees_bridges = sees_bridges
        self._log = log or get_logger()

    async def install_guard(self) -> str:
        """Install the first layer. Returns what it does not guard, or ``""``. Raises DatapathFailed.

        A node whose ip6tables does not work has the guard for IPv4 all the same.
        """
        await self._four.install(GUARD)
        if self._six is not None:
            try:
                await self._six.install(GUARD6)
            except (DatapathFailed, ConfigError) as failed:
                self._log.warning("the NAT64 form of the metadata address is not guarded", error=str(failed))
        return "" if self._sees_bridges else "iptables is not shown what a bridge carries (bridge-nf-call-iptables)"

    async def install_redirect(self) -> None:
        """Install the second layer; the guard must be there. Raises DatapathFailed.

        A kernel that cannot count connections costs the limits, not the redirect.
        """
        try:
            await self._four.install(REDIRECT)
        except DatapathFailed as failed:
            if not _CANNOT.search(str(failed)):
                raise
            self._layers[REDIRECT] = redirect(unlimited(self._path))
            await self._four.install(REDIRECT)
            self._log.warning("one pod's connections are not limited: this kernel cannot", error=str(failed))

    async def changed(self) -> list[str]:
        """Return the layers that are not as we left them."""
        return [layer for tables in self._both() for layer in await tables.changed()]

    async def repair(self) -> list[str]:
        """Put back what :meth:`changed` finds; returns the names of the layers."""
        return [layer for tables in self._both() for layer in await tables.repair()]

    async def refusals(self) -> Mapping[str, int]:
        """Return the connections refused for a limit since the redirect was installed or put back."""
        refused = await self._four.count_refusals()
        return {_SOMEBODY: refused} if refused else {}

    def _both(self) -> list[_Tables]:
        return [self._four] if self._six is None else [self._four, self._six]


async def installed(program: str, run: Run = run_program) -> bool:
    """Whether any chain of ours, or of the original, is there. Raises DatapathFailed."""
    declared = await run((f"{program}-save",), "") + await _saved6(program, run)
    return any(f":{name} " in declared for _, _, name in _CHAINS)


async def uninstall(program: str, run: Run = run_program) -> None:
    """Remove our chains, and those of the same names that the original left, the guard last. Raises DatapathFailed."""
    for name, declared in (
        (program, await run((f"{program}-save",), "")),
        (six(program), await _saved6(program, run)),
    ):
        text = remove(parse(declared), declared)
        if text:
            await run((f"{name}-restore", "--noflush", *_WAIT), text)


async def _saved6(program: str, run: Run) -> str:
    """Return what ip6tables has; nothing where it does not work."""
    try:
        return await run((f"{six(program)}-save",), "")
    except (DatapathFailed, ConfigError):
        return ""
