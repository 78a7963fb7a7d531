"""The controllers as a process."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from tests.lab.controllers.conftest import PODS, Cluster, kubelet, running_pods, workload
from tests.lab.kube.certificates import Authority
from tests.lab.kube.wire import Client, client_session

from podidentity.lab.kube import ApiConfig, Tls, serve

REPLICA_SETS = "/apis/apps/v1/namespaces/default/replicasets"


def taken(ready: Path) -> bool:
    """Whether the file is there; then it is removed, for the next start."""
    found = ready.exists()
    ready.unlink(missing_ok=True)
    return found


async def start(arguments: list[str], ready: Path) -> asyncio.subprocess.Process:
    """Start the controllers and wait until they are ready."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "podidentity.lab.controllers", *arguments)
    async with asyncio.timeout(20):
        while not taken(ready):
            assert process.returncode is None
            await asyncio.sleep(0.02)
    return process


@pytest.mark.parametrize("kill", [signal.SIGTERM, signal.SIGKILL])
async def test_killed_controllers_resume(tmp_path: Path, kill: signal.Signals) -> None:
    """Killed in the middle of a scale-up over the Unix socket, the next ones finish it: no pod too many."""
    ca = Authority(tmp_path / "ca")
    cert, key = ca.issue("admin", "system:kube-controller-manager", "system:masters")
    server, unix, ready = ca.issue("server", "apiserver"), tmp_path / "api.sock", tmp_path / "ready"
    alias = ["--unix", str(unix), "--ca", str(ca.certificate), "--cert", str(cert), "--key", str(key)]
    config = ApiConfig(tls=Tls(*server, client_ca=ca.certificate), unix=unix)
    async with serve(config) as running, client_session(running) as session:
        cluster = Cluster(Client(session, running), running)
        await cluster.node("n1")
        async with kubelet(cluster):
            first = await start([*alias, "--ready-file", str(ready)], ready)
            await cluster.api.post(REPLICA_SETS, workload("w", replicas=30))
            await cluster.until(PODS, lambda pods: len(pods) >= 5)
            first.send_signal(kill)
            await first.wait()
            second = await start([*alias, "--ready-file", str(ready)], ready)
            await cluster.until(PODS, lambda pods: len(pods) == len(running_pods(pods)) == 30, seconds=20)
            second.terminate()
            assert await second.wait() == 0


async def test_many_kinds_do_not_exhaust_the_connections(tmp_path: Path) -> None:
    """Housekeeping holds a watch of every kind: with all CRDs of an installation there is still one to work with."""
    ca = Authority(tmp_path / "ca")
    cert, key = ca.issue("admin", "system:kube-controller-manager", "system:masters")
    server, unix, ready = ca.issue("server", "apiserver"), tmp_path / "api.sock", tmp_path / "ready"
    arguments = ["--unix", str(unix), "--ca", str(ca.certificate), "--cert", str(cert), "--key", str(key)]
    config = ApiConfig(tls=Tls(*server, client_ca=ca.certificate), unix=unix)
    async with serve(config) as running, client_session(running) as session:
        cluster = Cluster(Client(session, running), running)
        await cluster.node("n1")
        for number in range(30):
            await cluster.api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd(f"car{number}s"))
        async with kubelet(cluster):
            process = await start([*arguments, "--ready-file", str(ready)], ready)
            await cluster.api.post(REPLICA_SETS, workload("w", replicas=3))
            await cluster.until(PODS, lambda pods: len(running_pods(pods)) == 3, seconds=20)
            process.terminate()
            assert await process.wait() == 0


def crd(plural: str) -> dict[str, object]:
    """A CRD of the simplest kind."""
    schema = {"openAPIV3Schema": {"type": "object"}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    names = {"plural": plural, "kind": plural.title()}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.example.com"},
        "spec": spec,
    }


async def test_unusable_certificates_are_one_line(tmp_path: Path) -> None:
    """A missing file ends the process with 1 and one line."""
    missing = [f"--{name}={tmp_path}/nope" for name in ("ca", "cert", "key")]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "podidentity.lab.controllers", "--server", "https://127.0.0.1:1", *missing),
        stderr=asyncio.subprocess.PIPE,
    )
    _, stderr = await process.communicate()
    assert process.returncode == 1
    assert stderr.decode().count("\n") == 1
    assert stderr.startswith(b"podidentity.lab.controllers: ")
