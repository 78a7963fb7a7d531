"""The datapath's keeper against an nft in memory, and the small decisions around it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from podidentity.config.errors import ConfigError
from podidentity.nmi.datapath import kubenet
from podidentity.nmi.datapath.address import bind, listen_addresses, node_address, usable
from podidentity.nmi.datapath.bridged import bridged_uplink
from podidentity.nmi.datapath.conntrack import ConntrackFailed
from podidentity.nmi.datapath.keeper import Keeper
from podidentity.nmi.datapath.nft import Nft, uninstall
from podidentity.nmi.datapath.programs import DatapathFailed
from podidentity.nmi.datapath.rules import BRIDGE, GUARD, PORTS, REDIRECT, Datapath, guard, nat64, redirect
from podidentity.telemetry.logging import get_logger

PATH = Datapath(target="10.240.0.4")


class FakeNft:
    """Keeps tables as the texts they were installed with; refuses what ``broken`` says, so many times."""

    def __init__(self, **broken: int) -> None:
        self.tables: dict[str, str] = {}
        self.broken = broken
        self.order: list[str] = []

    async def __call__(self, args: tuple[str, ...], text: str) -> str:
        """Do what nft would."""
        if "list" in args:
            table = " ".join(args[-2:])
            if table not in self.tables:
                raise DatapathFailed("No such file or directory")
            return self.tables[table]
        lines = text.splitlines()
        table = lines[0].removeprefix("table ").removesuffix(" {}")
        kind = {GUARD: "guard", BRIDGE: "bridge", PORTS: "ports", REDIRECT: "redirect"}[table]
        if self.broken.get(kind, 0) > 0:
            self.broken[kind] -= 1
            raise DatapathFailed(f"{kind} is broken")
        removed = len(lines) == 2
        self.order.append(f"-{kind}" if removed else kind)
        self.tables.pop(table, None)
        if not removed:
            self.tables[table] = "\n".join(lines[2:])
        return ""


@pytest.mark.looptime
async def test_d21_guard_comes_first_and_failures_are_tried_again() -> None:
    """The redirect is never in place without the guard; a busy nft delays the start and ends nothing."""
    nft = FakeNft(guard=2, redirect=1)
    keeper = Keeper(Nft(PATH, run=nft), interval=60, log=get_logger())
    await keeper.guard()
    assert (keeper.active, bool(keeper.trouble)) == (False, True)
    await keeper.redirect()
    assert nft.order == ["guard", "bridge", "redirect"]
    assert (keeper.active, keeper.trouble) == (True, "")


@pytest.mark.looptime
async def test_keeper_repairs_within_an_interval_and_says_when_it_cannot() -> None:
    """A vanished table is back after the next look; while nft refuses, the agent is not ready."""
    nft = FakeNft()
    keeper = Keeper(Nft(PATH, run=nft), interval=60, log=get_logger())
    await keeper.guard()
    await keeper.redirect()
    running = asyncio.ensure_future(keeper.run())
    del nft.tables[GUARD]
    await asyncio.sleep(61)
    assert GUARD in nft.tables
    del nft.tables[REDIRECT]
    nft.broken["redirect"] = 1
    await asyncio.sleep(60)
    assert "redirect is broken" in keeper.trouble
    await asyncio.sleep(5)
    assert (REDIRECT in nft.tables, keeper.trouble) == (True, "")
    running.cancel()


class FakeChanges:
    """Tells of a change when a test says so."""

    def __init__(self) -> None:
        self.news = asyncio.Event()

    async def wait(self) -> None:
        """Wait for the test."""
        await self.news.wait()
        self.news.clear()


@pytest.mark.looptime
async def test_d22_change_is_repaired_when_it_is_heard_of_and_old_connections_forgotten() -> None:
    """Nobody waits for the interval; tracked connections are deleted at the start and within 10 s of a change."""
    nft, changes, calls = FakeNft(), FakeChanges(), []

    async def forget() -> int:
        calls.append(asyncio.get_running_loop().time())
        if len(calls) > 1:
            raise ConntrackFailed("Operation not permitted")
        return 1

    keeper = Keeper(Nft(PATH, run=nft), interval=600, log=get_logger(), changes=changes, forget=forget)
    await keeper.guard()
    await keeper.redirect()
    running = asyncio.ensure_future(keeper.run())
    await asyncio.sleep(0.1)
    assert len(calls) == 1
    del nft.tables[REDIRECT]
    changes.news.set()
    await asyncio.sleep(0.1)
    assert (REDIRECT in nft.tables, keeper.repairs, len(calls)) == (True, 1, 1)
    changes.news.set()
    await asyncio.sleep(11)
    assert (keeper.repairs, len(calls), keeper.trouble) == (1, 2, "")
    running.cancel()


@pytest.mark.looptime
async def test_d20_a_change_amid_a_repair_is_repaired_too() -> None:
    """Whoever deletes the redirect while the guard is being put back is heard: no notice is dropped."""
    nft, changes = FakeNft(), FakeChanges()

    async def amid(args: tuple[str, ...], text: str) -> str:
        answer = await nft(args, text)
        if nft.order[3:] == ["guard"] and "list" in args and REDIRECT in nft.tables:
            del nft.tables[REDIRECT]
            changes.news.set()
        return answer

    keeper = Keeper(Nft(PATH, run=amid), interval=600, log=get_logger(), changes=changes)
    await keeper.guard()
    await keeper.redirect()
    running = asyncio.ensure_future(keeper.run())
    del nft.tables[GUARD]
    changes.news.set()
    await asyncio.sleep(1)
    assert set(nft.tables) == {GUARD, BRIDGE, REDIRECT}
    assert keeper.repairs == 2
    running.cancel()


async def test_bridged_uplink_without_bridge_filter_is_not_ready() -> None:
    """Where pods could pass the node's IP layer and nothing can stop them, the agent says so and is not ready."""
    for uplink, trouble in (("", ""), ("azure0", "datapath: pods pass azure0, a bridged uplink, unguarded: ")):
        keeper = Keeper(Nft(PATH, run=FakeNft(bridge=99)), interval=60, log=get_logger(), uplink=uplink)
        await keeper.guard()
        await keeper.redirect()
        assert keeper.trouble == (f"{trouble}bridge is broken" if trouble else "")


