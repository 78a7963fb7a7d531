"""A person at a running lab: commands as they would be typed, run with the real kubectl where it is on PATH."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from podidentity.config.errors import ConfigError
from podidentity.kube.client import KubeClient
from podidentity.lab import access
from podidentity.lab.execute import Sink, run_in_pod
from podidentity.lab.layout import Layout
from podidentity.lab.parts import admin_settings
from podidentity.lab.spec import LabSpec

POLL = 0.1


@dataclass(frozen=True, slots=True)
class Answer:
    """A command as typed, what it printed, and its exit code."""

    typed: str
    text: str
    code: int = 0


async def answer_of(command: Sequence[str], typed: str, *, environ: Mapping[str, str] | None = None) -> Answer:
    """What a program of the caller's side said on both outputs, once it has ended; cancelled: it is killed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    return Answer(typed, output.decode(errors="replace"), process.returncode or 0)


class Cluster:
    """The lab's cluster, seen from outside. An async context manager.

    Our own requests go by the lab's port and keys: a kubeconfig, even the lab's own, may name another cluster.
    """

    def __init__(self, layout: Layout, spec: LabSpec, *, kubectl: str | None = None) -> None:
        self.layout = layout
        self.kubectl = kubectl
        self.client = KubeClient(admin_settings(layout, f"https://127.0.0.1:{spec.port}"), user_agent="podidentity-lab")

    @staticmethod
    def find_kubectl() -> str | None:
        """The kubectl on PATH, None where there is none."""
        return shutil.which("kubectl")

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.client.__aexit__(kind, error, tb)

    async def _real(self, *words: str) -> Answer:
        environ = {
            **os.environ,
            "KUBECONFIG": str(self.layout.kubeconfig),
            "KUBECACHEDIR": str(self.layout.run / "kubecache"),
        }
        environ |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        return await answer_of((str(self.kubectl), *words), " ".join(["kubectl", *words]), environ=environ)

    async def version(self) -> str:
        """The Kubernetes version the API server says it is."""
        return str(json.loads(await self.client.raw("GET", "/version"))["gitVersion"])

    async def apply(self, path: Path) -> Answer:
        """``kubectl apply -f``."""
        if self.kubectl:
            return await self._real("apply", "-f", str(path))
        lines = [line async for line in access.apply(self.client, path)]
        return Answer(f"podidentity lab apply {path}", "\n".join(lines) + "\n")

    async def get(self, word: str, *, all_namespaces: bool = False) -> Answer:
        """``kubectl get``."""
        if self.kubectl:
            return await self._real("get", word, *(["-A"] if all_namespaces else []))
        kind = access.find_kind(await access.discover(self.client), word)
        text = await access.get_table(self.client, kind, "default", "", all_namespaces=all_namespaces)
        return Answer(f"podidentity lab get {word}" + (" -A" if all_namespaces else ""), text + "\n")

    async def logs(self, pod: str, *, since: int = 300) -> Answer:
        """``kubectl logs``."""
        if self.kubectl:
            return await self._real("logs", pod, f"--since={since}s")
        text = await access.pod_logs(self.client, "default", pod, since=since)
        return Answer(f"podidentity lab logs {pod} --since {since}", text)

    async def run(self, pod: str, *command: str) -> Answer:
        """``kubectl exec``."""
        if self.kubectl:
            return await self._real("exec", pod, "--", *command)
        heard = bytearray()
        code = await self.execute("default", pod, command, lambda _channel, data: heard.extend(data))
        text = heard.decode(errors="replace")
        return Answer(f"podidentity lab exec {pod} -- {' '.join(command)}", text, code)

    async def execute(self, namespace: str, pod: str, command: Sequence[str], sink: Sink) -> int:
        """Run a command in a pod without kubectl: its exit code; its output goes to ``sink`` as it comes."""
        context = ssl.create_default_context(cafile=str(self.layout.ca_bundle))
        context.load_cert_chain(self.layout.pki / "admin.crt", self.layout.pki / "admin.key")
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
            return await run_in_pod(session, self.client.settings.server, namespace, pod, list(command), sink)

    async def objects(self, path: str) -> list[Mapping[str, object]]:
        """The items of a collection, as JSON documents."""
        items = json.loads(await self.client.raw("GET", path)).get("items", [])
        return list(items)

    @staticmethod
    async def until(what: str, check: Callable[[], Awaitable[bool]], within: float = 60.0) -> float:
        """Wait until ``check()`` holds; the seconds it took. ConfigError when it does not hold ``within`` that many."""
        begun = time.monotonic()
        while not await check():
            if time.monotonic() - begun > within:
                raise ConfigError(f"waited {within:.0f} s in vain: {what}")
            await asyncio.sleep(POLL)
        return time.monotonic() - begun
