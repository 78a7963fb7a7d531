"""csi-provider as a client of a restricted nmi: through its socket, or with a token that says who is asking."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web

from podidentity.config.csi import csi_settings
from podidentity.csi.errors import MountError
from podidentity.csi.nmi import NmiClient


async def test_socket_and_token_are_used(tmp_path: Path) -> None:
    """The request goes through the socket and carries the token as it is now, for the kubelet renews it."""
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return web.json_response({"token": {"access_token": "a.b.c"}, "clientid": "c"})

    app = web.Application()
    app.router.add_get("/host/token/", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    path, token = tmp_path / "nmi.sock", tmp_path / "token"
    await web.UnixSite(runner, str(path)).start()
    client = NmiClient("http://127.0.0.1:9", unix_socket=str(path), token_file=str(token))
    try:
        for text in ("one\n", "two"):
            token.write_text(text)
            assert (await client.token("r", pod_namespace="team", pod_name="web")).reveal() == "a.b.c"
        assert seen == ["Bearer one", "Bearer two"]
        token.unlink()
        with pytest.raises(MountError, match="the token to show to nmi cannot be read"):
            await client.token("r", pod_namespace="team", pod_name="web")
    finally:
        await client.close()
        await runner.cleanup()


def test_flags() -> None:
    """Both are off unless asked for: the original's nmi knows neither."""
    assert (csi_settings([], {}).nmi_socket, csi_settings([], {}).nmi_token_file) == ("", "")
    given = csi_settings(["--nmi-socket=/run/podidentity/s", "-nmi-token-file", "/t"], {})
    assert (given.nmi_socket, given.nmi_token_file) == ("/run/podidentity/s", "/t")
