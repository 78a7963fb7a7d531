"""Runs in a world of its own: a fabric, two nodes, four pods; prints who reaches whom as JSON."""

import json
import multiprocessing
import socket
import sys
import threading
import time
from dataclasses import replace

from podidentity.lab.node import network
from podidentity.lab.node.syscalls import Namespace, setns

PORT = 8080


def node_of(index: int, mode: network.Mode) -> network.NodeNetwork:
    """One node of the lab's layout."""
    return network.NodeNetwork(
        f"node{index}", f"/run/netns/node{index}", f"10.240.0.{4 + index}", f"10.244.{index}.0/24", mode
    )


def pod_of(node: network.NodeNetwork, last: int) -> network.PodNetwork:
    """One pod of ``node``."""
    ip = node.pod_cidr.replace(".0/24", f".{last}")
    return network.PodNetwork(f"default/pod-{ip}", f"/run/netns/pod-{ip}", ip, node.pod_cidr, node.mode)


def attach(node: network.NodeNetwork, lasts: list[int]) -> list[float]:
    """Attach pods from a process inside the node's namespace; seconds each took."""
    setns(node.namespace, Namespace.NET)
    taken = []
    for last in lasts:
        start = time.monotonic()
        network.attach_pod(pod_of(node, last))
        taken.append(time.monotonic() - start)
    network.attach_pod(replace(pod_of(node, 99), key="gone"))
    network.detach_pod(replace(pod_of(node, 99), key="gone"))
    return taken


def in_thread_of(namespace: str) -> socket.socket:
    """A listening socket inside ``namespace``; answers with the peer's address."""
    sockets: list[socket.socket] = []

    def body() -> None:
        if namespace:
            setns(namespace, Namespace.NET)
        sockets.append(socket.create_server(("0.0.0.0", PORT)))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    return sockets[0]


def answer(server: socket.socket) -> None:
    """Tell every caller its address, for ever."""
    while True:
        connection, peer = server.accept()
        with connection:
            connection.sendall(peer[0].encode())


def ask(namespace: str, address: str) -> str:
    """What a process of ``namespace`` hears from ``address``, or the error."""
    heard: list[str] = []

    def body() -> None:
        setns(namespace, Namespace.NET)
        try:
            with socket.create_connection((address, PORT), timeout=1) as connection:
                heard.append(connection.recv(100).decode())
        except OSError as error:
            heard.append(type(error).__name__ + f" {error.errno}")

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    return heard[0]


def main() -> None:
    """Build, ask, print."""
    network.create_fabric()
    nodes = [node_of(0, "routed"), node_of(1, "bridge")]
    for node in nodes:
        network.create_node(node)
    context = multiprocessing.get_context("spawn")
    seconds = []
    for node in nodes:
        with context.Pool(1) as pool:
            seconds += pool.apply(attach, (node, [2, 3]))
    places = {"10.240.0.1": "", "10.240.0.2": "", "169.254.169.254": ""}
    places |= {node.ip: node.namespace for node in nodes}
    places |= {pod.ip: pod.namespace for node in nodes for pod in (pod_of(node, 2), pod_of(node, 3))}
    for namespace in dict.fromkeys(places.values()):
        threading.Thread(target=answer, args=(in_thread_of(namespace),), daemon=True).start()
    callers = {address: namespace for address, namespace in places.items() if namespace}
    heard = {ip: {to: ask(namespace, to) for to in places} for ip, namespace in callers.items()}
    out = {ip: ask(namespace, "8.8.8.8") for ip, namespace in callers.items()}
    gone = ask(nodes[0].namespace, "10.244.0.99")
    json.dump({"seconds": seconds, "heard": heard, "out": out, "gone": gone}, sys.stdout)


if __name__ == "__main__":
    main()