def test_bridged_uplink_is_found(tmp_path: Path) -> None:
    """The default route's interface counts, as a bridge or as a port of one; kubenet's own bridge does not."""
    route = tmp_path / "net" / "route"
    route.parent.mkdir()
    head = "Iface\tDestination\tGateway\n"
    for name, kind in (("azure0", "bridge"), ("cbr0", "bridge"), ("eth1", "brport"), ("eth0", "")):
        (tmp_path / "class" / "net" / name / kind).mkdir(parents=True)
    assert bridged_uplink(tmp_path, tmp_path) == ""
    for rows, expected in (
        ("eth0\t00000000\t0\ncbr0\t0000F40A\t0\n", ""),
        ("azure0\t00000000\t0\n", "azure0"),
        ("eth1\t00000000\t0\n", "eth1"),
    ):
        route.write_text(head + rows)
        assert bridged_uplink(tmp_path, tmp_path) == expected


async def test_kernel_that_cannot_count_connections_costs_the_limits_only() -> None:
    """Without the kernel's part for it the redirect is in place, unlimited; another refusal is a refusal."""
    nft = FakeNft()

    async def old_kernel(args: tuple[str, ...], text: str) -> str:
        if "ct count" in text:
            raise DatapathFailed("Error: Could not process rule: No such file or directory")
        return await nft(args, text)

    tables = Nft(PATH, run=old_kernel)
    await tables.install_guard()
    await tables.install_redirect()
    assert "newcomers" not in nft.tables[REDIRECT]
    assert await tables.refusals() == {}
    del nft.tables[REDIRECT]
    assert await tables.repair() == [REDIRECT]
    with pytest.raises(DatapathFailed, match="redirect is broken"):
        await Nft(PATH, run=FakeNft(redirect=1)).install_redirect()


async def test_kernel_without_bridge_filter_is_a_warning() -> None:
    """Where there is no bridge filter the rest is installed, checked and removed all the same."""
    nft = FakeNft(bridge=99)
    tables = Nft(PATH, run=nft)
    assert await tables.install_guard() == "bridge is broken"
    await tables.install_redirect()
    assert await tables.changed() == []
    await uninstall(nft)
    assert nft.order[-3:] == ["-redirect", "-ports", "-guard"]


