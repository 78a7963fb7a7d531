"""Runs the programs that change packet filters."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from podidentity.config.errors import ConfigError

_TIMEOUT_SECONDS: Final = 20.0
_PACKAGES: Final = {"nft": "nftables"}

Run = Callable[[tuple[str, ...], str], Awaitable[str]]


class DatapathFailed(Exception):  # noqa: N818 - what the program said
    """The program refused; ``str`` is its first line."""


async def run_program(command: Sequence[str], text: str) -> str:
    """Run ``command`` with ``text`` on its standard input and return what it prints.

    Raises ConfigError when the program is not installed or may not run, DatapathFailed when it refuses.
    """
    name = command[0]
    try:
        done = await asyncio.to_thread(
            subprocess.run, command, input=text.encode(), capture_output=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except FileNotFoundError:
        raise ConfigError(
            f"{name} is not installed, so pods cannot be kept off the metadata endpoint; "
            f"add {_PACKAGES.get(name, 'iptables')}"
        ) from None
    except OSError as error:
        raise ConfigError(f"{name} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise DatapathFailed(f"{name} did not end within {_TIMEOUT_SECONDS} seconds") from None
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise DatapathFailed(lines[0] if lines else f"{name} ended with {done.returncode}")
    return done.stdout.decode(errors="replace")
