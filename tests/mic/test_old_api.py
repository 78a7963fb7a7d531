"""mic as a process in front of an API server that is too old for our CRDs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web
from tests.ports import free_port


@asynccontextmanager
async def old_api() -> AsyncIterator[str]:
    """Kubernetes 1.15: it knows none of what is asked but its version."""

    async def handle(request: web.BaseRequest) -> web.Response:
        if request.path == "/version":
            return web.json_response({"gitVersion": "v1.15.12"})
        return web.json_response({"kind": "Status", "code": 404, "reason": "NotFound", "message": "no"}, status=404)

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def kubeconfig(folder: Path, url: str) -> Path:
    """One without credentials."""
    path = folder / "config"
    text = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {}}],
    }
    path.write_text(json.dumps(text))
    return path


async def test_mic_waits_for_a_newer_api_server(tmp_path: Path) -> None:
    """It says which version is too old and which would do, in the log and at /readyz, lives on, and ends cleanly."""
    probe = free_port()
    environ = {"PATH": os.environ["PATH"], "MIC_POD_NAMESPACE": "default", "CLOUD": "AzurePublicCloud"}
    environ |= {"USE_MSI": "true", "SUBSCRIPTION_ID": "s", "TENANT_ID": "t"}
    async with old_api() as url:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "podidentity", "mic", f"--kubeconfig={kubeconfig(tmp_path, url)}"),
            *(f"--http-probe-port={probe}", f"--prometheus-port={free_port()}"),
            env=environ,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        try:
            async with asyncio.timeout(60):
                lines: list[str] = []
                while "initiating MIC Leader election" not in (lines or [""])[-1]:
                    lines.append((await process.stderr.readline()).decode())
                    assert lines[-1], "".join(lines)
                async with (
                    aiohttp.ClientSession() as session,
                    session.get(f"http://127.0.0.1:{probe}/readyz") as answer,
                ):
                    ready = answer.status, await answer.text()
                process.send_signal(signal.SIGTERM)
                rest = (await process.stderr.read()).decode()
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()
    complaint = "Kubernetes v1.15.12 is too old: it has no CRDs in apiextensions.k8s.io/v1; upgrade to v1.16 or later"
    assert any(line.startswith("E") and complaint in line for line in lines)
    assert ready[0] == 503
    assert complaint in ready[1]
    assert "Traceback" not in rest
