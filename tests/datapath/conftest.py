"""A node, a pod and a stand-in metadata service in network namespaces of their own, with no route out."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from podidentity.nmi.datapath.programs import DatapathFailed

IMDS = "169.254.169.254"
NODE_IP = "10.240.0.4"
_NUMBERS = itertools.count()

SERVER = """
import socket, sys
name, address, port, path = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
import threading
family = socket.AF_INET6 if ":" in address else socket.AF_INET
listener = socket.create_server((address, port), backlog=64, family=family)
def serve(connection, peer):
    with connection:
        while connection.recv(4096):
            with open(path, "a") as log: log.write(peer[0] + "\\n")
            connection.sendall(f"{name} {peer[0]}\\n".encode())
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=listener.accept(), daemon=True).start()
"""

CLIENT = """
import socket, sys
source = (sys.argv[3], 0) if len(sys.argv) > 3 else None
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=0.4, source_address=source) as connection:
        connection.sendall(b"hello\\n")
        print(connection.recv(4096).decode().strip() or "closed")
except TimeoutError:
    print("timeout")
except ConnectionError as error:
    print(type(error).__name__)
except OSError as error:
    print("OSError", error.errno)
"""

KEPT = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=0.4)
for line in sys.stdin:
    try:
        connection.sendall(line.encode())
        print(connection.recv(4096).decode().strip() or "closed", flush=True)
    except TimeoutError:
        print("timeout", flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
"""


def ip(*args: str) -> None:
    """Run iproute2."""
    subprocess.run(["ip", *args], check=True, capture_output=True)


