"""Network namespaces, the fabric between nodes, and pods' interfaces. Everything stays inside the world.

A namespace is held by a bind mount on a plain file, its path is its name. Namespaces belong to threads, so each
function that works inside one does so in a thread of its own; all of them block for a few milliseconds.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar

from pyroute2 import IPRoute, NetlinkError

from podidentity.lab.node.syscalls import Namespace, bind, detach, setns, unshare

T = TypeVar("T")
Mode = Literal["routed", "bridge"]

FABRIC: Final = "fabric"
BRIDGE: Final = "cbr0"
METADATA: Final = "169.254.169.254"
POD_RANGE: Final = "10.244.0.0/16"
LINK_GATEWAY: Final = "169.254.1.1"
"""Gateway of routed pods; no interface has it, a fixed neighbour entry leads to the node's end of the veth."""
_LINK_GATEWAY_MAC: Final = "ee:ee:ee:ee:ee:ee"


@dataclass(frozen=True, slots=True)
class NodeNetwork:
    """A node's place in the fabric: ``ip`` without prefix, ``pod_cidr`` a /24, ``gateway`` the fabric's own address."""

    name: str
    namespace: str
    ip: str
    pod_cidr: str
    mode: Mode
    gateway: str = "10.240.0.1"
    prefix: int = 16


@dataclass(frozen=True, slots=True)
class PodNetwork:
    """A pod's place on its node; ``key`` is unique on the node and names the node's end of the veth."""

    key: str
    namespace: str
    ip: str
    pod_cidr: str
    mode: Mode

    @property
    def host_interface(self) -> str:
        """Name of the node's end, at most 15 characters, with the prefix of the network plugin it imitates."""
        prefix = "cali" if self.mode == "routed" else "veth"
        return prefix + hashlib.sha256(self.key.encode()).hexdigest()[:11]


def _in_thread(call: Callable[[], T]) -> T:
    """Run ``call`` in a new thread and hand on its result or its exception."""
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - handed on to the caller below
            errors.append(error)

    thread = threading.Thread(target=body, name="namespace")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def in_namespace(namespace: str, call: Callable[[IPRoute], T]) -> T:
    """Call with a netlink connection of the namespace held at path ``namespace``."""

    def body() -> T:
        setns(namespace, Namespace.NET)
        with IPRoute() as ip:
            return call(ip)

    return _in_thread(body)


def _set(name: str, value: str) -> None:
    Path("/proc/sys/net", name).write_text(value)


def _index(ip: IPRoute, name: str) -> int:
    found = ip.link_lookup(ifname=name)
    if not found:
        raise OSError(f"no network interface {name}")
    return int(found[0])


def _up(ip: IPRoute, name: str, addresses: Iterable[tuple[str, int]] = ()) -> int:
    """Give the interface its addresses and bring it up; its index."""
    index = _index(ip, name)
    for address, prefix in addresses:
        ip.addr("add", index=index, address=address, prefixlen=prefix)
    ip.link("set", index=index, state="up")
    return index


def _forward() -> None:
    _set("ipv4/ip_forward", "1")
    _set("ipv4/conf/all/send_redirects", "0")
    _set("ipv4/conf/default/send_redirects", "0")


def _create_namespace(path: str, prepare: Callable[[IPRoute], None]) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).touch()

    def body() -> None:
        unshare(Namespace.NET)
        bind("/proc/thread-self/ns/net", path)
        with IPRoute() as ip:
            _up(ip, "lo")
            prepare(ip)

    _in_thread(body)


def delete_namespace(path: str) -> None:
    """Let go of a namespace; its interfaces vanish with its last process. No error when there is none."""
    try:
        detach(path)
    except OSError:
        if os.path.ismount(path):
            raise
    Path(path).unlink(missing_ok=True)


def create_fabric(addresses: Iterable[str] = ("10.240.0.1/16", "10.240.0.2/16", f"{METADATA}/32")) -> None:
    """Make the bridge all nodes hang on, in the calling process's namespace; it has no way out of the world."""
    with IPRoute() as ip:
        _up(ip, "lo")
        ip.link("add", ifname=FABRIC, kind="bridge")
        split = [address.split("/") for address in addresses]
        _up(ip, FABRIC, [(address, int(prefix)) for address, prefix in split])
    _forward()
    _set(f"ipv4/conf/{FABRIC}/send_redirects", "0")


