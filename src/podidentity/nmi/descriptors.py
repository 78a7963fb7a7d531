"""How many connections this process has room for: each is a file descriptor."""

from __future__ import annotations

import resource
from typing import Final

KEPT: Final = 256
"""Descriptors for everything but pods' connections: listeners, the API, IMDS, netlink, files."""


def room(wanted: int) -> int:
    """Raise the soft limit of open files to the hard one; return how many of ``wanted`` connections then fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return wanted if hard == resource.RLIM_INFINITY else max(1, min(wanted, hard - KEPT))
