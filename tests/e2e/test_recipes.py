"""The how-to pages of docs/howto that are recipes: their objects applied to a lab, and what they claim."""

from __future__ import annotations

import json
import os
import re
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
import yaml
from tests.e2e.conftest import new_lab
from tests.e2e.stage import ASK, Reply, Stage, is_ready, until
from tests.nmi.fakes import claims
from tests.real_server import kubernetes_programs

from podidentity.lab import access
from podidentity.lab.node.kits import AZURE_CLI, installed
from podidentity.lab.scenarios import objects
from podidentity.manifests.shipped import shipped

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

HOWTO: Final = Path(__file__).resolve().parents[2] / "docs/howto"
BLOCK: Final = re.compile(r"^```(?:yaml|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLANK: Final = re.compile(r"<([a-z ]+?)(?: of ([a-z-]+))?>")
LABEL: Final = re.compile(r"(?:aadpodidbinding:? +|activeDirectory:\n +identity: )(\S+)")


@dataclass
class Kitchen:
    """A lab, and the ids that stand for the blanks of the pages."""

    stage: Stage
    owners: dict[str, str] = field(default_factory=dict)
    blanks: dict[str, str] = field(default_factory=dict)

    async def identity(self, name: str) -> None:
        """A user-assigned identity for the blanks that name it."""
        made = await self.stage.lab.azure.create_identity(name, self.stage.lab.spec.resource_group)
        self.owners[name] = made.properties.principal_id
        self.blanks |= {f"<resource id of {name}>": made.id, f"<client id of {name}>": made.properties.client_id}

    async def application(self, name: str) -> None:
        """An application with a password for the blanks that name it."""
        client, principal, password = (str(uuid.uuid4()) for _ in range(3))
        seed = {"servicePrincipals": [{"clientId": client, "objectId": principal, "secret": password}]}
        await self.stage.lab.azure.call("POST", "/seed", seed)
        self.owners[name] = principal
        self.blanks |= {f"<application id of {name}>": client, f"<password of {name}>": password}
        self.blanks["<tenant id>"] = self.stage.lab.spec.tenant_id

    async def filled(self, text: str) -> str:
        """A page's text with an id in each blank, the same one each time."""
        for blank in BLANK.finditer(text):
            if blank[0] not in self.blanks:
                await (self.application if "application" in text else self.identity)(blank[2])
        return BLANK.sub(lambda blank: self.blanks[blank[0]], text)

    async def cook(self, text: str) -> list[Mapping[str, Any]]:
        """Apply the objects of a page, or of a part of it; blocks that are no objects (values) are left."""
        found = []
        for block in BLOCK.findall(await self.filled(text)):
            if block.startswith("apiVersion:"):
                found += list(yaml.safe_load_all(block))
        path = objects.write_yaml(self.stage.lab.layout.root / "manifests" / f"{uuid.uuid4()}.yaml", *found)
        async for _line in access.apply(self.stage.lab.cluster.client, path):
            pass
        return found

    async def stand_in(self, name: str, namespace: str, label: str) -> None:
        """A pod that stays, with that label, in place of a project's own."""
        metadata = {"name": name, "labels": {"aadpodidbinding": label}}
        spec = {"containers": [{"name": "c", "image": "nginx"}], "terminationGracePeriodSeconds": 0}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        await self.stage.call("POST", f"/api/v1/namespaces/{namespace}/pods", pod)

    async def runs(self, name: str, namespace: str = "default") -> None:
        """Wait until a pod runs."""

        async def running() -> bool:
            return (await access.status_of(self.stage.lab.cluster.client, namespace, name)).get("phase") == "Running"

        await until(running, f"pod {namespace}/{name} runs", 120)

    async def ask(self, name: str, namespace: str = "default", named: str = "") -> Reply:
        """What a pod is answered when it asks for a token; ``named``: how it names its identity, as a query."""
        await self.runs(name, namespace)
        url = "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01"
        target = f"{url}&resource=https://vault.azure.net{named}"
        heard = bytearray()
        words = (sys.executable, "-c", ASK, target, json.dumps({"Metadata": "true"}))
        await self.stage.lab.cluster.execute(namespace, name, words, lambda _channel, data: heard.extend(data))
        return Reply(*json.loads(bytes(heard)))

    async def owner(self, name: str, namespace: str = "default", named: str = "") -> str:
        """The name of whose token a pod gets."""
        reply = await self.ask(name, namespace, named)
        assert reply.status == 200, reply.body
        oid = claims(reply.token)["oid"]
        return next(owner for owner, found in self.owners.items() if found == oid)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def kitchen() -> AsyncIterator[Kitchen]:
    """A lab on the real API server, which has Jobs, with everything installed; nmi says no after two seconds."""
    kubernetes_programs("etcd", "kube-apiserver", "kube-controller-manager")
    async with new_lab(nodes=1, api_server="real") as lab:
        stage = Stage(lab)
        await stage.lift_limits()
        await stage.assign_roles()
        await stage.install()
        yield Kitchen(stage)


def page(name: str) -> str:
    """A page's text."""
    return (HOWTO / f"{name}.md").read_text()


async def test_jobs_and_init_containers(kitchen: Kitchen) -> None:
    """The Job and one of the CronJob's end well, and the pod starts when its init container has a token."""
    if AZURE_CLI not in installed(os.environ):
        pytest.skip("azure-cli is not there; make azure-cli installs it")
    found = await kitchen.cook(page("jobs-and-init-containers"))
    (cron,) = [one for one in found if one["kind"] == "CronJob"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "by-hand"}, **cron["spec"]["jobTemplate"]}
    jobs = "/apis/batch/v1/namespaces/default/jobs"
    await kitchen.stage.call("POST", jobs, job)
    await kitchen.runs("waits-for-its-identity")

    async def ended() -> bool:
        states = {one["metadata"]["name"]: one["status"] for one in await kitchen.stage.lab.cluster.objects(jobs)}
        return all(states[name].get("succeeded") == 1 for name in ("report", "by-hand"))

    await until(ended, "both Jobs have succeeded", 120)
    assert await kitchen.owner("waits-for-its-identity") == "reports"
    await kitchen.stage.call("DELETE", "/apis/batch/v1/namespaces/default/cronjobs/report-each-minute")


