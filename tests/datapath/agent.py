"""Run in a node's network namespace: a small API server, and the real nmi against it until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path

import uvloop
from aiohttp import web

from podidentity.aio.signals import until_signal
from podidentity.config.errors import ConfigError
from podidentity.config.nmi import nmi_settings
from podidentity.nmi.app import run
from podidentity.telemetry.logging import configure_logging


def app(objects: dict[str, list[object]]) -> web.Application:
    """Return an API server that lists ``objects`` by plural, and whose watches stay silent."""

    async def answer(request: web.Request) -> web.StreamResponse:
        plural = request.path.rpartition("/")[2]
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": objects.get(plural, [])})
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.sleep(60)
        return response

    found = web.Application()
    found.router.add_get("/{path:.*}", answer)
    return found


async def main(folder: Path, argv: list[str]) -> int:
    """Serve and run."""
    runner = web.AppRunner(app(json.loads((folder / "objects.json").read_text())), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 6443, reuse_port=True)
    await site.start()
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:6443"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (folder / "kubeconfig").write_text(json.dumps(config))
    configure_logging(log_format="text", verbosity=0)
    try:
        settings = nmi_settings(argv, {"KUBECONFIG": str(folder / "kubeconfig")})
        await until_signal(run(settings))
    except ConfigError as error:
        sys.stderr.write(f"podidentity nmi: {error}\n")
        return 1
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await runner.cleanup()
    return 0


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as uv:
        sys.exit(uv.run(main(Path(sys.argv[1]), sys.argv[2:])))
