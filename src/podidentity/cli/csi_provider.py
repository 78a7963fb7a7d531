"""``podidentity csi-provider``."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from podidentity.cli.component import serve, start_logging
from podidentity.config.build import Build
from podidentity.config.csi import FLAGS, csi_settings
from podidentity.config.errors import VersionRequested

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FLAGS", "main"]


def main(argv: Sequence[str]) -> int:
    """Run csi-provider with the arguments after its name."""
    try:
        settings = csi_settings(argv, os.environ)
    except VersionRequested:
        build = Build.of(os.environ)
        print(json.dumps({"version": build.version, "buildDate": build.date}))
        return 0
    from podidentity.csi.app import run  # noqa: PLC0415 - a wrong command line is answered without loading gRPC

    start_logging(settings, settings)
    return serve(run(settings))