def create_node(node: NodeNetwork) -> None:
    """Make a node's namespace: ``eth0`` on the fabric, routes to the pods and the metadata address, nothing else."""
    outside = "node" + hashlib.sha256(node.name.encode()).hexdigest()[:11]
    fabric = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def prepare(ip: IPRoute) -> None:
        ip.link("add", ifname="eth0", kind="veth", peer={"ifname": outside, "net_ns_fd": fabric})
        _up(ip, "eth0", [(node.ip, node.prefix)])
        if node.mode == "bridge":
            ip.link("add", ifname=BRIDGE, kind="bridge")
            network = ipaddress.ip_network(node.pod_cidr)
            _up(ip, BRIDGE, [(str(network[1]), network.prefixlen)])
        else:
            ip.route("add", dst=node.pod_cidr, type="unreachable")
        _forward()

    try:
        _create_namespace(node.namespace, prepare)
    finally:
        os.close(fabric)
    with IPRoute() as ip:
        ip.link("set", index=_index(ip, outside), master=_index(ip, FABRIC), state="up")
        ip.route("add", dst=node.pod_cidr, gateway=node.ip)

    def routes(ip: IPRoute) -> None:
        for destination in (f"{METADATA}/32", POD_RANGE):
            ip.route("add", dst=destination, gateway=node.gateway)

    in_namespace(node.namespace, routes)


def attach_pod(pod: PodNetwork) -> None:
    """Make a pod's namespace with ``eth0``; called in its node's namespace. OSError: nothing is left behind."""
    node = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    network = ipaddress.ip_network(pod.pod_cidr)
    routed = pod.mode == "routed"

    def prepare(ip: IPRoute) -> None:
        peer: dict[str, object] = {"ifname": pod.host_interface, "net_ns_fd": node}
        if routed:
            peer["address"] = _LINK_GATEWAY_MAC
        ip.link("add", ifname="eth0", kind="veth", peer=peer)
        index = _up(ip, "eth0", [(pod.ip, 32 if routed else network.prefixlen)])
        if routed:
            ip.neigh("add", dst=LINK_GATEWAY, lladdr=_LINK_GATEWAY_MAC, ifindex=index, state="permanent")
            ip.route("add", dst=f"{LINK_GATEWAY}/32", oif=index, scope="link")
        ip.route("add", dst="default", gateway=LINK_GATEWAY if routed else str(network[1]))

    try:
        _create_namespace(pod.namespace, prepare)
        _connect_pod(pod)
    except NetlinkError as error:
        delete_namespace(pod.namespace)
        raise OSError(error.code, str(error)) from error
    except OSError:
        delete_namespace(pod.namespace)
        raise
    finally:
        os.close(node)


def _connect_pod(pod: PodNetwork) -> None:
    """The node's end of a pod's veth."""
    with IPRoute() as ip:
        index = _index(ip, pod.host_interface)
        if pod.mode == "bridge":
            ip.link("set", index=index, master=_index(ip, BRIDGE), state="up")
            return
        ip.link("set", index=index, state="up")
        ip.route("add", dst=f"{pod.ip}/32", oif=index, scope="link")
        _set(f"ipv4/conf/{pod.host_interface}/proxy_arp", "1")


def detach_pod(pod: PodNetwork) -> None:
    """Take a pod off the network at once, whoever still holds its namespace."""
    with IPRoute() as ip, suppress(NetlinkError):
        for index in ip.link_lookup(ifname=pod.host_interface):
            ip.link("del", index=index)
    delete_namespace(pod.namespace)


class AddressPool:
    """Pod addresses of one node: handed out in turn, an address just freed comes back last."""

    def __init__(self, pod_cidr: str) -> None:
        network = ipaddress.ip_network(pod_cidr)
        self._free = [str(network[n]) for n in range(2, network.num_addresses - 1)]

    def take(self) -> str:
        """An address that no pod has; OSError when all are in use."""
        if not self._free:
            raise OSError("no pod address is free on this node")
        return self._free.pop(0)

    def give_back(self, address: str) -> None:
        """Allow ``address`` to be taken again."""
        self._free.append(address)
