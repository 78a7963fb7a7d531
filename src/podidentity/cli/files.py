"""Files that people name on a command line: read whole, but not whatever their size; ``-`` is stdin."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from podidentity.config.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_FILE: Final = 32 * 1024 * 1024
"""Bytes; a terraform state's outputs are a thousandth of it."""

T = TypeVar("T")


def read_file(path: Path, read: Callable[[bytes], T]) -> T:
    """What ``read`` makes of the file; its ConfigError is said with the file's name. Raises ConfigError, OSError."""
    data = _content(path)
    try:
        return read(data)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _content(path: Path) -> bytes:
    if str(path) == "-":
        if sys.stdin is None:  # it is when the caller closed it
            raise ConfigError("-: stdin is closed")
        data = sys.stdin.buffer.read(MAX_FILE + 1)
    else:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise ConfigError(f"{path}: is larger than {MAX_FILE // 1024**2} MiB; this is not what is asked for")
    return data
