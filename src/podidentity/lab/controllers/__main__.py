"""``python -m podidentity.lab.controllers``: the controllers of one cluster, until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from podidentity.aio.signals import until_signal
from podidentity.config.errors import ConfigError
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import KubeError
from podidentity.kube.target import KubeSettings
from podidentity.lab.controllers.app import App
from podidentity.telemetry.logging import configure_logging


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(prog="podidentity.lab.controllers", description=__doc__)
    where = found.add_mutually_exclusive_group(required=True)
    where.add_argument("--server", metavar="URL")
    where.add_argument("--unix", metavar="PATH", help="the API's Unix socket (TLS there too)")
    found.add_argument("--ca", type=Path, required=True)
    found.add_argument("--cert", required=True)
    found.add_argument("--key", required=True)
    found.add_argument("--ready-file", type=Path)
    found.add_argument("--no-housekeeping", action="store_true", help="leave garbage and namespaces to somebody else")
    return found


async def run(args: argparse.Namespace) -> None:
    """Control until cancelled."""
    settings = KubeSettings(
        server=args.server or "https://kubernetes.default.svc",
        unix_socket=args.unix or "",
        ca_file=str(args.ca),
        client_cert_file=args.cert,
        client_key_file=args.key,
    )

    def ready() -> None:
        if args.ready_file:
            part = args.ready_file.with_suffix(".part")
            part.write_text("ready\n")
            part.replace(args.ready_file)

    async with KubeClient(settings, user_agent="podidentity-lab-controllers") as client:
        rng = random.Random()  # noqa: S311 - spreads retries, guards nothing
        app = App(client, ca=args.ca.read_text(), housekeeping=not args.no_housekeeping, rng=rng)
        await app.run(ready)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point: exit 1 with one line when the API or a file cannot be used."""
    args = parser().parse_args(argv)
    configure_logging(log_format="text", verbosity=0)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(until_signal(run(args)))
    except (OSError, ConfigError, KubeError) as error:
        sys.exit(f"podidentity.lab.controllers: {error}")


if __name__ == "__main__":
    main()