async def test_several_identities(kitchen: Kitchen) -> None:
    """Each is had by its client id; who names none gets the first by the binding's name."""
    await kitchen.cook(page("several-identities"))
    for name in ("writer", "reader"):
        client = kitchen.blanks[f"<client id of {name}>"]
        assert await kitchen.owner("shop", named=f"&client_id={client}") == name
    assert await kitchen.owner("shop") == "reader"


async def test_namespaced_mode(kitchen: Kitchen) -> None:
    """The annotation keeps an identity in its namespace: the same label elsewhere brings nothing."""
    await kitchen.cook(page("namespaced-mode"))
    await kitchen.stand_in("inside", "payments", "payments")
    await kitchen.stand_in("outside", "default", "payments")
    assert await kitchen.owner("inside", "payments") == "payments"
    await kitchen.runs("outside")
    path = "/apis/aadpodidentity.k8s.io/v1/azureassignedidentities"
    assigned = await kitchen.stage.lab.cluster.objects(path)
    assert [one["spec"]["pod"] for one in assigned if "payments" in one["metadata"]["name"]] == ["inside"]  # type: ignore[index]


async def test_service_principals(kitchen: Kitchen) -> None:
    """A labelled pod gets the application's token from the metadata address."""
    await kitchen.cook(page("service-principals"))
    await kitchen.stand_in("bills", "default", "billing")
    assert await kitchen.owner("bills") == "billing"


SECTIONS: Final = {part.split("\n")[0]: part for part in page("other-projects").split("\n## ")[1:]}


@pytest.mark.parametrize("project", [name for name in SECTIONS if name != "AGIC"])
async def test_other_projects(kitchen: Kitchen, project: str) -> None:
    """A pod in that namespace, with the label that the project's own option sets, gets the token."""
    text = SECTIONS[project]
    found = await kitchen.cook(text)
    (identity,) = [one for one in found if one["kind"] == "AzureIdentity"]
    (label,) = set(LABEL.findall(text))
    await kitchen.stand_in("stand-in", identity["metadata"]["namespace"], label)
    client = identity["spec"]["clientID"]
    (name,) = [owner for owner in kitchen.owners if kitchen.blanks.get(f"<client id of {owner}>") == client]
    assert await kitchen.owner("stand-in", identity["metadata"]["namespace"]) == name


async def test_agic(kitchen: Kitchen) -> None:
    """What its chart makes arrives empty; applied again as the page says, its pod gets a token."""
    name, text = "ingress-azure", SECTIONS["AGIC"]
    values = yaml.safe_load(BLOCK.findall(await kitchen.filled(text))[0])["armAuth"]
    spec = {"type": 0, "ResourceID": values["identityResourceID"], "ClientID": values["identityClientID"]}
    custom = "/apis/aadpodidentity.k8s.io/v1/namespaces/default"
    base = {"apiVersion": "aadpodidentity.k8s.io/v1", "metadata": {"name": name}}
    made = await kitchen.stage.call(
        "POST", f"{custom}/azureidentities", {**base, "kind": "AzureIdentity", "spec": spec}
    )
    assert made["spec"] == {"type": 0}
    binding = {**base, "kind": "AzureIdentityBinding", "spec": {"AzureIdentity": name, "Selector": name}}
    await kitchen.stage.call("POST", f"{custom}/azureidentitybindings", binding)
    await kitchen.stand_in(name, "default", name)
    await kitchen.cook(text)
    assert await kitchen.owner(name) == "agic"


async def test_managed_mode() -> None:
    """The binding alone decides; an identity that is not on the machine, or bound elsewhere, brings nothing."""
    async with new_lab(nodes=1, network="routed") as lab:
        kitchen = Kitchen(Stage(lab))
        async for _line in access.apply(lab.cluster.client, shipped("managed-mode-deployment.yaml")):
            pass
        await kitchen.cook(page("managed-mode"))
        await kitchen.stand_in("elsewhere", "default", "frontend")
        await until(lambda: nmi_is_ready(kitchen), "nmi is ready", 60)
        assert "Identity not found" in (await kitchen.ask("frontend", "web")).body
        attached = {"type": "UserAssigned", "userAssignedIdentities": {kitchen.blanks["<resource id of frontend>"]: {}}}
        await lab.azure.arm("PATCH", lab.spec.scale_set_id, "2024-07-01", {"identity": attached})

        async def served() -> bool:
            return (await kitchen.ask("frontend", "web")).status == 200

        await until(served, "the pod has a token", 60)
        assert await kitchen.owner("frontend", "web") == "frontend"
        assert (await kitchen.ask("elsewhere")).status == 404


async def nmi_is_ready(kitchen: Kitchen) -> bool:
    """Whether the node's agent, in kube-system, is ready."""
    pods = await kitchen.stage.lab.cluster.objects("/api/v1/namespaces/kube-system/pods")
    return any(is_ready(pod) for pod in pods)
