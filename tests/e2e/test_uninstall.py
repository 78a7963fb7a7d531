"""The uninstall page, typed with the real kubectl in a lab where pods still use their identities."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest
from tests.e2e.conftest import new_lab
from tests.e2e.stage import CUSTOM, DEFAULT, Stage

from podidentity.lab.cluster import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/howto/uninstall.md"


async def typed(script: str, kubeconfig: Path, kubectl: str) -> str:
    """What a shell prints that runs a block of the page; it has to succeed."""
    environ = {**os.environ, "KUBECONFIG": str(kubeconfig), "PATH": f"{Path(kubectl).parent}:{os.environ['PATH']}"}
    process = await asyncio.create_subprocess_exec(
        *("bash", "-ec", script),
        cwd=ROOT,
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.timeout(240)
async def test_uninstall_leaves_nothing() -> None:
    """Protects who leaves: after the page's commands no identity is on a host, no record hangs, no object is left."""
    drain, _, delete = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    kubectl = Cluster.find_kubectl()
    if kubectl is None:
        pytest.skip("kubectl is not there: make kube-assets")
    async with new_lab(nodes=1, kubectl=kubectl) as lab:
        stage = Stage(lab)
        await stage.assign_roles()
        before = await stage.attached()
        await stage.install()
        await stage.identity("leaves")
        await stage.pod("leaves", label="leaves-binding")
        await stage.ready("leaves", within=60)
        assert (await stage.ask("leaves")).status == 200
        assert len(await stage.attached()) == len(before) + 1
        await typed(drain, lab.layout.kubeconfig, str(kubectl))
        assert await stage.attached() == before
        assert await lab.cluster.objects(f"{CUSTOM}/azureassignedidentities") == []
        log = await lab.cluster.client.raw("GET", f"{DEFAULT}/pods/mic-drain/log")
        assert b"drained: no assigned identity is left" in log
        await typed(delete, lab.layout.kubeconfig, str(kubectl))
        left = [str(pod["metadata"]["name"]) for pod in await lab.cluster.objects(f"{DEFAULT}/pods")]  # type: ignore[index]  # JSON
        assert not [name for name in left if name.startswith(("mic", "nmi"))]
