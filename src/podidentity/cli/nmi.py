"""``podidentity nmi``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from podidentity.cli.component import serve, start_logging
from podidentity.config.build import Build
from podidentity.config.errors import VersionRequested
from podidentity.config.nmi import FLAGS, nmi_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FLAGS", "main"]


def main(argv: Sequence[str]) -> int:
    """Run nmi with the arguments after its name, on uvloop: it serves every token request of a node."""
    try:
        settings = nmi_settings(argv, os.environ)
    except VersionRequested:
        print(Build.of(os.environ).line)
        return 0
    import uvloop  # noqa: PLC0415 - a wrong command line is answered without loading it

    from podidentity.nmi.app import run  # noqa: PLC0415 - as above

    start_logging(settings, settings)
    return serve(run(settings), uvloop.new_event_loop)
