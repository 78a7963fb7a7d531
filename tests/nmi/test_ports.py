"""The CNI's records, read; and who keeps the bridge's table in step with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from podidentity.config.errors import ConfigError
from podidentity.config.nmi import nmi_settings
from podidentity.nmi.app import run
from podidentity.nmi.datapath import kubenet
from podidentity.nmi.datapath.ported import Ported
from podidentity.nmi.datapath.ports import Port, RecordsUnread, read_ports, table_of
from podidentity.nmi.datapath.programs import DatapathFailed
from podidentity.telemetry.logging import get_logger

MAC = "0A:58:0A:F4:00:07"


def result(veth: str = "veth1234", address: str = "10.244.0.7/24") -> dict[str, object]:
    """Return what the bridge plugin with host-local answers to ADD, as libcni records it."""
    return {
        "cniVersion": "1.0.0",
        "interfaces": [
            {"name": "cbr0", "mac": "0a:58:0a:f4:00:01"},
            {"name": veth, "mac": "02:00:00:00:00:01"},
            {"name": "eth0", "mac": MAC, "sandbox": "/var/run/netns/cni-1"},
        ],
        "ips": [
            {"interface": 2, "address": address, "gateway": "10.244.0.1"},
            {"interface": 2, "address": "fd00::7/64"},
        ],
    }


def bridge_ports(sys: Path, *names: str) -> Path:
    """Make a /sys with ports of a bridge."""
    for name in names:
        (sys / "class" / "net" / name / "brport").mkdir(parents=True)
    return sys


def test_records_become_ports(tmp_path: Path) -> None:
    """Both forms of a record are read; a port that is gone, as after a reboot, and the bridge itself are left out."""
    sys, folder = bridge_ports(tmp_path / "sys", "veth1234", "veth5678"), tmp_path / "results"
    folder.mkdir()
    cached = {"kind": "cniCacheV1", "containerId": "a", "config": "e30=", "ifName": "eth0", "result": result()}
    (folder / "kubenet-a-eth0").write_text(json.dumps(cached))
    (folder / "kubenet-b-eth0").write_text(json.dumps(result("veth5678", "10.244.0.8/24")))
    (folder / "kubenet-c-eth0").write_text(json.dumps(result("veth9999", "10.244.0.9/24")))
    (folder / "lo").write_text(json.dumps({"ips": [{"address": "127.0.0.1/8"}]}))
    assert read_ports(folder, sys) == {
        Port("veth1234", "10.244.0.7", MAC.lower(), "10.244.0.1"),
        Port("veth5678", "10.244.0.8", MAC.lower(), "10.244.0.1"),
    }


@pytest.mark.parametrize("text", ["", '{"kind":"cniCac', '{"ips":[{"address":"somewhere"}]}', '{"ips":7}'])
def test_record_that_cannot_be_read_is_said(tmp_path: Path, text: str) -> None:
    """A record in the middle of being written changes nothing yet; nor does a folder that is missing."""
    (tmp_path / "kubenet-a-eth0").write_text(text)
    with pytest.raises(RecordsUnread, match="kubenet-a-eth0"):
        read_ports(tmp_path, tmp_path)
    with pytest.raises(RecordsUnread, match="none: No such file"):
        read_ports(tmp_path / "none", tmp_path)


def test_table_without_pods_lets_nobody_through() -> None:
    """An empty set is a set: nothing is let through to the metadata address."""
    text = table_of((), "169.254.169.254")
    assert "set pods { type ifname . ipv4_addr; }" in text
    assert "iifname . ip saddr != @pods counter drop" in text


class Switch:
    """Remembers what it was given; refuses so many times."""

    def __init__(self, refusals: int = 0) -> None:
        self.given: list[frozenset[Port]] = []
        self.refusals = refusals

    async def install_ports(self, ports: frozenset[Port]) -> None:
        """Take them, or refuse."""
        if self.refusals:
            self.refusals -= 1
            raise DatapathFailed("no bridge filter")
        self.given.append(ports)


async def test_table_follows_the_records(tmp_path: Path) -> None:
    """New records are taken up, half-written ones when they are whole, equal ones once; trouble is told until then."""
    sys, folder, switch = bridge_ports(tmp_path / "sys", "veth1234"), tmp_path / "results", Switch(refusals=1)
    ported = Ported(switch, folder, get_logger(), sys=sys, pause=0.01)
    await ported.look()
    assert "No such file" in ported.trouble
    folder.mkdir()
    await ported.look()
    assert ported.trouble == "datapath: bridge ports: no bridge filter"
    await ported.install()
    assert (switch.given, ported.trouble) == ([frozenset()], "")
    (folder / "a").write_text('{"kind"')
    await ported.look()
    assert "a: " in ported.trouble
    (folder / "a").write_text(json.dumps(result()))
    await ported.look()
    await ported.look()
    assert ([len(ports) for ports in switch.given], ported.trouble) == ([0, 1], "")


async def test_flag_makes_kubenet_safe_and_needs_nft(tmp_path: Path) -> None:
    """With the records nothing else has to be allowed; with iptables the flag is refused, not ignored."""
    kubelet = tmp_path / "kubelet"
    kubelet.write_text(kubenet.FLAG)
    assert kubenet.check(str(kubelet), allowed=False, ports_checked=True, sys=tmp_path, cni=tmp_path) == ""
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "config").write_text(json.dumps(config))
    flags = ["--node=n", "--datapath=iptables", "--cni-results=/x", f"--kubelet-config={kubelet}"]
    with pytest.raises(ConfigError, match="--cni-results needs nft"):
        await run(nmi_settings(flags, {"HOST_IP": "10.0.0.4", "KUBECONFIG": str(tmp_path / "config")}))
