"""What a test does in a running lab: identities, pods, questions a pod asks, Events it is told."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from podidentity.kube.errors import NotFound
from podidentity.lab import access
from podidentity.lab.azure import UserAssignedIdentity
from podidentity.lab.running import RunningLab
from podidentity.lab.scenarios import objects
from podidentity.manifests import rendering
from podidentity.manifests.shipped import shipped

Object = Mapping[str, Any]
VAULT = "https://vault.azure.net"
ARM = "https://management.azure.com/"
DEFAULT = "/api/v1/namespaces/default"
CUSTOM = "/apis/aadpodidentity.k8s.io/v1/namespaces/default"
MERGE = "application/merge-patch+json"
QUICK_NMI = ("--retry-attempts-for-created=2", "--retry-attempts-for-assigned=1", "--find-identity-retry-interval=1")
"""nmi says no after two or three seconds instead of a hundred."""

ASK = """
import json, sys, urllib.error, urllib.request
try:
    request = urllib.request.Request(sys.argv[1], headers=json.loads(sys.argv[2]))
    with urllib.request.urlopen(request, timeout=60) as got:
        status, body = got.status, got.read().decode()
except urllib.error.HTTPError as error:
    status, body = error.code, error.read().decode()
except OSError as error:
    status, body = 0, str(error)
