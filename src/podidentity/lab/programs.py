"""Where Kubernetes' own programs are: kube-apiserver, etcd and the others that ``make kube-assets`` provides.

Looked for in ``KUBEBUILDER_ASSETS``, then in the cache that ``make kube-assets`` fills, then on PATH.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from podidentity.config.errors import ConfigError

DEFAULT_MINOR: Final = "1.34"
HOW: Final = "`make kube-assets` in a checkout builds it, KUBEBUILDER_ASSETS names a folder that has it"


@dataclass(frozen=True, slots=True)
class Programs:
    """The folders to look in, first to last."""

    folders: tuple[Path, ...]

    def find(self, name: str) -> Path | None:
        """The program's path, None where there is none."""
        for folder in self.folders:
            if os.access(folder / name, os.X_OK):
                return folder / name
        found = shutil.which(name)
        return Path(found) if found else None

    def require(self, name: str) -> Path:
        """The program's path; ConfigError says how to get one that is missing."""
        if found := self.find(name):
            return found
        raise ConfigError(f"{name} is not on this machine; {HOW}")


def cache_root(environ: Mapping[str, str]) -> Path:
    """The cache that the Makefile fills."""
    base = Path(environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        base = Path(environ.get("HOME", "/")) / ".cache"
    return base / "podidentity"


def cache_folder(environ: Mapping[str, str]) -> Path:
    """The part of the cache for the Kubernetes minor in ``KUBE_MINOR`` (the default one without)."""
    return cache_root(environ) / f"kube-{environ.get('KUBE_MINOR') or DEFAULT_MINOR}"


def programs(environ: Mapping[str, str]) -> Programs:
    """Where this environment says to look."""
    named = environ.get("KUBEBUILDER_ASSETS")
    return Programs((*([Path(named)] if named else []), cache_folder(environ)))
