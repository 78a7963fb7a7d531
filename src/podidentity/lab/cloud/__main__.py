"""`python -m podidentity.lab.cloud`: the simulated Azure as a process of its own."""

import argparse
import asyncio
import os
import signal
import sqlite3
import sys
from pathlib import Path

import msgspec
import uvloop

from podidentity.lab.cloud.seed import SeedError, load_seed
from podidentity.lab.cloud.server import Address, CloudConfig, Running, serve


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f'"{text}" is not HOST:PORT')
    return host.strip("[]"), int(port)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="podidentity.lab.cloud", description=__doc__)
    parser.add_argument("--state-dir", type=Path, required=True, help="where the state is kept; the seed counts once")
    parser.add_argument("--seed", type=Path, required=True, help="JSON file, see podidentity.lab.cloud.seed")
    parser.add_argument("--https", type=_address, required=True, metavar="HOST:PORT", help="ARM, Entra ID, Key Vault")
    parser.add_argument("--imds", type=_address, action="append", default=[], metavar="HOST:PORT", help="repeatable")
    parser.add_argument("--tls-cert", type=Path, help="PEM; without it the services speak plain HTTP")
    parser.add_argument("--tls-key", type=Path)
    parser.add_argument("--admin-socket", type=Path, help="Unix socket of the owner's API")
    parser.add_argument("--ready-file", type=Path, help="written (JSON: where it listens) once everything is served")
    return parser.parse_args(argv)


def _announce(path: Path, running: Running) -> None:
    """Write the ready file in one step."""
    text = msgspec.json.encode({"https": running.https_url, "imds": running.imds_urls, "pid": os.getpid()})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(text)
    part.replace(path)


async def _run(config: CloudConfig, ready_file: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serve(config) as running:
        if ready_file is not None:
            _announce(ready_file, running)
        await stop.wait()


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; 0 then, 1 when it cannot start."""
    given = _arguments(argv)
    if (given.tls_cert is None) != (given.tls_key is None):
        return _fail("--tls-cert and --tls-key belong together")
    tls = (given.tls_cert, given.tls_key) if given.tls_cert else None
    try:
        config = CloudConfig(
            state_dir=given.state_dir,
            seed=load_seed(given.seed),
            https=given.https,
            imds=tuple(given.imds),
            tls=tls,
            admin_socket=given.admin_socket,
        )
        uvloop.run(_run(config, given.ready_file))
    except (SeedError, OSError, sqlite3.Error) as error:
        return _fail(str(error))
    return 0


def _fail(text: str) -> int:
    sys.stderr.write(f"podidentity lab cloud: {text}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
