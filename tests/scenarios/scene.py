"""A scenario's own corner of a running lab: its names, what it asks there, what it waits for, and what it leaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from tests.e2e.stage import ASK, MERGE, VAULT, Reply, Stage

from podidentity.kube.errors import NotFound
from podidentity.lab.azure import IdentityProperties, UserAssignedIdentity

Object = Mapping[str, Any]
GROUP = "/apis/aadpodidentity.k8s.io/v1"
TOKEN = "http://169.254.169.254/metadata/identity/oauth2/token"
POLL = 0.1
READER = dict.fromkeys(("secrets", "keys", "certificates"), ("get", "list"))
PATIENCE = 60.0
"""Seconds a condition may take; the machine may do other things."""
KINDS: Mapping[str, str] = {
    "pod": "/api/v1/namespaces/{}/pods",
    "secret": "/api/v1/namespaces/{}/secrets",
    "identity": GROUP + "/namespaces/{}/azureidentities",
    "binding": GROUP + "/namespaces/{}/azureidentitybindings",
    "exception": GROUP + "/namespaces/{}/azurepodidentityexceptions",
    "class": "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/{}/secretproviderclasses",
}
"""Our words for kinds, and where the API has them."""


@dataclass
class Site:
    """What all scenarios of one lab share."""

    stage: Stage
    server: str
    kept: UserAssignedIdentity
    """An identity whose client id mic was told never to remove."""
    usual_nodes: Object = field(default_factory=dict)
    """The affinity of a pod that may run on any node but the one whose nmi has other flags."""
    rules: dict[str, Object] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def set_rule(self, name: str, rule: Object | None) -> None:
        """Let the simulated Azure answer some requests otherwise; None: as usual again."""
        async with self.lock:
            self.rules = {key: kept for key, kept in self.rules.items() if key != name} | ({name: rule} if rule else {})
            await self.stage.lab.azure.call("PUT", "/faults", {"rules": list(self.rules.values())})

    async def may_read(self, identity: UserAssignedIdentity) -> str:
        """Let an identity read all in the lab's vault; the vault's name."""
        lab = self.stage.lab
        async with self.lock:
            self.stage.readers.add(identity.properties.principal_id)
            readers = sorted(self.stage.readers)
            await lab.azure.create_vault(lab.spec.vault, lab.spec.resource_group, *readers, rights=READER)
        return lab.spec.vault


@dataclass
class Scene:
    """One playing of a scenario. Objects are named ``name`` or ``corner/name``: each corner is a namespace."""

    site: Site
    id: str
    identities: dict[str, UserAssignedIdentity] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)
    """ARM ids of the hosts that are the scenario's own, by its word for them."""
    nodes: set[str] = field(default_factory=set)
    waits: list[tuple[str, float]] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)
    """What a step remembers for a later one."""
    _namespaces: dict[str, str] = field(default_factory=dict)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        spec = self.site.stage.lab.spec
        kubelet = IdentityProperties(spec.kubelet_client_id, spec.kubelet_principal_id)
        self.identities["kubelet"] = UserAssignedIdentity(spec.kubelet_identity_id, "kubelet", kubelet)
        self.identities["kept"] = self.site.kept

    async def call(self, method: str, path: str, body: object = None, **more: Any) -> Object:
        """One request to the Kubernetes API."""
        return await self.site.stage.call(method, path, body, **more)

    async def azure(self, method: str, path: str, body: object = None) -> Object:
        """One request to the simulated Azure's owner interface."""
        return await self.site.stage.lab.azure.call(method, path, body)

    def selector(self, word: str) -> str:
        """A label that no other scenario uses."""
        return f"{self.id}.{word}"

    def azure_name(self, ref: str) -> str:
        """The name of an identity in Azure."""
        return f"{self.id}-{ref.replace('/', '-')}"

    def node_name(self, word: str) -> str:
        """A node: ``0``, ``1``, ... of the lab, ``pool/0`` of the scenario's own host."""
        spec = self.site.stage.lab.spec
        return spec.nodes[int(word)].name if word.isdigit() else f"{self.id}-{word.replace('/', '-')}"

    async def namespace(self, corner: str = "") -> str:
        """The namespace of a corner, made when it is first asked for."""
        async with self._opening:
            if corner not in self._namespaces:
                name = f"{self.id}-{corner}" if corner else self.id
                await self.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
                account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
                await self.until(f"{name} has its account", lambda: self.missing(account), counts=False)
                self._namespaces[corner] = name
            return self._namespaces[corner]

    @property
    def namespaces(self) -> Sequence[str]:
        """The namespaces made so far."""
        return tuple(self._namespaces.values())

    async def where(self, kind: str, ref: str) -> tuple[str, str, str]:
        """The collection's path, the namespace and the name of an object."""
        corner, _, name = ref.rpartition("/")
        namespace = await self.namespace(corner)
        return KINDS[kind].format(namespace), namespace, name

    async def make(self, kind: str, ref: str, document: Object) -> None:
        """Create an object; its name and namespace are filled in."""
        path, namespace, name = await self.where(kind, ref)
        metadata = {**document.get("metadata", {}), "name": name, "namespace": namespace}
        await self.call("POST", path, {**document, "metadata": metadata})

    async def get(self, kind: str, ref: str) -> Object:
        """Read an object. NotFound."""
        path, _, name = await self.where(kind, ref)
        return await self.call("GET", f"{path}/{name}")

    async def change(self, kind: str, ref: str, patch: Object) -> None:
        """Merge into an object."""
        path, _, name = await self.where(kind, ref)
        await self.call("PATCH", f"{path}/{name}", patch, content_type=MERGE)

    async def delete(self, kind: str, ref: str, *, grace: int | None = None) -> None:
        """Delete an object; None: with the grace it was made with."""
        path, _, name = await self.where(kind, ref)
        params = {} if grace is None else {"gracePeriodSeconds": str(grace)}
        await self.call("DELETE", f"{path}/{name}", params=params)

    async def missing(self, path: str) -> str:
        """Why an object is not there; empty when it is."""
        try:
            await self.call("GET", path)
        except NotFound as error:
            return str(error)
        return ""

    async def until(
        self, what: str, lacks: Callable[[], Awaitable[str]], *, within: float = PATIENCE, counts: bool = True
    ) -> None:
        """Wait until nothing is lacking; fails with what still is. The time it took is kept when it ``counts``."""
        begun = time.monotonic()
        while lacking := await lacks():
            if time.monotonic() - begun > within:
                raise AssertionError(f"waited {within:g} s in vain for {what}: {lacking}")
            await asyncio.sleep(POLL)
        if counts:
            self.waits.append((what, time.monotonic() - begun))

    async def run(self, pod: str, *command: str) -> tuple[int, str]:
        """Run a command in a pod: exit code and what it printed."""
        _, namespace, name = await self.where("pod", pod)
        heard = bytearray()
        code = await self.site.stage.lab.cluster.execute(namespace, name, command, lambda _, data: heard.extend(data))
        return code, heard.decode(errors="replace")

    async def http(self, pod: str, url: str, **headers: str) -> Reply:
        """What a pod is answered when it GETs a URL."""
        code, text = await self.run(pod, sys.executable, "-SEc", ASK, url, json.dumps(headers))
        if code:
            return Reply(0, text)
        return Reply(*json.loads(text))

    async def token(self, pod: str, resource: str = VAULT, **named: str) -> Reply:
        """What a pod is answered when it asks for a token; ``named`` says for which identity."""
        query = urlencode({"api-version": "2018-02-01", "resource": resource, **named})
        return await self.http(pod, f"{TOKEN}?{query}", Metadata="true")

    async def records(self) -> list[Object]:
        """The AzureAssignedIdentity objects of the scenario's pods, whatever namespace they are in."""
        found = (await self.call("GET", f"{GROUP}/azureassignedidentities"))["items"]
        own = set(self._namespaces.values())
        return [one for one in found if one["spec"]["podNamespace"] in own]

    async def on_hosts(self) -> dict[str, set[str]]:
        """The scenario's own identities by folded id of the host they are on, hosts without any left out."""
        own = {made.id.casefold(): ref for ref, made in self.identities.items()}
        found = {}
        for host in (await self.azure("GET", "/state"))["host"]:
            here = {own[key] for key in host["effective"]["user"] if key in own}
            if here:
                found[str(host["id"]).casefold()] = here
        return found

    def host_id(self, word: str) -> str:
        """ARM id of a host: the lab's scale set, or the scenario's own of that name."""
        return self.hosts[word] if word else self.site.stage.lab.spec.scale_set_id

    async def leave(self) -> None:
        """Take everything away and wait until mic has: no record, none of the scenario's identities on any host."""
        await self.site.set_rule(self.id, None)
        for namespace in self._namespaces.values():
            for kind, grace in (("pod", {"gracePeriodSeconds": "0"}), ("binding", {}), ("identity", {})):
                await self.call("DELETE", KINDS[kind].format(namespace), params=grace)
        await self.until("nothing is left", self._left)
        for node in self.nodes:
            with contextlib.suppress(NotFound):
                await self.call("DELETE", f"/api/v1/nodes/{node}")
        for host in self.hosts.values():
            await self.azure("POST", "/hosts/delete", {"host": host})
        for namespace in self._namespaces.values():
            await self.call("DELETE", f"/api/v1/namespaces/{namespace}")

    async def _left(self) -> str:
        if records := await self.records():
            return f"records {[one['metadata']['name'] for one in records]}"
        stays = {"kubelet", "kept", *self.memory.get("stays", ())}
        left = {host: sorted(found - stays) for host, found in (await self.on_hosts()).items() if found - stays}
        return f"on hosts: {left}" if left else ""


def claims(token: str) -> Object:
    """What a token says of itself."""
    part = token.split(".")[1]
    decoded: Object = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return decoded


def short(texts: Sequence[str], most: int = 8) -> str:
    """The last of many lines, for a message."""
    return "; ".join(texts[-most:])
