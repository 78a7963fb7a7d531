"""The original's installation with stand-ins for its programs, ours applied over it, and the way back."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tests.deploy import original
from tests.e2e.stage import DEFAULT, is_ready, name_of
from tests.scenarios.conditions import Assigned, Kubectl, Token
from tests.scenarios.hosts import Patched, patches
from tests.scenarios.scene import Scene
from tests.scenarios.sdk import VAULT
from tests.scenarios.steps import Condition, Identity, Object, Pod, Ready, Scenario, Step, While

from podidentity.kube.errors import ApiError, NotFound
from podidentity.lab.scenarios import objects
from podidentity.manifests.shipped import shipped

HERE = Path(__file__).parent
FILE = "podidentityforkubenet.yaml"
LEASE = 6
"""Seconds both sides are told; 15 would only take longer."""
ENDPOINTS, LEASES = "endpoints/aad-pod-identity-mic", "leases/aad-pod-identity-mic"
COORDINATION = "/apis/coordination.k8s.io/v1/namespaces/default"
FINALIZER = "azureassignedidentity.finalizers.aadpodidentity.k8s.io"
CLEANUP = HERE.parents[1] / "deploy" / "nmi-cleanup.yaml"
PROGRAM = f"""
import sys, time
from azure.identity import ManagedIdentityCredential
while True:
    try:
        with ManagedIdentityCredential(client_id=sys.argv[1]) as credential:
            credential.get_token({VAULT + "/.default"!r})
        print("token", flush=True)
    except Exception as error:
        print("FAILED", " ".join(str(error).split())[:500], flush=True)
    time.sleep(0.3)
"""


def _stand_in(document: Object) -> Object:
    """An object of the original's; its programs, which are not ours to run, replaced by stand-ins."""
    made: dict[str, Any] = copy.deepcopy(dict(document))
    if made["kind"] in {"DaemonSet", "Deployment"}:
        (container,) = made["spec"]["template"]["spec"]["containers"]
        program = (HERE / f"original_{container['name']}.py").read_text()
        container |= {"image": "python", "command": [sys.executable, "-c", program, str(LEASE)], "args": []}
    return made


@dataclass(frozen=True)
class Applied(Step):
    """An installation is applied with kubectl: the original's, or ours."""

    whose: str

    async def play(self, scene: Scene) -> None:
        """Apply it."""
        if self.whose == "original":
            documents = [_stand_in(one) for one in (*original.INSTALLATIONS[FILE], *original.exceptions())]
        else:
            documents = list(yaml.safe_load_all(shipped(FILE).read_text()))
            for document in documents:
                if document["kind"] == "Deployment":
                    container = document["spec"]["template"]["spec"]["containers"][0]
                    container["args"] += [f"--leader-election-duration={LEASE}s", "--identity-removal-linger=0s"]
        crds = [one for one in documents if one["kind"] == "CustomResourceDefinition"]
        folder = scene.site.stage.lab.layout.root / "manifests"
        for name, found in (("crds", crds), (self.whose, documents)):
            path = objects.write_yaml(folder / f"{name}.yaml", *found)
            await Kubectl(("apply", "-f", str(path)), "").play(scene)


@dataclass(frozen=True)
class Runs(Condition):
    """Two mics and one nmi are ready, no other pod of theirs is, and all are of one side."""

    whose: str
    within: float = 120

    async def lacks(self, scene: Scene) -> str:
        """Their pods."""
        pods = [
            pod
            for pod in (await scene.call("GET", f"{DEFAULT}/pods"))["items"]
            if name_of(pod).startswith(("mic-", "nmi-"))
        ]
        theirs = [pod["spec"]["containers"][0]["image"] == "python" for pod in pods]
        right = len(pods) == 3 and all(map(is_ready, pods)) and set(theirs) == {self.whose == "original"}
        return "" if right else f"{[(name_of(pod), pod['status'].get('phase'), is_ready(pod)) for pod in pods]}"


async def holders(scene: Scene) -> tuple[str, str]:
    """Who holds the Endpoints record, and who the Lease; empty for nobody."""
    found = []
    for path in (f"{DEFAULT}/{ENDPOINTS}", f"{COORDINATION}/{LEASES}"):
        try:
            answer = await scene.call("GET", path)
        except NotFound:
            found.append("")
            continue
        text = answer["metadata"].get("annotations", {}).get("control-plane.alpha.kubernetes.io/leader")
        record = json.loads(text) if text else answer.get("spec", {})
        found.append(str(record.get("holderIdentity") or ""))
    return found[0], found[1]


