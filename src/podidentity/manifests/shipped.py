"""The manifests of ``deploy/`` as this installation has them."""

from __future__ import annotations

from pathlib import Path

import podidentity
from podidentity.config.errors import ConfigError


def shipped(name: str) -> Path:
    """A manifest of ``deploy/``: beside the source tree, or inside the installed package. Raises ConfigError."""
    package = Path(podidentity.__file__).parent
    for folder in (package.parents[1] / "deploy", package / "_deploy"):
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(f"deploy/{name} is missing from this installation; install podidentity again")
