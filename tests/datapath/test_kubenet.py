"""A shared bridge, in namespaces: what is open there, and what the CNI's records close."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.datapath.conftest import Net, ip
from tests.datapath.test_whole_agent import TOKEN, agent, get, until_ready, world_of

from podidentity.nmi.datapath.rules import PORTS

pytestmark = pytest.mark.datapath
THIEF_IP = "10.244.0.8"
ASK = """
import http.client, sys
connection = http.client.HTTPConnection("169.254.169.254", timeout=int(sys.argv[2]), source_address=(sys.argv[1], 0))
try:
    connection.request("GET", "/metadata/identity/oauth2/token?resource=r", headers={"Metadata": "true"})
    answer = connection.getresponse()
    print(answer.status, answer.reason)
except OSError as error: print(type(error).__name__)
finally: connection.close()
"""
LISTED = "import subprocess; print(subprocess.check_output(['nft', 'list', 'tables'], text=True))"
FORGE = """
import socket, struct, sys
device, source, address = sys.argv[1], bytes.fromhex(sys.argv[2].replace(":", "")), socket.inet_aton(sys.argv[3])
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind((device, 0))
claim = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + source + address + bytes(6) + socket.inet_aton("10.244.0.1")
for _ in range(3):
    wire.send(bytes([255] * 6) + source + b"\\x08\\x06" + claim)
"""
"""Says by ARP, in frames from a hardware address, that an IP address is here."""


class Bridge:
    """A node with kubenet's bridge, the pod, a second pod that is hostile, and the CNI's records of both."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.thief = f"{net.tag}thief"
        self.records = net.folder / "results"
        self.records.mkdir()
        ip("netns", "add", self.thief)
        net._veth(self.thief, "eth0", net.node, "veth1")
        ip("-n", net.node, "link", "set", "veth1", "master", "cbr0")
        ip("-n", self.thief, "addr", "add", f"{THIEF_IP}/24", "dev", "eth0")
        ip("-n", self.thief, "route", "add", "default", "via", "10.244.0.1")

    def record(self, port: str, namespace: str, address: str) -> None:
        """Record a pod as libcni does."""
        interfaces = [
            {"name": "cbr0"},
            {"name": port},
            {"name": "eth0", "mac": self.mac(namespace), "sandbox": f"/run/netns/{namespace}"},
        ]
        ips = [{"interface": 2, "address": f"{address}/24", "gateway": "10.244.0.1"}]
        result = {"cniVersion": "0.4.0", "interfaces": interfaces, "ips": ips}
        (self.records / f"kubenet-{port}-eth0").write_text(json.dumps({"kind": "cniCacheV1", "result": result}))

    def mac(self, namespace: str) -> str:
        """Return the hardware address of a pod."""
        return self.net.run(namespace, "print(open('/sys/class/net/eth0/address').read())")

    def neighbour(self) -> str:
        """Return what the node takes for the pod's hardware address."""
        return self.words("neigh", "show", self.net.pod_ip)

    def port_of(self, mac: str) -> str:
        """Return the port the bridge sends frames for ``mac`` to."""
        return next((line for line in self.words("fdb", program="bridge").splitlines() if line.startswith(mac)), "")

    def words(self, *args: str, program: str = "ip") -> str:
        """Ask the node."""
        return subprocess.check_output([program, "-n", self.net.node, *args], text=True)

    def close(self) -> None:
        """Remove everything."""
        self.net.close()
        ip("netns", "del", self.thief)


@pytest.fixture
def bridge(capable: None, tmp_path: Path) -> Iterator[Bridge]:
    """Return the node; nothing is installed."""
    found = Bridge(world_of("bridge", tmp_path))
    try:
        yield found
    finally:
        found.close()


def test_a_pod_cannot_be_another_on_the_bridge(bridge: Bridge) -> None:
    """Without the records a pod gets another's token; with them neither its address, its ARP nor its frames pass."""
    net, thief = bridge.net, bridge.thief
    allowed = agent(net, "--allow-network-plugin-kubenet=true")
    checked = None
    try:
        until_ready(net)
        assert get(net, net.pod, TOKEN, "Metadata=true")[0] == 200
        ip("-n", thief, "addr", "add", f"{net.pod_ip}/32", "dev", "eth0")
        net.run(thief, FORGE, "eth0", bridge.mac(thief), net.pod_ip)
        assert bridge.mac(thief) in bridge.neighbour(), "the danger must be there"
        assert "200 OK" in net.run(thief, ASK, net.pod_ip, "10"), "the danger must be there"
        net.run(thief, FORGE, "eth0", bridge.mac(net.pod), THIEF_IP)
        assert "dev veth1" in bridge.port_of(bridge.mac(net.pod)), "the danger must be there"
        allowed.terminate()
        allowed.wait(10)
        ip("-n", net.node, "neigh", "flush", "all")
        bridge.record("veth1", thief, THIEF_IP)
        checked = agent(net, f"--cni-results={bridge.records}")
        until_ready(net)
        assert get(net, net.pod, TOKEN, "Metadata=true")[0] == 0, "no record yet"
        bridge.record("veth0", net.pod, net.pod_ip)
        until(net, lambda: get(net, net.pod, TOKEN, "Metadata=true")[0] == 200)
        net.run(thief, FORGE, "eth0", bridge.mac(thief), net.pod_ip)
        net.run(thief, FORGE, "eth0", bridge.mac(net.pod), THIEF_IP)
        assert bridge.mac(net.pod) in bridge.neighbour()
        assert "dev veth0" in bridge.port_of(bridge.mac(net.pod))
        assert net.run(thief, ASK, net.pod_ip, "1") == "TimeoutError"
        assert "503" in net.run(thief, ASK, THIEF_IP, "15"), "as itself it is answered: it is no pod nmi knows"
        assert get(net, net.pod, TOKEN, "Metadata=true")[0] == 200
        subprocess.run(["ip", "netns", "exec", net.node, "nft", "delete", "table", *PORTS.split()], check=True)
        until(net, lambda: "podidentity_ports" in net.run(net.node, LISTED))
    finally:
        for process in (allowed, checked):
            if process is not None:
                process.terminate()
                process.wait(10)


def until(net: Net, condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, (net.folder / "agent.err").read_text()
