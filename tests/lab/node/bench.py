"""What the kubelet's tests share: a world with an API and two nodes, and a client that speaks to it from outside."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from podidentity.kube.client import KubeClient
from podidentity.kube.errors import NotFound
from podidentity.kube.settings import KubeSettings
from podidentity.kube.transport import build_context, connector
from podidentity.lab.execute import STATUS, STDOUT, exit_code
from podidentity.lab.node.namespaces import enter_world
from podidentity.lab.pki import make_pki

SERVER = "https://10.240.0.1:443"
PODS = "/api/v1/namespaces/default/pods"
Object = Mapping[str, Any]


@contextmanager
def bench(folder: Path) -> Iterator[Path]:
    """Start the world of inside_cluster.py in ``folder``; everything is gone afterwards."""
    for name in ("pki", "run", "nodes", "kube"):
        (folder / name).mkdir()
    make_pki(folder / "pki", ("10.240.0.1",), [(f"node{n}", f"10.240.0.{4 + n}") for n in range(2)])
    (folder / "hosts").write_text("10.240.0.2 management.azure.com\n")
    script = Path(__file__).with_name("inside_cluster.py")
    with enter_world([sys.executable, str(script), str(folder)], env=dict(os.environ)) as world:
        deadline = time.monotonic() + 60
        while not (folder / "run/ready").exists():
            assert world.process.poll() is None, "the world did not start"
            assert time.monotonic() < deadline, "the world did not start in time"
        yield folder


async def eventually(holds: Callable[[], Awaitable[bool]], seconds: float = 15) -> None:
    """Wait until ``holds()`` is true; TimeoutError when it is not within so many seconds."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - the other side is another process
            await asyncio.sleep(0.03)


@dataclass(slots=True)
class Finished:
    """What a command wrote, and its exit code."""

    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    code: int = 0


@dataclass
class Cluster:
    """A client of the bench's API."""

    folder: Path
    client: KubeClient
    settings: KubeSettings
    tls: ssl.SSLContext

    async def create(self, path: str, **body: object) -> Object:
        """POST an object."""
        return json.loads(await self.client.raw("POST", path, body=body))

    async def run(self, name: str, node: int = 0, labels: Object | None = None, **spec: object) -> None:
        """Create a pod on a node; ``container`` holds fields of its one container, named main."""
        container = {"name": "main", "image": "busybox"} | dict(spec.pop("container", {}))  # type: ignore[call-overload] # a mapping
        meta = {"name": name, "labels": labels or {}}
        full = {"nodeName": f"node{node}", "containers": [container], "terminationGracePeriodSeconds": 3} | spec
        await self.create(PODS, apiVersion="v1", kind="Pod", metadata=meta, spec=full)

    async def pod(self, name: str) -> Object:
        """A pod as the API has it; empty when there is none."""
        try:
            return json.loads(await self.client.raw("GET", f"{PODS}/{name}"))
        except NotFound:
            return {}

    async def until(self, name: str, check: Callable[[Object], object], seconds: float = 15) -> Object:
        """The pod, once ``check`` holds of it."""
        pod: Object = {}

        async def holds() -> bool:
            nonlocal pod
            pod = await self.pod(name)
            return bool(check(pod))

        try:
            await eventually(holds, seconds)
        except TimeoutError:
            events = [(event["reason"], event["message"]) for event in await self.events(name)]
            logs = "\n".join(path.read_text()[-2000:] for path in self.folder.glob("node*.log"))
            raise AssertionError(f"{json.dumps(pod.get('status'), indent=1)}\n{events}\n{logs}") from None
        return pod

    async def events(self, name: str) -> list[Object]:
        """The Events about a pod."""
        found = json.loads(await self.client.raw("GET", "/api/v1/namespaces/default/events"))["items"]
        return [event for event in found if event["involvedObject"]["name"] == name]

    async def says(self, name: str, reason: str, words: str = "") -> str:
        """The message of an Event about a pod, once there is one with this reason and these words."""
        found: list[str] = []

        async def holds() -> bool:
            events = await self.events(name)
            found.extend(item["message"] for item in events if item["reason"] == reason and words in item["message"])
            return bool(found)

        await eventually(holds)
        return found[0]

    async def prints(self, name: str, wanted: bytes, *command: str) -> None:
        """Wait until a command in a pod can be run and prints ``wanted``."""

        async def holds() -> bool:
            try:
                return bytes((await self.exec(name, *command)).stdout) == wanted
            except aiohttp.WSServerHandshakeError:
                return False

        await eventually(holds)

    async def logs(self, name: str, **query: str) -> str:
        """A pod's log."""
        return (await self.client.raw("GET", f"{PODS}/{name}/log", params={"container": "main"} | query)).decode()

    def kill_kubelet(self, node: str) -> None:
        """SIGKILL to one node's kubelet."""
        wanted = f"--state-dir={self.folder}/nodes/{node}".encode()
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if wanted in path.read_bytes().split(b"\0"):
                    os.kill(int(path.parent.name), signal.SIGKILL)

    async def delete(self, name: str) -> float:
        """Delete a pod; the seconds until it was gone."""
        begun = time.monotonic()
        await self.client.raw("DELETE", f"{PODS}/{name}")
        await self.until(name, lambda pod: not pod)
        return time.monotonic() - begun

    @asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        """A plain session that dials the API's Unix socket; requests need ``ssl=lab.tls``."""
        async with aiohttp.ClientSession(connector=connector(self.settings)) as session:
            yield session

    @asynccontextmanager
    async def open_exec(self, name: str, *command: str, **query: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """The websocket of a command in a pod, as kubectl opens it."""
        params = [("command", word) for word in command] + [("container", "main"), ("stdout", "true"), *query.items()]
        url = f"{SERVER}{PODS}/{name}/exec"
        async with (
            self.session() as session,
            session.ws_connect(url, params=params, protocols=["v5.channel.k8s.io"], ssl=self.tls) as socket,
        ):
            yield socket

    async def exec(self, name: str, *command: str) -> Finished:
        """Run a command in a pod."""
        done = Finished()
        async with self.open_exec(name, *command, stderr="true") as socket:
            async for message in socket:
                channel, data = message.data[0], message.data[1:]
                if channel == STATUS:
                    done.code = exit_code(data)
                else:
                    (done.stdout if channel == STDOUT else done.stderr).extend(data)
        return done


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    """A client for one test."""
    pki = folder / "pki"
    settings = KubeSettings(
        server=SERVER,
        ca_file=str(pki / "ca.crt"),
        client_cert_file=str(pki / "admin.crt"),
        client_key_file=str(pki / "admin.key"),
        unix_socket=str(folder / "run/api.sock"),
    )
    async with KubeClient(settings, user_agent="test") as client:
        yield Cluster(folder, client, settings, build_context(settings))


def ready(pod: Object) -> bool:
    """Whether the Ready condition holds."""
    found = pod.get("status", {}).get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in found)


def container(pod: Object) -> Object:
    """The status of the first container, empty before there is one."""
    return (pod.get("status", {}).get("containerStatuses") or [{}])[0]


def waiting(pod: Object) -> str:
    """Why the first container waits, empty when it does not."""
    return str(container(pod).get("state", {}).get("waiting", {}).get("reason", ""))


def phase(wanted: str) -> Callable[[Object], bool]:
    """A check of ``status.phase``."""
    return lambda pod: pod.get("status", {}).get("phase") == wanted
