"""What the three components share between their settings and their loop."""

from __future__ import annotations

import asyncio
from asyncio.sslproto import SSLProtocol
from typing import TYPE_CHECKING, Final, Protocol

from podidentity.aio.signals import until_signal
from podidentity.config.settings import CommonSettings, describe
from podidentity.telemetry.logging import configure_logging, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_TLS_BUFFER: Final = 64 * 1024
"""Bytes of each TLS connection's read buffer. asyncio's own is 256 KiB, all of it resident; a record is at most 16."""


class Loggable(Protocol):
    """Settings of any component, as far as logging needs them."""

    @property
    def log_format(self) -> str:
        """``text`` or ``json``."""

    @property
    def verbosity(self) -> int:
        """Verbosity as klog counts it."""


def start_logging(settings: CommonSettings, style: Loggable) -> None:
    """Configure the log, then say which settings are in force and which of those given have no effect."""
    configure_logging(log_format=style.log_format, verbosity=style.verbosity)
    log = get_logger()
    for notice in settings.notices:
        log.warning(notice)
    shown = {name: text for name, text in describe(settings).items() if text and name != "notices"}
    get_logger(**shown).info("settings")


def serve(
    work: Coroutine[object, object, None], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> int:
    """Run a component until it ends or SIGTERM or SIGINT comes; 0."""
    SSLProtocol.max_size = _TLS_BUFFER
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(until_signal(work))
    return 0
