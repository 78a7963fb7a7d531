"""``podidentity mic``."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from podidentity.cli.component import serve, start_logging
from podidentity.config.build import Build
from podidentity.config.errors import VersionRequested
from podidentity.config.mic import FLAGS, mic_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FLAGS", "main"]


def main(argv: Sequence[str]) -> int:
    """Run mic with the arguments after its name."""
    try:
        settings = mic_settings(argv, os.environ, socket.gethostname())
    except VersionRequested:
        print(Build.of(os.environ).line)
        return 0
    from podidentity.mic.app import run  # noqa: PLC0415 - a wrong command line is answered without loading it

    start_logging(settings, settings)
    return serve(run(settings))
