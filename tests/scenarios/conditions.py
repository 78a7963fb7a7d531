"""What must come to hold in a scenario: records, hosts, tokens, Events."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tests.e2e.stage import VAULT
from tests.scenarios.scene import Scene, claims
from tests.scenarios.steps import Condition

from podidentity.lab.cluster import Cluster


@dataclass(frozen=True)
class Assigned(Condition):
    """A pod's records are exactly those of these AzureIdentity objects, and all are ``Assigned``."""

    pod: str
    identities: tuple[str, ...] = ()

    async def lacks(self, scene: Scene) -> str:
        """The records there are."""
        _, namespace, name = await scene.where("pod", self.pod)
        found = {
            one["spec"]["azureIdentityRef"]["metadata"]["name"]: str(one.get("status", {}).get("status"))
            for one in await scene.records()
            if (one["spec"]["podNamespace"], one["spec"]["pod"]) == (namespace, name)
        }
        return "" if found == dict.fromkeys(self.identities, "Assigned") else f"records {found}"


@dataclass(frozen=True)
class AllAssigned(Condition):
    """Of many pods, each with an identity of its own to have: all records are there and ``Assigned``, no other is."""

    pods: tuple[tuple[str, str], ...]

    async def lacks(self, scene: Scene) -> str:
        """The records there are not."""
        found = {
            (one["spec"]["pod"], one["spec"]["azureIdentityRef"]["metadata"]["name"]): one.get("status", {}).get(
                "status"
            )
            for one in await scene.records()
        }
        wrong = found.items() ^ dict.fromkeys(self.pods, "Assigned").items()
        return f"{len(wrong)} differences, such as {sorted(wrong, key=str)[:3]}" if wrong else ""


@dataclass(frozen=True)
class OnHost(Condition):
    """Of the scenario's own identities exactly these are on a host."""

    identities: tuple[str, ...] = ()
    host: str = ""

    async def lacks(self, scene: Scene) -> str:
        """What is there."""
        found = (await scene.on_hosts()).get(scene.host_id(self.host).casefold(), set()) - {"kept", "kubelet"}
        return "" if found == set(self.identities) - {"kept", "kubelet"} else f"on the host: {sorted(found)}"


@dataclass(frozen=True)
class Token(Condition):
    """A pod asks for a token: it gets one of the identity ``gets``, or is refused with that status.

    Any token of another identity, or where none may be given, fails at once.

    ``by`` is how it names the identity ``of``: client_id, object_id or msi_res_id.
    """

    pod: str
    gets: str | int
    by: str = ""
    of: str = ""
    resource: str = VAULT
    words: str = ""

    async def lacks(self, scene: Scene) -> str:
        """What it was answered."""
        named = {}
        if self.by:
            made = scene.identities[self.of]
            ids = {"client_id": made.properties.client_id, "object_id": made.properties.principal_id}
            named[self.by] = ids.get(self.by, made.id)
        reply = await scene.token(self.pod, self.resource, **named)
        if isinstance(self.gets, int):
            assert not reply.token, f"{self}: a token of {claims(reply.token)['appid']}"
            right = reply.status == self.gets and self.words in reply.body
            return "" if right else f"{reply.status} {reply.body[:300]}"
        if not reply.token:
            return f"{reply.status} {reply.body[:300]}"
        wanted = scene.identities[self.gets].properties.client_id
        found = str(claims(reply.token)["appid"])
        assert found == wanted, f"{self}: a token of {found}, not of {wanted}"
        return ""


@dataclass(frozen=True)
class Answers(Condition):
    """A pod GETs a path of the metadata service."""

    pod: str
    path: str
    status: int
    words: str = ""
    header: bool = True

    async def lacks(self, scene: Scene) -> str:
        """What it was answered."""
        headers = {"Metadata": "true"} if self.header else {}
        reply = await scene.http(self.pod, f"http://169.254.169.254{self.path}", **headers)
        right = reply.status == self.status and self.words in reply.body
        return "" if right else f"{reply.status} {reply.body[:300]}"


@dataclass(frozen=True)
class Told(Condition):
    """An Event about an object has a reason and words."""

    kind: str
    ref: str
    reason: str
    words: tuple[str, ...] = ()

    async def lacks(self, scene: Scene) -> str:
        """What was told."""
        _, namespace, name = await scene.where({"AzureIdentityBinding": "binding"}.get(self.kind, "pod"), self.ref)
        params = {"fieldSelector": f"involvedObject.kind={self.kind},involvedObject.name={name}"}
        events = (await scene.call("GET", f"/api/v1/namespaces/{namespace}/events", params=params))["items"]
        right = any(one["reason"] == self.reason and all(w in one["message"] for w in self.words) for one in events)
        return "" if right else f"{[(one['reason'], one['message'][:200]) for one in events]}"


@dataclass(frozen=True)
class NotTold(Condition):
    """No Event with this reason was ever about an object."""

    kind: str
    ref: str
    reason: str

    async def lacks(self, scene: Scene) -> str:
        """What was told all the same."""
        told = await Told(self.kind, self.ref, self.reason).lacks(scene)
        return "" if told else f"it was told {self.reason}"


@dataclass(frozen=True)
class Kubectl(Condition):
    """A command as a person types it says these words, and fails or not; tried until it does."""

    words: tuple[str, ...]
    says: str
    fails: bool = False
    stdin: str = ""

    async def lacks(self, scene: Scene) -> str:
        """What it said."""
        lab = scene.site.stage.lab
        process = await asyncio.create_subprocess_exec(
            str(Cluster.find_kubectl()),
            f"--kubeconfig={lab.layout.kubeconfig}",
            f"--cache-dir={lab.layout.run / 'kubecache'}",
            *self.words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate(self.stdin.encode())
        text = output.decode()
        return "" if bool(process.returncode) == self.fails and self.says in text else f"it said {text!r}"
