"""Which machine or scale set is under which node. Pure.

A shelf is what one actor works on: the folded ARM id of a host, or ``node:<name>`` for a node that is not (or not yet
known to be) on Azure, where only identities that need nothing of ARM can be assigned.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from podidentity.api.core import Node
from podidentity.rules.resource_id import HostId, parse_provider_id


@dataclass(frozen=True, slots=True)
class NodeMove:
    """What a Node's event changed: the shelves its pods were and are on, equal when nothing changed."""

    node: str
    before: str
    after: str
    warning: str = ""


def unplaced(node: str) -> str:
    """The shelf of a node that is not, or not yet, known to be on Azure."""
    return f"node:{node}"


class HostMap:
    """Nodes and their hosts. The host of a node that is gone is not remembered here: records carry theirs."""

    def __init__(self) -> None:
        self._hosts: dict[str, HostId] = {}
        self._nodes: defaultdict[str, set[str]] = defaultdict(set)
        self._warned: set[str] = set()

    def shelf_of(self, node: str) -> str:
        """The shelf on which the node's assignments are worked on."""
        host = self._hosts.get(node)
        return host.key if host else unplaced(node)

    def host_of(self, node: str) -> HostId | None:
        """The host under the node, ``None`` when it is not known or not on Azure."""
        return self._hosts.get(node)

    def nodes_of(self, shelf: str) -> frozenset[str]:
        """The nodes that are on a host."""
        return frozenset(self._nodes.get(shelf, ()))

    def apply(self, old: Node | None, new: Node | None) -> NodeMove:
        """Take one change of a Node in; an empty providerID is a node that is not ready yet, without a warning."""
        subject = new if new is not None else old
        if subject is None:
            return NodeMove("", "", "")
        name, before, warning = subject.name, self.shelf_of(subject.name), ""
        text = new.spec.provider_id if new is not None else ""
        parsed = parse_provider_id(text)
        if text and parsed is None and name not in self._warned:
            self._warned.add(name)
            warning = f"node {name} is ignored: its providerID {text!r} is not a machine on Azure"
        if new is None:
            self._warned.discard(name)
        self._forget(name)
        if parsed is not None:
            self._hosts[name] = parsed.host
            self._nodes[parsed.host.key].add(name)
        return NodeMove(name, before, self.shelf_of(name), warning)

    def _forget(self, node: str) -> None:
        host = self._hosts.pop(node, None)
        if host is not None:
            members = self._nodes[host.key]
            members.discard(node)
            if not members:
                del self._nodes[host.key]
