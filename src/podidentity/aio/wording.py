"""What libraries say of errors, made fit for a person (pure)."""

from __future__ import annotations

import re
from typing import Final

_SSL: Final = re.compile(r" ssl:(<[^>]*>|\S+)")
"""aiohttp puts the representation of the TLS context, an address in memory, between host and reason."""


def connection_error(error: BaseException) -> str:
    """What a connection failed of, in one line; the error's type where it says nothing."""
    return " ".join(_SSL.sub("", str(error)).split()) or type(error).__name__
