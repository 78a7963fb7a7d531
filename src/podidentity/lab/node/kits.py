"""Clients that images of the lab run and that this project's environment does not have: `make` puts them in the cache.

A kit is a folder of that cache: programs in ``bin`` or modules of node in ``node_modules``, and ``ok``, written last.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from podidentity.lab.programs import cache_root

AZURE_CLI: Final = "azure-cli"
SDK_JS: Final = "sdk-js"
KITS: Final = (AZURE_CLI, SDK_JS)


def installed(environ: Mapping[str, str]) -> dict[str, str]:
    """The folders of the kits that are there, by name."""
    root = cache_root(environ)
    return {name: str(root / name) for name in KITS if (root / name / "ok").is_file()}


def code_of(folder: str) -> list[str]:
    """The directories a kit needs: its own and, where it has a Python, that one's installation."""
    python = Path(folder, "bin/python")
    return [folder, *([str(python.resolve().parents[1])] if python.exists() else [])]


def environment_of(folder: str, path: str) -> dict[str, str]:
    """The variables by which a container finds what is in a kit; ``path`` is its PATH without it."""
    return {"PATH": os.pathsep.join((f"{folder}/bin", path)), "NODE_PATH": f"{folder}/node_modules"}


def missing(name: str) -> str:
    """The message of a pull that needs a kit that is not there."""
    return f"what it runs is not on this machine; `make {name}` in a checkout installs it, then start the lab anew"
