"""What the components share before their loop."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.sslproto import SSLProtocol

import pytest
import uvloop

from podidentity.cli.component import serve, start_logging
from podidentity.config.csi import csi_settings
from podidentity.config.mic import mic_settings
from podidentity.telemetry.logging import configure_logging


def test_settings_and_notices_are_logged_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    """The start says what is in force and what has no effect, and never the client secret."""
    environ = {"MIC_POD_NAMESPACE": "default", "CLIENT_SECRET": "hunter2"}
    settings = mic_settings(["--enableScaleFeatures", "--clientQps=7"], environ, "h")
    start_logging(settings, settings)
    notice, shown = capsys.readouterr().err.splitlines()
    assert notice.endswith("] --enableScaleFeatures has no effect")
    assert notice.startswith("W")
    assert "] settings " in shown
    assert " client_qps=7 " in shown
    assert "hunter2" not in shown


def test_the_log_format_follows_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    """The provider's own spelling of the JSON flag works too."""
    settings = csi_settings(["--log-format-json"], {})
    start_logging(settings, settings)
    configure_logging(log_format="text", verbosity=0)
    assert capsys.readouterr().err.startswith('{"ts":')


@pytest.mark.parametrize("factory", [None, uvloop.new_event_loop])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_normal_end(factory: type[asyncio.AbstractEventLoop] | None, number: signal.Signals) -> None:
    """On either loop SIGTERM and SIGINT let the component tidy up, and the exit code is 0."""
    steps: list[str] = []

    async def work() -> None:
        os.kill(os.getpid(), number)
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0)
            steps.append("tidied")

    assert serve(work(), factory) == 0
    assert steps == ["tidied"]


def test_a_tls_connection_is_cheap() -> None:
    """Protects the memory of a component with many machines: asyncio's own buffer is 256 KiB a connection."""
    sizes: list[int] = []

    async def work() -> None:
        sizes.append(SSLProtocol.max_size)

    assert serve(work()) == 0
    assert sizes == [64 * 1024]
