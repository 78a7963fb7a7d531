"""A lab whose pods ask for tokens all the time, and what the faults do to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
import time
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import pytest
import yaml
from tests.e2e.processes import Process, component, tree
from tests.e2e.stage import DEFAULT, MERGE, Stage, is_ready, name_of, until
from tests.faults.nmi.judge import judge
from tests.faults.nmi.load import FOLDER, RAW, SDK, Heard, Reader
from tests.faults.nmi.table import Row

from podidentity.config.errors import ConfigError
from podidentity.lab import access
from podidentity.lab.azure import UserAssignedIdentity
from podidentity.lab.outer import Wish, running_lab
from podidentity.lab.spec import ApiServer, new_spec, save_spec
from podidentity.manifests.shipped import shipped

NMI: Final = "/apis/apps/v1/namespaces/default/daemonsets/nmi"
STRATEGIC: Final = "application/strategic-merge-patch+json"
ELSEWHERE: Final = "elsewhere"


@dataclass
class Guest:
    """A pod that asks: ``right`` is the client id of its identity, empty when it has none."""

    key: str
    namespace: str
    name: str
    right: str
    reader: Reader
    heard: list[Heard] = field(default_factory=list)
    gone: bool = False

    @property
    def path(self) -> str:
        """Where the API has it."""
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"

    def last(self) -> float:
        """When its latest token came, 0 for none."""
        return max((line.last for line in self.heard if line.tokens), default=0.0)


@dataclass
class Site:
    """The lab, the pods in it and the table that the faults fill.

    ``root`` is the lab's own process, ``pause`` how many seconds a pod waits between two questions.
    """

    stage: Stage
    server: ApiServer
    root: int
    table: list[Row]
    pause: float
    guests: list[Guest] = field(default_factory=list)
    identities: dict[str, UserAssignedIdentity] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    # -- pods ---------------------------------------------------------------------------------------------------

    async def arrive(
        self,
        name: str,
        label: str = "",
        right: str = "",
        *,
        namespace: str = "default",
        named: bool = False,
        sdk: bool = False,
    ) -> Guest:
        """Create a pod that asks; ``right`` names the identity it must get, ``named``: it names it too."""
        client_id = self.identities[right].properties.client_id if right else ""
        number = next(self._numbers)
        node = self.stage.lab.spec.nodes[0].name
        folder = self.stage.lab.layout.nodes / node / FOLDER.lstrip("/")
        guest = Guest(f"{namespace}/{name}#{number}", namespace, name, client_id, Reader(folder / str(number)))
        environ = {"HEARD": f"{FOLDER}/{number}", "PAUSE": str(self.pause), "NAMED": client_id if named else ""}
        command = [sys.executable, "-c", SDK] if sdk else [sys.executable, "-S", "-c", RAW]
        container = {
            "name": "main",
            "image": "python",
            "command": command,
            "env": [{"name": key, "value": value} for key, value in environ.items()],
            "volumeMounts": [{"name": "heard", "mountPath": FOLDER}],
        }
        volume = {"name": "heard", "hostPath": {"path": FOLDER, "type": "DirectoryOrCreate"}}
        spec = {"terminationGracePeriodSeconds": 1, "containers": [container], "volumes": [volume]}
        metadata = {"name": name, "labels": {"aadpodidbinding": label} if label else {}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        await self.stage.call("POST", f"/api/v1/namespaces/{namespace}/pods", pod)
        self.guests.append(guest)
        return guest

    async def leave(self, *guests: Guest) -> None:
        """Delete pods and wait until they are no more."""
        for guest in guests:
            guest.gone = True
            await self.stage.call("DELETE", guest.path)
        for guest in guests:
            await self.stage.gone(guest.path, within=60)

    def forget(self, known: Collection[Guest]) -> None:
        """Count on no pod that a fault that failed has left behind, only on those ``known`` before."""
        for one in self.guests:
            one.gone = one.gone or one not in known

    def guest(self, name: str, namespace: str = "default") -> Guest:
        """The pod of that name that is there now."""
        return next(one for one in self.guests if (one.name, one.namespace, one.gone) == (name, namespace, False))

    async def address(self, guest: Guest) -> str:
        """A pod's address, once it has one."""
        found = ""

        async def known() -> bool:
            nonlocal found
            found = str((await self.stage.call("GET", guest.path))["status"].get("podIP", ""))
            return bool(found)

        await until(known, f"{guest.key} has an address", 60)
        return found

    # -- what they hear -----------------------------------------------------------------------------------------

    def hear(self) -> None:
        """Read what the pods have written."""
        for guest in self.guests:
            guest.heard += guest.reader.read()

    async def fed(self, since: float, within: float, *guests: Guest) -> float:
        """Wait until every pod with an identity (or those named) got a token after ``since``; the seconds from then."""
        wanted = guests or tuple(one for one in self.guests if one.right and not one.gone)

        async def all_fed() -> bool:
            self.hear()
            return all(one.last() > since for one in wanted)

        try:
            await until(all_fed, "every pod has its tokens", within)
        except AssertionError as error:
            hungry = {one.key: [line.other for line in one.heard[-3:]] for one in wanted if one.last() <= since}
            raise AssertionError(f"{error}; these have not: {hungry}") from None
        return max(min(line.last for line in one.heard if line.tokens and line.last > since) - since for one in wanted)

    async def at_imds(self) -> int:
        """Requests at the simulated metadata service that did not come from a node."""
        counters = await self.stage.lab.azure.counters()
        return sum(counters.imds_requests(kind) for kind in ("pod", "unknown"))

    async def conclude(self, fault: str, since: float, took: float, leaked: int) -> Row:
        """Enter a fault into the table: nobody may have had a wrong token, or have reached the metadata service."""
        until_now = time.time()
        self.hear()
        heard = {one.key: one.heard for one in self.guests}
        rights = {one.key: one.right for one in self.guests}
        gone = {one.key for one in self.guests if one.gone}
        verdict = judge(heard, rights, since, until_now, gone)
        row = Row(fault, self.server, verdict, await self.at_imds() - leaked, took)
        self.table.append(row)
        for one in self.guests:
            one.heard = one.heard[-1:]
        self.guests = [one for one in self.guests if not one.gone]
        assert row.verdict.wrong == {}, "wrong tokens"
        assert row.at_imds == 0, "pods reached the metadata service"
        return row

    # -- the agent ----------------------------------------------------------------------------------------------

    def agent(self) -> Process:
        """The node's one nmi."""
        (found,) = component(self.root, "nmi")
        return found

    async def restarts(self) -> int:
        """How often the container of the node's nmi was started again."""
        (pod,) = await self._agents()
        return int(pod["status"]["containerStatuses"][0]["restartCount"])  # type: ignore[index]  # JSON

    async def _agents(self) -> list[dict[str, object]]:
        pods = await self.stage.lab.cluster.objects(f"{DEFAULT}/pods")
        return [dict(pod) for pod in pods if name_of(pod).startswith("nmi-")]

    async def settled(self, within: float = 90) -> None:
        """Wait until the node has one nmi, of the DaemonSet's latest template, and it is ready."""

        async def check() -> bool:
            daemon = await self.stage.call("GET", NMI)
            status = daemon["status"]
            seen = status.get("observedGeneration") == daemon["metadata"]["generation"]
            done = status.get("updatedNumberScheduled") == status.get("numberAvailable") == 1
            agents = await self._agents()
            return bool(seen and done and [is_ready(pod) for pod in agents] == [True])

        await until(check, "one nmi, up to date and ready", within)

    async def update(self, **container: object) -> None:
        """Roll the DaemonSet out again, perhaps with another container, and wait for it."""
        stamp = {"metadata": {"annotations": {"rolled": str(time.time())}}}
        if container:
            stamp["spec"] = {"containers": [{"name": "nmi", **container}]}  # type: ignore[dict-item]  # JSON
        await self.stage.call("PATCH", NMI, {"spec": {"template": stamp}}, content_type=STRATEGIC)
        await self.settled()

    async def fresh(self) -> None:
        """Have an nmi that was never started again: the kubelet waits before the second time."""
        if await self.restarts():
            await self.update()

    async def replaced(self, old: Process) -> None:
        """Wait until another process is the node's nmi, and ready."""

        async def check() -> bool:
            return not old.alive and len(component(self.root, "nmi")) == 1

        await until(check, "nmi was started again", 90)

    # -- the network --------------------------------------------------------------------------------------------

    def part(self, module: str) -> Process:
        """A process of the lab by its module, or the file name of its program."""
        return next(one for one in tree(self.root) if module in one.words or Path(one.words[0]).name == module)

    async def nft(self, text: str, *, at: Process | None = None) -> str:
        """Give nft commands to the node's network, or to that of another process."""
        return await self.run("nft", "-f", "-", at=at, text=text)

    async def run(self, *words: str, at: Process | None = None, text: str = "") -> str:
        """Run a program of this machine in the node's network, or in that of another process."""
        pid = (at or self.agent()).pid
        process = await asyncio.create_subprocess_exec(
            *("nsenter", "--target", str(pid), "--user", "--preserve-credentials", "--net", "--", *words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate(text.encode())
        assert process.returncode == 0, errors.decode()
        return output.decode()

    @contextlib.asynccontextmanager
    async def rules(self, text: str, *, at: Process | None = None, table: str = "inet faults") -> AsyncIterator[None]:
        """A table of ours in the node's network (or another's) while the block runs."""
        held = at or self.agent()
        await self.nft(f"table {table} {{\n{text}\n}}\n", at=held)
        try:
            yield
        finally:
            await self.nft(f"delete table {table}\n", at=held if held.alive else None)

    async def imds(self, **faults: object) -> None:
        """Set faults of the simulated metadata service."""
        await self.stage.lab.azure.call("PUT", "/faults", faults)

    async def patch(self, path: str, body: object) -> None:
        """A merge patch."""
        await self.stage.call("PATCH", path, body, content_type=MERGE)


@contextlib.asynccontextmanager
async def site_of(folder: Path, server: ApiServer, table: list[Row], pause: float) -> AsyncIterator[Site]:
    """A lab of one routed node with few pod addresses, mic and nmi that update without a gap, and pods that ask."""
    spec = new_spec(node_count=1, network="routed", port=0, api_server=server)
    save_spec(folder / "lab.json", msgspec.structs.replace(spec, pod_prefix=28))
    try:
        async with running_lab(Wish(folder, api_server=server)) as lab:
            world = next(one for one in tree(os.getpid()) if str(lab.layout.root) in one.words)
            site = Site(Stage(lab), server, world.pid, table, pause)
            await _furnish(site)
            yield site
    except ConfigError as error:
        if "this system refuses" in str(error):
            pytest.skip(str(error))
        raise


async def _furnish(site: Site) -> None:
    stage = site.stage
    await stage.lift_limits()
    await stage.assign_roles()
    async for _line in access.apply(stage.lab.cluster.client, shipped("deployment-rbac.yaml")):
        pass
    surge = yaml.safe_load(shipped("nmi-surge-patch.yaml").read_text())
    await stage.call("PATCH", NMI, surge, content_type=STRATEGIC)
    await stage.call("POST", "/api/v1/namespaces", {"metadata": {"name": ELSEWHERE}})
    for name, selector in (("one", "one"), ("other", "other"), ("first", "two"), ("second", "two"), ("next", "next")):
        site.identities[name] = await stage.identity(name, selector=selector)
    await site.settled()
    since = time.time()
    await site.arrive("web-0", "one", "one")
    await site.arrive("web-0", "other", "other", namespace=ELSEWHERE)
    await site.arrive("two", "two", "second", named=True)
    await site.arrive("sdk", "one", "one", sdk=True)
    await site.arrive("plain")
    await site.fed(since, 90)
