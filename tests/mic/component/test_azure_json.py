"""azure.json as the shipped manifests mount it: the file itself, which stays the old one when it is replaced."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from tests.mic.component.conftest import ROOT, SUB, Site, kubeconfig, read_until
from tests.ports import free_port

from podidentity.api.resources import LEASES

MOUNTED = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'


def azure_json(path: Path, secret: str) -> None:
    """Replace the file atomically, as tools on a node do."""
    fields = {"cloud": "AzurePublicCloud", "tenantId": SUB, "subscriptionId": SUB}
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({**fields, "aadClientId": "mic", "aadClientSecret": secret}))
    os.replace(fresh, path)  # noqa: PTH105 - the atomic replacement is the point


def unshare() -> list[str]:
    """A command in a mount namespace of its own; a test skips where the system refuses them."""
    program = shutil.which("unshare")
    if program is None:
        pytest.skip("unshare (util-linux) is not installed; install it")
    return [program, "--user", "--map-root-user", "--mount"]


async def test_a_replaced_file_mount_ends_mic(site: Site, tmp_path: Path) -> None:
    """Rotated credentials reach a mic whose azure.json is mounted as a file: it ends cleanly, to be mounted anew."""
    (tmp_path / "config").write_text(json.dumps(kubeconfig(site)))
    node, mounted = tmp_path / "node.json", tmp_path / "azure.json"
    azure_json(node, "first")
    mounted.touch()
    flags = [f"--kubeconfig={tmp_path / 'config'}", f"--cloudconfig={mounted}", "--leader-election-instance=one"]
    ports = [f"--http-probe-port={free_port()}", f"--prometheus-port={free_port()}"]
    mic = [sys.executable, "-m", "podidentity", "mic", *flags, *ports]
    environ = {"MIC_POD_NAMESPACE": "default", "PYTHONPATH": str(ROOT / "src"), "PATH": os.environ["PATH"]}
    command = [*unshare(), "sh", "-c", MOUNTED, "sh", str(node), str(mounted), *mic]
    process = await asyncio.create_subprocess_exec(*command, env=environ, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    lines: list[str] = []
    try:
        async with asyncio.timeout(90):
            await read_until(process.stderr, lines, "sync thread started.")
            azure_json(node, "second")
            await read_until(process.stderr, lines, "was replaced")
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lease = await site.client.get(LEASES, "aad-pod-identity-mic", "default")
    assert not lease.spec.holder_identity
