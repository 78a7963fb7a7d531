"""``python benchmarks/run.py [--quick] [--markdown] [NAMES...]``: measure and print tables.

Nothing leaves this machine: traffic is on loopback or inside a lab's own namespaces. ``--quick`` measures a small case
of each, to see that the benchmarks themselves work; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable, Mapping

from rich.console import Console

import agent
import assignment
import clusters
import events
import hostile
import memory
import mounts
import scale
import start
import tokens
import waiting
from podidentity.aio.signals import until_signal
from podidentity.config.errors import ConfigError
from processes import ProcessError
from report import Report, markdown, show

Benchmark = Callable[[bool], Awaitable[Report]]
BENCHMARKS: Mapping[str, Benchmark] = {
    "events": events.measure,
    "scale": scale.measure,
    "start": start.measure,
    "assignment": assignment.measure,
    "clusters": clusters.measure,
    "tokens": tokens.measure,
    "agent": agent.measure,
    "waiting": waiting.measure,
    "hostile": hostile.measure,
    "mounts": mounts.measure,
    "rss": memory.measure,
}


def _load() -> str:
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


async def _run(names: list[str], console: Console, *, quick: bool, for_page: bool) -> None:
    console.print(
        f"Python {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} cores, load {_load()}"
        " (1, 5, 15 minutes; an idle machine gives the best figures)",
        highlight=False,
    )
    for name in names:
        begun = time.monotonic()
        report = await BENCHMARKS[name](quick)
        if for_page:
            sys.stdout.write(f"\n{markdown(report)}\n")
        else:
            show(console, report, time.monotonic() - begun)


def main() -> int:
    """Entry point; 2 for a name that is not known."""
    parser = argparse.ArgumentParser(prog="benchmarks/run.py", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small case of each")
    parser.add_argument("--markdown", action="store_true", help="tables as docs/reference/benchmarks.md has them")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"{', '.join(unknown)}: not known; the tables are {', '.join(BENCHMARKS)}")
    wide = None if sys.stdout.isatty() else 130
    work = _run(given.names or list(BENCHMARKS), Console(width=wide), quick=given.quick, for_page=given.markdown)
    try:
        asyncio.run(until_signal(work))
    except (ConfigError, ProcessError) as error:
        sys.stderr.write(f"benchmarks: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