print(json.dumps([status, body]))
"""


@dataclass(frozen=True)
class Reply:
    """What a pod was answered; status 0 when there was no answer, ``body`` then says why."""

    status: int
    body: str

    @property
    def token(self) -> str:
        """The token in the answer; empty when there is none."""
        return str(json.loads(self.body).get("access_token", "")) if self.status == 200 else ""


@dataclass(frozen=True)
class Told:
    """One Event: its reason, its words, how often it came."""

    reason: str
    message: str
    count: int


async def until(holds: Callable[[], Awaitable[bool]], what: str, within: float = 30) -> float:
    """Wait until ``holds()``; the seconds it took. Fails with ``what`` when it does not ``within`` so many seconds."""
    begun = time.monotonic()
    while not await holds():
        assert time.monotonic() - begun < within, f"waited {within:g} s in vain: {what}"
        await asyncio.sleep(0.05)
    return time.monotonic() - begun


@dataclass
class Stage:
    """A lab and what stands in it."""

    lab: RunningLab
    readers: set[str] = field(default_factory=set)

    async def call(self, method: str, path: str, body: object = None, **more: Any) -> Object:
        """One request to the Kubernetes API."""
        answer: Object = json.loads(await self.lab.cluster.client.raw(method, path, body=body, **more))
        return answer

    async def install(self, *, nmi: Sequence[str] = (), mic: Sequence[str] = ()) -> None:
        """Apply the shipped manifests, with further flags for nmi and mic, and wait until all of it is ready."""
        documents = list(yaml.safe_load_all(shipped("podidentityforkubenet.yaml").read_text()))
        for document in documents:
            added = {"nmi": nmi, "mic": mic}.get(document["metadata"]["name"], ())
            if document["kind"] in {"DaemonSet", "Deployment"}:
                document["spec"]["template"]["spec"]["containers"][0]["args"] += added
        path = objects.write_yaml(self.lab.layout.root / "manifests" / "infrastructure.yaml", *documents)
        for file in (path, shipped("podidentityexception.yaml"), shipped("csi-provider.yaml")):
            async for _line in access.apply(self.lab.cluster.client, file):
                pass
        await self.installed()

    async def installed(self) -> None:
        """Wait until two mics and one nmi and one provider on each node are ready, and no other pod of theirs is."""
        nodes = self.lab.spec.node_count
        wanted = {"mic-": 2, "nmi-": nodes, "csi-secrets-store-provider-azure-": nodes}

        async def ready() -> bool:
            pods = await self.lab.cluster.objects(f"{DEFAULT}/pods")
            return all(
                [is_ready(pod) for pod in pods if name_of(pod).startswith(prefix)] == [True] * count
                for prefix, count in wanted.items()
            )

        await until(ready, "mic, nmi and csi-provider are ready", 60)

    async def lift_limits(self) -> None:
        """Have ARM's request limits lifted: a module of tests asks more of one scale set than a cluster does."""
        await self.lab.azure.call("PUT", "/faults", {"arm_limits": None})

    async def assign_roles(self) -> None:
        """What mic needs and no more: the node group's machines, the identities of the cluster's own group."""
        spec, azure = self.lab.spec, self.lab.azure
        await azure.assign_role(spec.kubelet_principal_id, "Virtual Machine Contributor", spec.node_group_scope)
        await azure.assign_role(spec.kubelet_principal_id, "Managed Identity Operator", self.group_scope)

    @property
    def group_scope(self) -> str:
        """ARM id of the resource group that identities are made in."""
        return f"{self.lab.spec.subscription_scope}/resourceGroups/{self.lab.spec.resource_group}"

    async def group(self, name: str) -> str:
        """``az group create``."""
        await self.lab.azure.arm(
            "PUT", f"{self.lab.spec.subscription_scope}/resourceGroups/{name}", "2021-04-01", {"location": "westeurope"}
        )
        return name

    async def identity(self, name: str, *, group: str = "", selector: str = "") -> UserAssignedIdentity:
        """A user-assigned identity with its AzureIdentity and binding; ``selector`` is NAME-binding by default."""
        made = await self.lab.azure.create_identity(name, group or self.lab.spec.resource_group)
        await self.declare(name, made.id, made.properties.client_id, selector or rendering.binding_name(name))
        return made

    async def declare(self, name: str, resource_id: str, client_id: str, selector: str) -> None:
        """An AzureIdentity and its binding, whatever they say."""
        base = {"apiVersion": "aadpodidentity.k8s.io/v1", "metadata": {"name": name}}
        spec: Object = {"type": 0, "resourceID": resource_id, "clientID": client_id}
        await self.call("POST", f"{CUSTOM}/azureidentities", {**base, "kind": "AzureIdentity", "spec": spec})
        await self.bind(f"{name}-binding", name, selector)

    async def bind(self, name: str, identity: str, selector: str) -> None:
        """A binding alone."""
        await self.call(
            "POST",
            f"{CUSTOM}/azureidentitybindings",
            {
                "apiVersion": "aadpodidentity.k8s.io/v1",
                "kind": "AzureIdentityBinding",
                "metadata": {"name": name},
                "spec": {"azureIdentity": identity, "selector": selector},
            },
        )

    async def vault(self, *readers: UserAssignedIdentity) -> str:
        """The lab's vault, which these identities (and all named before) may read; its name."""
        self.readers |= {reader.properties.principal_id for reader in readers}
        spec = self.lab.spec
        await self.lab.azure.create_vault(spec.vault, spec.resource_group, *sorted(self.readers))
        return spec.vault

    async def secret_class(self, name: str, identity: UserAssignedIdentity, secret: str) -> None:
        """A SecretProviderClass for the latest version of a secret in the lab's vault."""
        spec = self.lab.spec
        values = rendering.VaultValues(spec.vault, identity.properties.client_id, secret, spec.tenant_id)
        document = yaml.safe_load(rendering.render_secret_provider_class(values))
        document["metadata"]["name"] = name
        path = f"/apis/{document['apiVersion']}/namespaces/default/secretproviderclasses"
        await self.call("POST", path, document)

    async def pod(self, name: str, *, label: str = "", mount: str = "") -> None:
        """A pod that stays, perhaps labelled, perhaps with the volume of a SecretProviderClass; not waited for."""
        values = rendering.PodValues("unused", mount or "unused", name=name)
        document = yaml.safe_load(rendering.render_pod(values))
        document["metadata"]["labels"] = {"aadpodidbinding": label} if label else {}
        if not mount:
            del document["spec"]["volumes"], document["spec"]["containers"][0]["volumeMounts"]
        await self.call("POST", f"{DEFAULT}/pods", document)

    async def ready(self, name: str, within: float = 30) -> float:
        """Wait until a pod is ready; the seconds it took."""

        async def check() -> bool:
            return is_ready({"status": await access.status_of(self.lab.cluster.client, "default", name)})

        try:
            return await until(check, f"pod {name} is ready", within)
        except AssertionError as error:
            raise AssertionError(f"{error}; it heard {await self.everything_told(name)}") from None

    async def get(self, url: str, pod: str, **headers: str) -> Reply:
        """What a pod is answered when it GETs a URL."""
        answer = await self.lab.cluster.run(pod, sys.executable, "-c", ASK, url, json.dumps(headers))
        assert answer.code == 0, answer.text
        return Reply(*json.loads(answer.text))

    async def ask(self, pod: str, resource: str = VAULT) -> Reply:
        """What a pod is answered when it asks the metadata service for a token."""
        url = f"http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource={resource}"
        return await self.get(url, pod, Metadata="true")

    async def file(self, pod: str, secret: str) -> str:
        """A mounted secret as the pod reads it."""
        answer = await self.lab.cluster.run(pod, "cat", f"/mnt/secrets-store/{secret}")
        assert answer.code == 0, answer.text
        return answer.text

    async def told(self, kind: str, name: str, reason: str) -> list[Told]:
        """The Events with that reason about an object, oldest first."""
        selector = f"involvedObject.kind={kind},involvedObject.name={name},reason={reason}"
        found = (await self.call("GET", f"{DEFAULT}/events", params={"fieldSelector": selector}))["items"]
        found.sort(key=lambda event: int(event["metadata"]["resourceVersion"]))
        return [Told(event["reason"], event["message"], int(event.get("count") or 1)) for event in found]

    async def hears(self, kind: str, name: str, reason: str, *words: str, within: float = 30) -> Told:
        """Wait for an Event with that reason about an object that has all the words in it."""
        found: list[Told] = []

        async def check() -> bool:
            found[:] = [one for one in await self.told(kind, name, reason) if all(w in one.message for w in words)]
            return bool(found)

        try:
            await until(check, f"an Event {reason!r} about {kind} {name} that says {words}", within)
        except AssertionError as error:
            raise AssertionError(f"{error}; it heard {await self.everything_told(name)}") from None
        return found[-1]

    async def everything_told(self, name: str) -> list[str]:
        """All Events about objects of that name, for a test that fails."""
        found = await self.call("GET", f"{DEFAULT}/events", params={"fieldSelector": f"involvedObject.name={name}"})
        return [f"{event['reason']}: {event['message']}" for event in found["items"]]

    async def gone(self, path: str, within: float = 30) -> None:
        """Wait until an object is no more."""

        async def check() -> bool:
            try:
                await self.call("GET", path)
            except NotFound:
                return True
            return False

        await until(check, f"{path} is gone", within)

    async def attached(self) -> set[str]:
        """The identities on the scale set, as ids in lower case; asked without spending anybody's ARM budget."""
        state: Object = await self.lab.azure.call("GET", "/state")
        (host,) = state["host"]
        return {str(key) for key in host["effective"]["user"]}


def name_of(document: Object) -> str:
    """``metadata.name``."""
    return str(document["metadata"]["name"])


def is_ready(pod: Object) -> bool:
    """Whether a pod's Ready condition holds."""
    conditions = pod["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
