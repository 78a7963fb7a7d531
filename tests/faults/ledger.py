"""Who uses which identity on which machine, worked out anew from the objects alone, and since when. No product code.

Everything here reads the objects' JSON and the contract's rules for them; nothing is shared with mic's matcher.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Objects = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Resource -> ``namespace/name`` -> object."""

PODS, NODES = "pods", "nodes"
IDENTITIES, BINDINGS, RECORDS = "azureidentities", "azureidentitybindings", "azureassignedidentities"
WATCHED = (PODS, NODES, IDENTITIES, BINDINGS, RECORDS)
_PROVIDER = re.compile(
    r"azure://(/subscriptions/[^/]+/resourcegroups/[^/]+/providers/microsoft\.compute"
    r"/(?:virtualmachines/[^/]+|virtualmachinescalesets/[^/]+(?=/virtualmachines/)))(?:/virtualmachines/[^/]+)?"
)


class Use(NamedTuple):
    """A pod's need of an identity (folded ARM id) on a machine (folded ARM id); ``name`` is the AzureIdentity's."""

    host: str
    identity: str
    pod: str
    name: str


def uses(objects: Objects) -> frozenset[Use]:
    """What the living pods use, by their labels, the bindings and the identities there are."""
    return frozenset(_uses(objects))


def served(objects: Objects) -> frozenset[Use]:
    """The uses that a record promises: there, not deleted, Assigned."""
    promised = {_promise(record) for record in objects[RECORDS].values() if _is_assigned(record)}
    return frozenset(use for use in _uses(objects) if (use.pod, use.name, use.identity) in promised)


def _uses(objects: Objects) -> Iterator[Use]:
    for key, pod in objects[PODS].items():
        host = _host(objects, pod)
        label = pod["metadata"].get("labels", {}).get("aadpodidbinding")
        if host and label and pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"}:
            for name, resource in _selected(objects, label):
                yield Use(host, resource, key, name)


def _selected(objects: Objects, label: str) -> Iterator[tuple[str, str]]:
    for key, binding in objects[BINDINGS].items():
        if binding["spec"]["selector"] == label:
            identity = objects[IDENTITIES].get(f"{key.partition('/')[0]}/{binding['spec']['azureIdentity']}")
            if identity is not None:
                yield identity["metadata"]["name"], identity["spec"]["resourceID"].casefold()


def _host(objects: Objects, pod: Mapping[str, Any]) -> str:
    node = objects[NODES].get(f"/{pod['spec'].get('nodeName', '')}")
    found = _PROVIDER.fullmatch(node["spec"].get("providerID", "").casefold()) if node else None
    return found[1] if found else ""


def _promise(record: Mapping[str, Any]) -> tuple[str, str, str]:
    spec = record["spec"]
    identity = spec["azureIdentityRef"]
    pod = f"{spec['podNamespace']}/{spec['pod']}"
    return pod, identity["metadata"]["name"], identity["spec"]["resourceID"].casefold()


def _is_assigned(record: Mapping[str, Any]) -> bool:
    return not record["metadata"].get("deletionTimestamp") and record.get("status", {}).get("status") == "Assigned"


@dataclass(frozen=True, slots=True)
class Removal:
    """An identity that came off a machine at ``at`` by a PATCH of ``source``."""

    at: float
    host: str
    identity: str
    source: str


@dataclass(slots=True)
class Spans:
    """From when to when things were so."""

    now: dict[Use, float] = field(default_factory=dict)
    past: list[tuple[Use, float, float]] = field(default_factory=list)

    def see(self, at: float, those: frozenset[Use]) -> None:
        """These are so from ``at`` on, others are not any more."""
        for use in self.now.keys() - those:
            self.past.append((use, self.now.pop(use), at))
        for use in those - self.now.keys():
            self.now[use] = at

    def covering(self, removal: Removal, before: float, after: float) -> Iterator[Use]:
        """What used the identity all the time from ``before`` seconds before its removal to ``after`` seconds after."""
        for use, start, end in [*self.past, *((use, start, math.inf) for use, start in self.now.items())]:
            same = (use.host, use.identity) == (removal.host, removal.identity)
            if same and start <= removal.at - before and removal.at + after < end:
                yield use


class Ledger:
    """Follows the objects; judges what came off the machines."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Mapping[str, Any]]] = {resource: {} for resource in WATCHED}
        self._uses = Spans()
        self._served = Spans()

    def see(self, at: float, resource: str, obj: Mapping[str, Any], *, gone: bool) -> None:
        """An object was written, or is gone."""
        key = f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"
        if gone:
            self.objects[resource].pop(key, None)
        else:
            self.objects[resource][key] = obj
        self._uses.see(at, uses(self.objects))
        self._served.see(at, served(self.objects))

    def wrong(self, removals: Iterable[Removal], *, sight: float, grace: float = 0) -> list[tuple[Removal, Use]]:
        """Removals of an identity in use: one that was served, or one wanted for more than ``sight`` seconds.

        ``grace``: seconds by which we may have seen something late.
        """
        found = []
        for removal in removals:
            in_use = {*self._served.covering(removal, grace, grace), *self._uses.covering(removal, sight, grace)}
            found += [(removal, use) for use in sorted(in_use)]
        return found


@dataclass(frozen=True, slots=True)
class Balance:
    """What is not as it should be when all is quiet. ``stale``: records nobody needs."""

    lost: tuple[Use, ...] = ()
    leaked: tuple[tuple[str, str], ...] = ()
    stale: tuple[str, ...] = ()

    @property
    def even(self) -> bool:
        """Whether everything is as it should be."""
        return not (self.lost or self.leaked or self.stale)


def balance(objects: Objects, attached: Mapping[str, frozenset[str]], before: Mapping[str, frozenset[str]]) -> Balance:
    """Compare records and machines with what the pods use.

    ``attached``: folded id of a machine -> folded ids of the identities on it; ``before``: those there from the start.
    """
    wanted = uses(objects)
    promises = [_promise(record) for record in objects[RECORDS].values() if _is_assigned(record)]
    there = [use for use in wanted if promises.count((use.pod, use.name, use.identity)) == 1]
    kept = {use for use in there if use.identity in attached.get(use.host, ())}
    needed = {(use.pod, use.name, use.identity) for use in wanted}
    stale = [
        key for key, record in objects[RECORDS].items() if not _is_assigned(record) or _promise(record) not in needed
    ]
    leaked = []
    for host, those in attached.items():
        needed_here = {use.identity for use in wanted if use.host == host}
        leaked += [(host, identity) for identity in sorted(those - needed_here - before[host])]
    return Balance(tuple(sorted(wanted - kept)), tuple(leaked), tuple(stale))
