"""Starts the clients in their pods, gathers what they report, and says how long the agent was away."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from tests.e2e.stage import CUSTOM, DEFAULT, VAULT, Stage, until
from tests.nmi.fakes import claims

from podidentity.lab.azure import UserAssignedIdentity
from podidentity.lab.execute import STDERR, STDOUT

HERE: Final = Path(__file__).parent
LABEL: Final = "clients"
SECRET: Final = "for-clients"


@dataclass(frozen=True)
class Client:
    """A client: its pod's image, how it is started, and the ways in which it names an identity.

    ``patience``: how long the agent may be away before it gives up, in seconds.
    """

    name: str
    image: str
    command: tuple[str, ...]
    ways: tuple[str, ...]
    patience: float = 0
    steps: tuple[str, ...] = ("login", "secret", "token")

    @property
    def pod(self) -> str:
        """The name of the pod it runs in: one for each image."""
        return self.image.rpartition("/")[2]


NAMED: Final = ("client_id", "object_id", "resource_id", "")
ALONE: Final = ("env", "AZURE_TOKEN_CREDENTIALS=ManagedIdentityCredential")
SDK: Final = "podidentity/azure-sdk"
JS: Final = "podidentity/azure-sdk-js"
CLI: Final = "mcr.microsoft.com/azure-cli"
_PYTHON: Final = ("python", str(HERE / "python_client.py"))
_NODE: Final = ("node", str(HERE / "javascript_client.cjs"))
PATIENCE: Final = 4.5
"""The SDKs' four tries at a refused connection take 4.8 s in Python and about 5 s in JavaScript."""
PLAIN: Final = Client("plain", SDK, ("python", str(HERE / "plain_client.py")), ("",))
PYTHON: Final = Client("python", SDK, _PYTHON, NAMED, PATIENCE)
PYTHON_DEFAULT: Final = Client("python-default", SDK, _PYTHON, ("default",))
PYTHON_ALONE: Final = Client("python-alone", SDK, (*ALONE, *_PYTHON), ("default",), PATIENCE)
NODE: Final = Client("javascript", JS, _NODE, NAMED, PATIENCE)
NODE_DEFAULT: Final = Client("javascript-default", JS, _NODE, ("default",))
NODE_ALONE: Final = Client("javascript-alone", JS, (*ALONE, *_NODE), ("default",), PATIENCE)
AZ: Final = Client("az", CLI, ("python", str(HERE / "az_client.py")), NAMED)
CLIENTS: Final = (PLAIN, PYTHON, PYTHON_DEFAULT, PYTHON_ALONE, NODE, NODE_DEFAULT, NODE_ALONE, AZ)


class Ask(msgspec.Struct, frozen=True):
    """One line of a client's report."""

    way: str
    outcome: str
    begun: float
    seconds: float
    words: str
    secret: str = ""

    @property
    def ended(self) -> float:
        """When the answer was there."""
        return self.begun + self.seconds

    @property
    def owner(self) -> str:
        """Whose token it is: the object id; what was raised instead, without a token."""
        return str(claims(self.words)["oid"]) if self.outcome == "token" else f"{self.outcome}: {self.words[-300:]}"


Report = list[Ask]


def away(plain: Report) -> tuple[float, float]:
    """From the first refusal that a client without retries met to the next token; twice the same when it met none."""
    failed = [ask for ask in plain if ask.outcome != "token"]
    if not failed:
        return plain[-1].ended, plain[-1].ended
    later = [ask.ended for ask in plain if ask.outcome == "token" and ask.begun > failed[-1].begun]
    return failed[0].begun, min(later)


@dataclass
class Asking:
    """A lab with two identities for the pods of the clients: ``first`` is what who names none gets.

    ``secret`` is the value of the vault's secret.
    """

    stage: Stage
    first: UserAssignedIdentity
    second: UserAssignedIdentity
    secret: str
    _images: dict[str, str] = field(default_factory=dict)
    _stops: itertools.count[int] = field(default_factory=itertools.count)

    async def pods(self, *clients: Client) -> None:
        """A pod for each image that the clients run in, and wait until they are ready."""
        self._images = {client.pod: client.image for client in clients}
        for pod, image in self._images.items():
            container = {"name": "c", "image": image, "command": ["sleep", "infinity"]}
            metadata = {"name": pod, "labels": {"aadpodidbinding": LABEL}}
            spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
            body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
            await self.stage.call("POST", f"{DEFAULT}/pods", body)
        for client in clients:
            await self.stage.ready(client.pod, within=90)

    async def assigned(self) -> None:
        """Wait until each pod has both identities: before, who names none gets the one that is there."""

        async def check() -> bool:
            records = (await self.stage.call("GET", f"{CUSTOM}/azureassignedidentities"))["items"]
            states = [record.get("status", {}).get("status") for record in records]
            return states == ["Assigned"] * 2 * len(self._images)

        await until(check, "each pod has both identities", 90)

    def owner(self, way: str) -> str:
        """The object id of the identity that a way of asking must get."""
        return (self.first if way in {"", "default"} else self.second).properties.principal_id

    async def once(self, client: Client, resource: str = VAULT) -> Report:
        """Let a client ask once in each way."""
        return await self._run(client, resource, "", [])

    async def _run(self, client: Client, resource: str, stop: str, report: Report) -> Report:
        second, vault = self.second, f"{self.stage.lab.spec.vault}/{SECRET}"
        ids = (second.properties.client_id, second.properties.principal_id, second.id, "", "")
        named = dict(zip((*NAMED, "default"), ids, strict=True))
        ways = {way: (way, named[way]) for way in client.ways}
        order = {"resource": resource, "vault": vault, "stop": stop, "ways": ways, "steps": client.steps}
        heard = {STDOUT: b"", STDERR: b""}

        def hear(channel: int, data: bytes) -> None:
            *lines, rest = (heard[channel] + data).split(b"\n")
            report.extend(msgspec.json.decode(line, type=Ask) for line in lines if channel == STDOUT)
            heard[channel] = rest if channel == STDOUT else heard[channel] + data

        code = await self.stage.lab.cluster.execute("default", client.pod, (*client.command, json.dumps(order)), hear)
        assert code == 0, (client.name, heard)
        return report

    @asynccontextmanager
    async def again_and_again(self, *clients: Client) -> AsyncIterator[dict[str, Report]]:
        """The clients ask in all ways, over and over, until the block is left and each way then has another token."""
        stop = f"/tmp/stop-{next(self._stops)}"
        reports: dict[str, Report] = {client.name: [] for client in clients}
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(self._run(client, VAULT, stop, reports[client.name]))
            try:
                await self.served(clients, reports)
                yield reports
                await self.served(clients, reports)
            finally:
                for pod in {client.pod for client in clients}:
                    await self.stage.lab.cluster.run(pod, "touch", stop)

    async def served(self, clients: Sequence[Client], reports: dict[str, Report]) -> None:
        """Wait until each way of each client has a token that it asked for from now on."""
        now = time.monotonic()

        async def check() -> bool:
            found = {
                (name, ask.way)
                for name, report in reports.items()
                for ask in report
                if ask.outcome == "token" and ask.begun >= now
            }
            return len(found) == sum(len(client.ways) for client in clients)

        await until(check, "every way has a token", 120)
