"""A lab on the real API server: what of its control plane is killed comes back, and no other cluster is touched."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.e2e.background import KERNEL_SECONDS, attached_to, first_process, gone, lab_up, reads_its_secret
from tests.e2e.processes import Footprint, Process, names_in, run, tree
from tests.e2e.stage import DEFAULT, MERGE, Stage, until
from tests.real_server import kubernetes_programs

from podidentity.kube.errors import KubeError
from podidentity.lab.kubeconfig import kubeconfig_text
from podidentity.lab.layout import Layout
from podidentity.lab.spec import load_spec

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

READERS: set[str] = set()
"""Who may read the vault of this module's lab."""
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def folder(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """A lab of one node on the real API server, everything installed, and the pod `early` that has read its secret."""
    kubernetes_programs(*PROGRAMS)
    folder = tmp_path_factory.mktemp("real") / "lab"
    await lab_up(folder, "--api-server=real", "--nodes=1")
    try:
        async with attached_to(folder, READERS) as stage:
            await stage.lift_limits()
            await stage.assign_roles()
            await stage.install()
            await reads_its_secret(stage, "early")
        yield folder
    finally:
        await run("lab", "down", "--dir", str(folder), "--remove")


def program(folder: Path, name: str) -> list[Process]:
    """The lab's running process of that program."""
    return [one for one in tree(first_process(folder)) if one.words[:1] and Path(one.words[0]).name == name]


async def answers(stage: Stage) -> bool:
    """Whether the API can be read and written."""
    try:
        body = {"metadata": {"labels": {"asked": secrets.token_hex(4)}}}
        await stage.call("PATCH", "/api/v1/namespaces/default", body, content_type=MERGE)
    except KubeError:
        return False
    return True


@pytest.mark.parametrize("name", PROGRAMS)
async def test_a_killed_program_comes_back(folder: Path, name: str) -> None:
    """Kill -9 of a part of the control plane: it is started again and all goes on; pods keep their tokens."""
    (killed,) = program(folder, name)
    async with attached_to(folder, READERS) as stage:
        os.kill(killed.pid, signal.SIGKILL)

        async def again() -> bool:
            return not killed.alive and bool(program(folder, name)) and await answers(stage)

        await until(again, f"{name} runs again and the API answers", 60)
        assert await stage.file("early", "early")
        assert (await stage.ask("early")).status == 200
        await reads_its_secret(stage, f"after-{name[-4:]}")
        await stage.call("POST", "/api/v1/namespaces", {"metadata": {"name": f"after-{name}"}})
        accounts = f"/api/v1/namespaces/after-{name}/serviceaccounts"

        async def furnished() -> bool:
            found = await stage.lab.cluster.objects(accounts)
            return bool(found)

        await until(furnished, "a new namespace gets its service account", 60)
    assert f"{name} ended with code -9; starting it again" in (Layout(folder).logs / "world.log").read_text()


async def test_a_killed_lab_resumes(folder: Path) -> None:
    """Kill -9 of the lab's first process: etcd and all else end with it; the next `lab up` has every object."""
    async with attached_to(folder, READERS) as stage:
        before = {one["metadata"]["uid"] for one in await stage.lab.cluster.objects(f"{DEFAULT}/pods")}  # type: ignore[index]  # JSON
    footprint = Footprint.of(first_process(folder), folder)
    os.kill(first_process(folder), signal.SIGKILL)
    await until(gone(footprint), "nothing of the lab is left", KERNEL_SECONDS)
    await lab_up(folder)
    async with attached_to(folder, READERS) as stage:
        after = {one["metadata"]["uid"] for one in await stage.lab.cluster.objects(f"{DEFAULT}/pods")}  # type: ignore[index]  # JSON
        assert before <= after
        await stage.ready("early", within=90)
        await reads_its_secret(stage, "resumed")


async def test_status_says_which_server(folder: Path) -> None:
    """Who finds a lab that somebody else started sees what it runs on."""
    code, output, errors = await run("lab", "status", "--dir", str(folder))
    assert (code, errors) == (0, "")
    assert output.startswith(f"running, process {first_process(folder)}, real API (Kubernetes v1.")


async def test_two_labs_on_one_port(folder: Path, tmp_path: Path) -> None:
    """The second lab on the port of a running one is refused in one line that names who has it; nothing is made."""
    spec = load_spec(Layout(folder).spec)
    assert spec is not None
    options = ("--api-server=real", f"--port={spec.port}")
    code, output, errors = await run("lab", "up", "--dir", str(tmp_path / "second"), *options)
    assert (code, output, errors.count("\n")) == (1, "", 1)
    assert errors.startswith(f"podidentity lab: port {spec.port} on 127.0.0.1 is in use by ")
    assert f"(pid {first_process(folder)})" in errors
    assert "--port" in errors
    assert names_in(tmp_path) == []


async def test_another_clusters_kubeconfig_is_never_used(folder: Path, tmp_path: Path) -> None:
    """With KUBECONFIG and ~/.kube/config of another cluster, and even in the lab's own place, only the lab is asked."""
    heard: list[str] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append("a connection")
        await reader.read(1)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(hear, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        text = kubeconfig_text(Layout(folder), f"https://127.0.0.1:{port}")
        for path in (tmp_path / "foreign", tmp_path / ".kube" / "config", Layout(folder).kubeconfig):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        environ = {"KUBECONFIG": str(tmp_path / "foreign"), "HOME": str(tmp_path)}
        for words in (["status"], ["get", "nodes"], ["logs", "early"], ["exec", "early", "true"], ["down", "--remove"]):
            code, _, errors = await run("lab", words[0], "--dir", str(folder), *words[1:], **environ)
            assert (code, errors) == (0, ""), words
    assert heard == []
    assert names_in(folder.parent) == []
    assert (tmp_path / "foreign").read_text() == (tmp_path / ".kube" / "config").read_text() == text
    assert names_in(tmp_path) == [".kube", "foreign"]
