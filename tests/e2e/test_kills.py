"""Whatever is killed: what holds the pods comes back, and what is meant to go leaves nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.e2e.background import KERNEL_SECONDS, attached_to, first_process, gone, lab_up, reads_its_secret
from tests.e2e.processes import Footprint, command, component, names_in, run, said, tree
from tests.e2e.stage import CUSTOM, Stage, is_ready, until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def folder(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """A lab started by the command itself, with everything installed and a pod that has read its secret."""
    folder = tmp_path_factory.mktemp("kills") / "lab"
    await lab_up(folder)
    try:
        async with attached_to(folder) as stage:
            await stage.lift_limits()
            await stage.assign_roles()
            await stage.install()
        yield folder
    finally:
        await run("lab", "down", "--dir", str(folder), "--remove")


async def leader(stage: Stage) -> str:
    """The pod that mic's lease names."""
    lease = await stage.call("GET", "/apis/coordination.k8s.io/v1/namespaces/default/leases/aad-pod-identity-mic")
    return str(lease["spec"].get("holderIdentity", ""))


async def test_a_second_lab_in_the_same_directory(folder: Path) -> None:
    """The second `lab up` is refused in one line that names the first one's process and both ways on."""
    first = first_process(folder)
    code, output, errors = await run("lab", "up", "--dir", str(folder))
    assert (code, output, errors.count("\n")) == (1, "", 1)
    assert errors.startswith(f"podidentity lab: --dir {folder}: a lab runs there already (process {first}); ")
    assert f"podidentity lab down --dir {folder}" in errors
    assert first_process(folder) == first


async def test_mics_leader_is_killed(folder: Path) -> None:
    """Kill -9 of the leader: the kubelet starts it again, meanwhile or then a new pod gets its secret."""
    async with attached_to(folder) as stage:
        name = await leader(stage)
        (process,) = component(first_process(folder), "mic", name)
        os.kill(process.pid, signal.SIGKILL)
        await reads_its_secret(stage, "after-mic")

        async def restarted() -> bool:
            pod = await stage.call("GET", f"/api/v1/namespaces/default/pods/{name}")
            return is_ready(pod) and pod["status"]["containerStatuses"][0]["restartCount"] == 1

        await until(restarted, "the killed mic is ready again")


async def test_nmi_is_killed(folder: Path) -> None:
    """Kill -9 of every nmi: the kubelet starts them again and a new pod gets its secret."""
    async with attached_to(folder) as stage:
        killed = component(first_process(folder), "nmi")
        assert len(killed) == 2
        for process in killed:
            os.kill(process.pid, signal.SIGKILL)
        await reads_its_secret(stage, "after-nmi")
        await stage.installed()
        assert not {one.pid for one in component(first_process(folder), "nmi")} & {one.pid for one in killed}
        counters = await stage.lab.azure.counters()
        assert counters.imds_requests("pod") == 0


async def test_a_killed_lab_resumes(folder: Path) -> None:
    """Kill -9 of the lab's first process: nothing runs on; the next `lab up` finds records, identities and pods."""
    async with attached_to(folder) as stage:
        await reads_its_secret(stage, "resumes")
        value = await stage.file("resumes", "resumes")
        (record,) = [one for one in await assigned(stage) if "resumes" in one[0]]
        on_host = await stage.attached()
    root = first_process(folder)
    footprint = Footprint.of(root, folder)
    assert len(footprint.processes) > 10
    os.kill(root, signal.SIGKILL)
    await until(gone(footprint), "nothing of the lab is left", KERNEL_SECONDS)
    await lab_up(folder)
    async with attached_to(folder) as stage:
        assert await stage.attached() == on_host
        assert record in await assigned(stage)
        await stage.ready("resumes", within=60)
        assert await stage.file("resumes", "resumes") == value
        await reads_its_secret(stage, "resumed")


async def assigned(stage: Stage) -> list[tuple[str, str]]:
    """Name and uid of every AzureAssignedIdentity."""
    items = await stage.lab.cluster.objects(f"{CUSTOM}/azureassignedidentities")
    return [(item["metadata"]["name"], item["metadata"]["uid"]) for item in items]  # type: ignore[index]  # JSON


async def test_a_demo_is_killed(tmp_path: Path) -> None:
    """Kill -9 amid a demo: soon nothing runs or is mounted; the next demo sweeps and passes."""
    async with command("lab", "demo", TMPDIR=str(tmp_path)) as process:
        await said(process, "\n5. ")
        footprint = Footprint.of(process.pid, tmp_path)
        assert len(footprint.processes) > 10
        assert len(footprint.namespaces) > 8
        process.kill()
        await until(gone(footprint), "nothing of the demo is left", KERNEL_SECONDS)
    assert names_in(tmp_path) != []
    code, output, errors = await run("lab", "demo", TMPDIR=str(tmp_path))
    assert (code, errors) == (0, "")
    assert "NO " not in output.partition("What was checked")[2]
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_demo_is_interrupted(tmp_path: Path, number: signal.Signals, code: int, step: int) -> None:
    """Ctrl-C (to the whole group) and SIGTERM: one line, that signal's exit code, nothing left, files included."""
    async with command("lab", "demo", TMPDIR=str(tmp_path)) as process:
        await said(process, f"\n{step}. ")

        async def grown() -> bool:
            return len(tree(process.pid)) > 3

        await until(grown, "the demo has started something", 10)
        footprint = Footprint.of(process.pid, tmp_path)
        if number is signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        async with asyncio.timeout(15):
            _, errors = await process.communicate()
    line = "podidentity lab: interrupted; nothing is left of the demo\n"
    assert (process.returncode, errors.decode()) == (code, line)
    assert footprint.left() == []
    assert names_in(tmp_path) == []
