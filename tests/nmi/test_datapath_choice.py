"""Which tool keeps the datapath, and iptables' texts as far as no kernel is needed for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from podidentity.config.errors import ConfigError, UsageError
from podidentity.config.nmi import nmi_settings
from podidentity.nmi.datapath.bridged import iptables_sees_bridges
from podidentity.nmi.datapath.choice import Which, choose, tools
from podidentity.nmi.datapath.iptables import Chain, Iptables, guard, leads_there, parse, redirect, restore
from podidentity.nmi.datapath.iptables import installed as has_any
from podidentity.nmi.datapath.nft import Nft
from podidentity.nmi.datapath.programs import DatapathFailed
from podidentity.nmi.datapath.rules import Datapath, unlimited

PATH = Datapath(target="10.240.0.4")


def installed(*programs: str) -> Which:
    """Return a ``which`` that knows these programs."""
    return lambda name: f"/usr/sbin/{name}" if name in programs else None


@pytest.mark.parametrize(
    ("wanted", "there", "name", "told"),
    [
        ("auto", ("nft", "iptables"), "nft", True),
        ("auto", ("iptables",), "iptables", True),
        ("auto", (), "nft", True),
        ("iptables-nft", ("nft", "iptables-nft"), "iptables-nft", True),
        ("iptables-legacy", ("nft", "iptables-legacy"), "iptables-legacy", False),
    ],
)
def test_tool_is_chosen(wanted: str, there: tuple[str, ...], name: str, told: bool) -> None:
    """Nft where it is, else iptables; of legacy iptables nobody tells, so it is polled."""
    choice = choose(wanted, PATH, which=installed(*there))
    assert (choice.name, bool(choice.words)) == (name, told)
    assert isinstance(choice.backend, Nft if name == "nft" else Iptables)


def test_uninstalling_needs_a_tool() -> None:
    """Where neither tool is installed nothing can have been put in place, and that is said."""
    with pytest.raises(ConfigError, match="neither nft nor iptables"):
        tools(which=installed())
    with pytest.raises(UsageError, match="--datapath"):
        nmi_settings(["--node=n", "--datapath=ebpf"], {})
    assert len(tools(which=installed("nft", "iptables", "iptables-nft", "iptables-legacy"))) == 3
    assert len(tools(which=installed("iptables"))) == 1


def test_jump_is_moved_to_the_front_and_never_doubled() -> None:
    """Whatever was jumped to from, in one transaction a table, and once: others' rules are not named."""
    saved = parse("*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j KUBE\n-A PREROUTING -j aad-metadata\nCOMMIT\n")
    text = restore(redirect(PATH), saved)
    assert text.count("-D PREROUTING -j aad-metadata\n-I PREROUTING 1 -j aad-metadata\n") == 1
    assert text.count("*nat") == text.count("*filter") == text.count("*raw") == 1
    assert text.index("*nat") > text.index("*filter"), "nothing is redirected before the agent's port is closed"
    assert "KUBE" not in text
    chain = Chain("nat", "PREROUTING", "aad-metadata", ())
    assert not leads_there(chain, saved)
    assert leads_there(chain, {"nat": ["PREROUTING -j aad-metadata", "PREROUTING -j KUBE"]})
    assert not leads_there(chain, {"nat": ["PREROUTING -j aad-metadata"] * 2})


def test_flags_reach_the_rules() -> None:
    """WireServer and the source check are left out when asked for."""
    plain = Datapath(target="10.240.0.4", source_check=False, block_wireserver=False)
    assert len(guard(PATH)[0].rules) - len(guard(plain)[0].rules) == 1
    assert [chain.name for chain in redirect(plain)] == ["aad-agent-port", "aad-metadata-own", "aad-metadata"]


async def test_chain_that_is_not_there_after_all_is_told() -> None:
    """A program that succeeds and does nothing does not make the agent ready."""

    async def idle(command: tuple[str, ...], text: str) -> str:
        del command, text
        return ""

    with pytest.raises(DatapathFailed, match="aad-guard is not as it must be"):
        await Iptables(PATH, program="iptables", sees_bridges=False, run=idle).install_guard()


async def test_node_without_ip6tables_is_guarded_all_the_same() -> None:
    """A kernel without IPv6 tables costs a warning, not the guard; uninstalling does not ask for what is not there."""
    asked: list[str] = []

    async def four_only(command: tuple[str, ...], text: str) -> str:
        asked.append(command[0])
        if command[0].startswith("ip6tables"):
            raise DatapathFailed("ip6tables: can't initialize table filter")
        if text:
            return ""
        return "*filter\n-A FORWARD -j aad-guard\n" + "".join(f"-A aad-guard {rule}\n" for rule in guard(PATH)[0].rules)

    tables = Iptables(PATH, program="iptables", sees_bridges=True, ipv6=True, run=four_only)
    assert await tables.install_guard() == ""
    assert await tables.repair() == []
    assert "ip6tables-save" in asked
    assert not await has_any("iptables", four_only)


async def test_kernel_without_the_matches_costs_the_limits_only() -> None:
    """Where iptables knows no hashlimit the redirect is installed without it; a busy lock changes nothing."""
    texts: list[str] = []
    refusal = "iptables-restore v1.8.9: Couldn't load match `hashlimit': No such file or directory"

    async def without(command: tuple[str, ...], text: str) -> str:
        if "hashlimit" in text:
            raise DatapathFailed(refusal)
        texts.append(text)
        chains = redirect(unlimited(PATH))
        jumps = "".join(f"*{one.table}\n-A {one.jump}\n" for one in chains)
        rules = "".join(f"*{one.table}\n-A {one.name} {rule}\n" for one in chains for rule in one.rules)
        return "" if text else jumps + rules

    await Iptables(PATH, program="iptables", sees_bridges=True, run=without).install_redirect()
    assert "DNAT" in texts[-2]
    refusal = "Another app is currently holding the xtables lock. Stopped waiting after 5s."
    with pytest.raises(DatapathFailed, match="held by nobody"):
        await Iptables(
            PATH, program="iptables", sees_bridges=True, run=without, lock_holder=lambda: "held by nobody"
        ).install_redirect()


def test_bridges_are_seen_or_not(tmp_path: Path) -> None:
    """Iptables guards a bridge only where the kernel shows it what the bridge carries."""
    assert not iptables_sees_bridges(tmp_path)
    switch = tmp_path / "sys" / "net" / "bridge" / "bridge-nf-call-iptables"
    switch.parent.mkdir(parents=True)
    for text, seen in (("0\n", False), ("1\n", True)):
        switch.write_text(text)
        assert iptables_sees_bridges(tmp_path) is seen