def say_on(process: subprocess.Popen[str]) -> str:
    """Send a line on a ``KEPT`` connection and return the answer or the error's name."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("hello\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


class Net:
    """Three namespaces.

    ``routed``: the pod has a /32 and a veth of its own; ``bridge``: a gateway on a bridge of the node; ``uplink``: the
    bridge has the node's uplink as a port, and the pod is in the fabric's own subnet.
    """

    def __init__(self, variant: str, folder: Path) -> None:
        self.variant = variant
        self.folder = folder
        self.tag = f"pid{os.getpid()}n{next(_NUMBERS)}"
        self.node, self.pod, self.fabric = (f"{self.tag}{kind}" for kind in ("node", "pod", "fab"))
        self.pod_ip = "10.240.0.200" if variant == "uplink" else "10.244.0.7"
        self.imds_log = folder / "imds.log"
        self.agent_log = folder / "agent.log"
        self._processes: list[subprocess.Popen[str]] = []
        for name in (self.node, self.pod, self.fabric):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        self._wire()

    def _veth(self, a: str, a_name: str, b: str, b_name: str) -> None:
        ip("link", "add", f"{a_name}{self.tag[-6:]}", "type", "veth", "peer", "name", f"{b_name}{self.tag[-6:]}")
        for namespace, name in ((a, a_name), (b, b_name)):
            ip("link", "set", f"{name}{self.tag[-6:]}", "netns", namespace)
            ip("-n", namespace, "link", "set", f"{name}{self.tag[-6:]}", "name", name)
            ip("-n", namespace, "link", "set", name, "up")

    def _wire(self) -> None:
        self._veth(self.node, "eth0", self.fabric, "down0")
        self._veth(self.pod, "eth0", self.node, "veth0")
        ip("-n", self.fabric, "addr", "add", "10.240.0.1/16", "dev", "down0")
        ip("-n", self.fabric, "addr", "add", f"{IMDS}/32", "dev", "down0")
        self.sysctl(self.node, "net/ipv4/ip_forward", "1")
        getattr(self, f"_wire_{self.variant}")()

    def _wire_routed(self) -> None:
        self._node_uplink("eth0")
        ip("-n", self.node, "route", "add", f"{self.pod_ip}/32", "dev", "veth0")
        self.sysctl(self.node, "net/ipv4/neigh/veth0/proxy_delay", "0")
        self.sysctl(self.node, "net/ipv4/conf/veth0/proxy_arp", "1")
        ip("-n", self.pod, "addr", "add", f"{self.pod_ip}/32", "dev", "eth0")
        ip("-n", self.pod, "route", "add", "169.254.1.1", "dev", "eth0")
        ip("-n", self.pod, "route", "add", "default", "via", "169.254.1.1", "onlink", "dev", "eth0")

    def _wire_bridge(self) -> None:
        self._node_uplink("eth0")
        self._bridge("veth0")
        ip("-n", self.node, "addr", "add", "10.244.0.1/24", "dev", "cbr0")
        ip("-n", self.pod, "addr", "add", f"{self.pod_ip}/24", "dev", "eth0")
        ip("-n", self.pod, "route", "add", "default", "via", "10.244.0.1")

    def _wire_uplink(self) -> None:
        self._bridge("veth0", "eth0")
        self._node_uplink("cbr0")
        ip("-n", self.pod, "addr", "add", f"{self.pod_ip}/16", "dev", "eth0")
        ip("-n", self.pod, "route", "add", "default", "via", "10.240.0.1")

    def _node_uplink(self, device: str) -> None:
        ip("-n", self.node, "addr", "add", f"{NODE_IP}/16", "dev", device)
        ip("-n", self.node, "route", "add", "default", "via", "10.240.0.1")
        ip("-n", self.fabric, "route", "add", "10.244.0.0/24", "via", NODE_IP)

    def _bridge(self, *ports: str) -> None:
        ip("-n", self.node, "link", "add", "cbr0", "type", "bridge")
        ip("-n", self.node, "link", "set", "cbr0", "up")
        for port in ports:
            ip("-n", self.node, "link", "set", port, "master", "cbr0")

    def sysctl(self, namespace: str, name: str, value: str) -> None:
        """Set a sysctl in a namespace."""
        self.run(namespace, f"open('/proc/sys/{name}', 'w').write('{value}')")

    def run(self, namespace: str, code: str, *args: str) -> str:
        """Run Python in a namespace and return what it prints."""
        command = ["ip", "netns", "exec", namespace, sys.executable, "-S", "-c", textwrap.dedent(code), *args]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.strip()

    def forget(self) -> int:
        """Delete the node's conntrack entries of the metadata service; returns how many."""
        code = f"from podidentity.nmi.datapath.conntrack import delete_entries; print(delete_entries('{IMDS}', 80))"
        command = ["ip", "netns", "exec", self.node, sys.executable, "-c", code]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def spawn(self, namespace: str, code: str, *args: str) -> subprocess.Popen[str]:
        """Start Python in a namespace."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, sys.executable, "-S", "-u", "-c", code, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self.own(process)

    def own(self, process: subprocess.Popen[str]) -> subprocess.Popen[str]:
        """Take over a process started elsewhere: it ends with this net at the latest, also when a test fails."""
        self._processes.append(process)
        return process

    def serve(self, namespace: str, name: str, address: str, port: int, log: Path) -> subprocess.Popen[str]:
        """Start a server that answers with its name and the peer's address."""
        process = self.spawn(namespace, SERVER, name, address, str(port), str(log))
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def start_imds(self) -> None:
        """Start the stand-in metadata service on the fabric."""
        self.serve(self.fabric, "imds", IMDS, 80, self.imds_log)

    def start_agent(self) -> subprocess.Popen[str]:
        """Start the stand-in agent on the node."""
        return self.serve(self.node, "agent", "0.0.0.0", 2579, self.agent_log)

    def ask(self, namespace: str, address: str = IMDS, port: int = 80, source: str = "") -> str:
        """Connect, send a line, and return the answer or the error's name."""
        return self.run(namespace, CLIENT, address, str(port), *([source] if source else []))

    def seen(self, log: Path) -> int:
        """Return how many lines a server received."""
        return len(log.read_text().splitlines()) if log.exists() else 0

    def stop(self, process: subprocess.Popen[str]) -> None:
        """End a process this net started."""
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        self._processes.remove(process)

    async def nft(self, args: tuple[str, ...], text: str) -> str:
        """Run nft on the node: what ``Nft`` takes as its ``run``."""
        return await self.program(("nft", *args), text)

    async def program(self, command: tuple[str, ...], text: str) -> str:
        """Run a program on the node: what ``Iptables`` takes as its ``run``."""
        process = await asyncio.create_subprocess_exec(
            *("ip", "netns", "exec", self.node, *command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(text.encode())
        if process.returncode:
            raise DatapathFailed(err.decode().splitlines()[0])
        return out.decode()

    def close(self) -> None:
        """Remove everything."""
        for process in tuple(self._processes):
            self.stop(process)
        for name in (self.node, self.pod, self.fabric):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.fixture(scope="session")
def capable() -> None:
    """Skip where namespaces or nft are missing."""
    if os.geteuid() != 0:
        pytest.skip("needs root for network namespaces: run as root")
    for tool in ("ip", "nft"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}: install iproute2 and nftables")


@pytest.fixture(params=["routed", "bridge"])
def net(request: pytest.FixtureRequest, capable: None, tmp_path: Path) -> Iterator[Net]:
    """Return a fresh net of each variant, with its metadata service running."""
    found = Net(request.param, tmp_path)
    try:
        found.start_imds()
        yield found
    finally:
        found.close()


@pytest.fixture
def uplink(capable: None, tmp_path: Path) -> Iterator[Net]:
    """Return a net whose pods are bridged straight to the fabric."""
    found = Net("uplink", tmp_path)
    try:
        found.start_imds()
        yield found
    finally:
        found.close()


@pytest.fixture
def kept(net: Net) -> subprocess.Popen[str]:
    """Return a pod's connection to the metadata service, opened before any rule."""
    return net.spawn(net.pod, KEPT, IMDS, "80")