def test_d23_pods_are_never_sent_to_loopback() -> None:
    """A target that would need route_localnet, or is no address, is refused; no rule mentions one."""
    for target in ("127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "fd00::1", "host"):
        with pytest.raises(ValueError, match=r"."):
            Datapath(target=target)
    assert "127." not in guard(PATH) + redirect(PATH)
    assert nat64("169.254.169.254") == "64:ff9b::a9fe:a9fe"


def test_source_check_can_be_left_out() -> None:
    """--source-check=off leaves the reverse path chain out and nothing else."""
    assert "reverse_path" in redirect(PATH)
    without = redirect(Datapath(target="10.240.0.4", source_check=False))
    assert "reverse_path" not in without
    assert "agent_port" in without


@pytest.mark.parametrize(
    ("listen", "host_ip", "expected"),
    [
        ("10.0.0.4", "10.0.0.5", "10.0.0.4"),
        ("", "10.0.0.5", "10.0.0.5"),
        ("127.0.0.1", "10.0.0.5", "10.0.0.5"),
        ("localhost", "10.0.0.5", "10.0.0.5"),
        ("0.0.0.0", "10.0.0.5", "10.0.0.5"),
        ("", "", None),
        ("", "fd00::1", None),
    ],
)
def test_address_of_the_node(listen: str, host_ip: str, expected: str | None) -> None:
    """A listen address pods can reach wins, then HOST_IP; a route through loopback is refused, not used."""
    if expected is not None:
        assert node_address(listen, host_ip, "169.254.169.254", 80) == expected
        return
    with pytest.raises(ConfigError, match="set HOST_IP"):
        node_address(listen, host_ip, "127.0.0.1", 80)


def test_both_listeners() -> None:
    """The agent listens on the node's address and on loopback, or on exactly the address it is told."""
    for unsaid in ("", "127.0.0.1", "localhost"):
        assert listen_addresses(unsaid, "10.0.0.4") == ["10.0.0.4", "127.0.0.1", "::1"]
    for said in ("0.0.0.0", "10.0.0.4", "::"):
        assert listen_addresses(said, "10.0.0.4") == [said]
    assert not usable("")


def test_busy_port_names_the_address() -> None:
    """A port in use is told in one line, and the sockets bound before it are closed."""
    (first,) = bind(["127.0.0.1"], 0)
    port = first.getsockname()[1]
    with pytest.raises(ConfigError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"):
        bind(["127.0.0.9", "127.0.0.1"], port)
    first.close()


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A node with neither kubenet's bridge nor a CNI configuration."""
    return tmp_path / "bare"


def test_d32_kubenet_file(tmp_path: Path, bare: Path) -> None:
    """The flag in the file stops the start and says what to do; no file, or one without it, does not."""
    file = tmp_path / "kubelet"
    assert "cannot be read" in kubenet.check(str(file), allowed=False, sys=bare, cni=bare)
    file.write_text("KUBELET_FLAGS=--network-plugin=cni")
    assert kubenet.check(str(file), allowed=False, sys=bare, cni=bare) == ""
    file.write_text("KUBELET_FLAGS=--network-plugin=kubenet")
    with pytest.raises(ConfigError, match="AAD Pod Identity is not supported for Kubenet") as refused:
        kubenet.check(str(file), allowed=False, sys=bare, cni=bare)
    assert str(refused.value).startswith(kubenet.NOT_SUPPORTED)
    assert f"Found: {file} has --network-plugin=kubenet. What to do: --cni-results=" in str(refused.value)
    assert "another's address" in kubenet.check(str(file), allowed=True, sys=bare, cni=bare)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"name":"kubenet","plugins":[{"type":"bridge","bridge":"cbr0"},{"type":"portmap"}]}', True),
        ('{"name":"net","type":"bridge"}', True),
        ('{"name":"azure","plugins":[{"type":"azure-vnet","mode":"transparent"}]}', False),
        ("{", False),
    ],
)
def test_d32_kubenet_is_told_by_what_is_there(tmp_path: Path, bare: Path, text: str, found: bool) -> None:
    """Nodes of today write no flag: the network the runtime uses (the first file) tells, and kubenet's bridge does."""
    cni = tmp_path / "net.d"
    cni.mkdir()
    (cni / "10-first.conflist").write_text(text)
    (cni / "20-second.conflist").write_text('{"type":"bridge"}')
    if found:
        with pytest.raises(ConfigError, match="uses the bridge plugin"):
            kubenet.check("/dev/null", allowed=False, sys=bare, cni=cni)
    else:
        assert kubenet.check("/dev/null", allowed=False, sys=bare, cni=cni) == ""
    (tmp_path / "class" / "net" / "cbr0" / "bridge").mkdir(parents=True)
    with pytest.raises(ConfigError, match="there is a bridge cbr0"):
        kubenet.check("/dev/null", allowed=False, sys=tmp_path, cni=bare)