@dataclass(frozen=True)
class OneWriter(Condition):
    """Ours holds the Lease, without which it does not write, only while the Endpoints record is its own too."""

    async def lacks(self, scene: Scene) -> str:
        """Who holds which; the Lease is read between two looks at the record, which must agree."""
        first, lease = await holders(scene)
        second, _ = await holders(scene)
        return f"{first} has the record, {lease} the Lease" if first == second and lease not in {"", first} else ""


@dataclass(frozen=True)
class Leads(Condition):
    """One of the pods of a side leads."""

    whose: str
    within: float = 120

    async def lacks(self, scene: Scene) -> str:
        """Who holds which record."""
        record, lease = await holders(scene)
        pods = (await scene.call("GET", f"{DEFAULT}/pods"))["items"]
        theirs = {name_of(pod) for pod in pods if pod["spec"]["containers"][0]["image"] == "python"}
        right = record and ((record in theirs and not lease) if self.whose == "original" else record == lease)
        return "" if right else f"{record!r} has the record, {lease!r} the Lease"


@dataclass(frozen=True)
class Asker(Step):
    """A pod that asks with the SDK all the time, each time with a new credential and its default retries."""

    ref: str
    label: str

    async def play(self, scene: Scene) -> None:
        """Start it."""
        client_id = scene.identities[self.label].properties.client_id
        container = {"name": "c", "image": "podidentity/azure-sdk", "args": ["-c", PROGRAM, client_id]}
        spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False}
        metadata = {"labels": {"aadpodidbinding": scene.selector(self.label)}}
        await scene.make("pod", self.ref, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        await Ready(self.ref).play(scene)


@dataclass(frozen=True)
class Served(Condition):
    """Each asker has got so many tokens more since this was first asked, and none was ever refused."""

    askers: tuple[str, ...]
    more: int
    when: str
    within: float = 150

    async def lacks(self, scene: Scene) -> str:
        """How many it got."""
        for ref in self.askers:
            path, _, name = await scene.where("pod", ref)
            lines = (await scene.site.stage.lab.cluster.client.raw("GET", f"{path}/{name}/log")).decode().splitlines()
            failed = [line for line in lines if line != "token"]
            assert not failed, f"{ref}: {failed[:3]}"
            before = scene.memory.setdefault(f"{ref} {self.when}", len(lines))
            if len(lines) < before + self.more:
                return f"{ref} got {len(lines)} tokens, {before} before"
        return ""


@dataclass(frozen=True)
class CleanupWaits(Condition):
    """The cleanup runs on the node, and waits for nmi to end."""

    async def lacks(self, scene: Scene) -> str:
        """What it logged."""
        client = scene.site.stage.lab.cluster.client
        names = [name_of(pod) for pod in (await scene.call("GET", f"{DEFAULT}/pods"))["items"]]
        cleanup = [name for name in names if name.startswith("nmi-cleanup-")]
        try:
            said = [(await client.raw("GET", f"{DEFAULT}/pods/{name}/log")).decode() for name in cleanup]
        except ApiError as error:
            return str(error)
        return "" if said and "waiting for the nmi of this node to end" in said[0] else f"{cleanup} said {said}"


@dataclass(frozen=True)
class OldRecord(Step):
    """The record that the original's mic wrote for a pod (without UID), and its identity on the host.

    ``without`` names a part that records of some versions do not have.
    """

    pod: str
    identity: str
    without: str = ""

    async def play(self, scene: Scene) -> None:
        """Write both."""
        body = {"host": scene.host_id(""), "identity": scene.identities[self.identity].id}
        await scene.azure("POST", "/identities/attach", body)
        namespace, node = await scene.namespace(), scene.node_name("0")
        refs = {
            "azureIdentityRef": await scene.get("identity", self.identity),
            "azureBindingRef": await scene.get("binding", self.identity),
        }
        name = f"{self.pod}-{namespace}-{self.identity}"
        metadata = {"name": name, "labels": {"nodename": node}, "finalizers": [FINALIZER]}
        document: dict[str, Any] = {"metadata": metadata, "status": {"status": "Assigned", "availableReplicas": 1}}
        document["spec"] = {**refs, "pod": self.pod, "podNamespace": namespace, "nodename": node}
        document |= {"apiVersion": "aadpodidentity.k8s.io/v1", "kind": "AzureAssignedIdentity"}
        metadata.pop(self.without, None)
        document.pop(self.without, None)
        records = "/apis/aadpodidentity.k8s.io/v1/namespaces/default/azureassignedidentities"
        await scene.call("POST", records, document)


@dataclass(frozen=True)
class Behind(Condition):
    """From now on (when this is first asked) no pod reaches the metadata service itself."""

    when: str

    async def lacks(self, scene: Scene) -> str:
        """How many did."""
        counters = await scene.site.stage.lab.azure.counters()
        now = counters.imds_requests("pod")
        before = scene.memory.setdefault(f"behind {self.when}", now)
        return "" if now == before else f"{now - before} requests of pods at the metadata service"


@dataclass(frozen=True)
class Redirected(Condition):
    """On the node the chain is as the original has it."""

    async def lacks(self, scene: Scene) -> str:
        """The chain."""
        heard = bytearray()
        pods = (await scene.call("GET", f"{DEFAULT}/pods"))["items"]
        (nmi,) = (name_of(pod) for pod in pods if name_of(pod).startswith("nmi-"))
        words: Sequence[str] = ("iptables", "-t", "nat", "-S", "aad-metadata")
        await scene.site.stage.lab.cluster.execute("default", nmi, words, lambda _, data: heard.extend(data))
        right = b"--to-destination 127.0.0.1:2579" in heard and b"-N aad-metadata" in heard
        return "" if right else f"iptables said {heard.decode()!r}"


@dataclass(frozen=True)
class NoPatch(Condition):
    """The scale set has had no PATCH since this was first asked."""

    async def lacks(self, scene: Scene) -> str:
        """How many it had."""
        now = await patches(scene, "")
        before = scene.memory.setdefault("patches", now)
        return "" if now == before else f"{now - before} PATCHes"


ASKERS = ("app", "no-status", "no-finalizer")
RECORDS = (OldRecord("app", "app"), OldRecord("no-status", "bare", "status"))
RECORDS += (OldRecord("no-finalizer", "free", "finalizers"),)
IDENTITIES = (Identity("app"), Identity("bare"), Identity("free"))
WAY_BACK = While(
    OneWriter(),
    (
        Kubectl(("apply", "-f", str(CLEANUP)), "nmi-cleanup created"),
        CleanupWaits(),
        Kubectl(("delete", "daemonset/nmi", "deployment/mic"), "deleted"),
        Kubectl(("rollout", "status", "daemonset/nmi-cleanup", "--timeout=120s"), "successfully rolled out"),
        Kubectl(("delete", "-f", str(CLEANUP)), "deleted"),
        Applied("original"),
        Runs("original"),
        Leads("original"),
    ),
)

SCENARIOS = (
    Scenario(
        "upgrade-from-original",
        "Ours is applied over the original: no call of an unmodified SDK fails, no needless PATCH, never two writers.",
        (
            Applied("original"),
            Runs("original"),
            Leads("original"),
            Redirected(),
            *IDENTITIES,
            *RECORDS,
            *(Asker(name, label) for name, label in zip(ASKERS, ("app", "bare", "free"), strict=True)),
            Behind("the original"),
            Served(ASKERS, 2, "with the original"),
            Behind("the original"),
            NoPatch(),
            While(
                OneWriter(),
                (
                    Applied("ours"),
                    Runs("ours"),
                    Behind("ours"),
                    Leads("ours"),
                    Served(ASKERS, 3, "with ours"),
                    NoPatch(),
                    Identity("new"),
                    Pod("new", label="new", node="0"),
                    Assigned("new", ("new",)),
                    Token("new", "new"),
                    Token("app", "app"),
                    Token("no-status", "bare"),
                    Token("no-finalizer", "free"),
                ),
            ),
            Patched(1, ""),
            Served(ASKERS, 1, "at the end"),
            Behind("ours"),
        ),
        alone=True,
    ),
    Scenario(
        "rollback",
        "Ours is uninstalled, nodes are opened, the original applied: no SDK call fails, no PATCH, the original works.",
        (
            Applied("ours"),
            Runs("ours"),
            Leads("ours"),
            Identity("app"),
            Asker("app", "app"),
            Assigned("app", ("app",)),
            Served(("app",), 2, "with ours"),
            NoPatch(),
            WAY_BACK,
            Redirected(),
            Behind("the original"),
            Served(("app",), 3, "with the original"),
            Behind("the original"),
            NoPatch(),
        ),
        alone=True,
        leaves=True,
    ),
)
