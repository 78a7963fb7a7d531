"""``python -m podidentity.lab.kube``: one embedded API server, until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from podidentity.lab.kube.config import ApiConfig, Kubelets, Tls
from podidentity.lab.kube.serving import serve


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(prog="podidentity.lab.kube", description=__doc__)
    found.add_argument("--data-dir", type=Path, required=True)
    found.add_argument("--tls-cert", type=Path, required=True)
    found.add_argument("--tls-key", type=Path, required=True)
    found.add_argument("--client-ca", type=Path, required=True)
    found.add_argument("--sa-key", type=Path, required=True, help="RSA key in PEM; signs ServiceAccount tokens")
    found.add_argument("--listen", type=_address, action="append", default=[], metavar="HOST:PORT")
    found.add_argument("--unix", type=Path)
    found.add_argument("--ready-file", type=Path)
    found.add_argument("--kubelet-ca", type=Path)
    found.add_argument("--kubelet-client-cert", type=Path)
    found.add_argument("--kubelet-client-key", type=Path)
    return found


def settings(argv: Sequence[str]) -> tuple[ApiConfig, Path | None]:
    """The configuration and the ready file; argparse exits with 2 on a wrong command line."""
    args = parser().parse_args(argv)
    args.data_dir.mkdir(parents=True, exist_ok=True)
    config = ApiConfig(
        data_dir=args.data_dir,
        tls=Tls(args.tls_cert, args.tls_key, args.client_ca),
        sa_key=args.sa_key.read_bytes(),
        listen=tuple(args.listen),
        unix=args.unix,
        kubelets=Kubelets(args.kubelet_ca, args.kubelet_client_cert, args.kubelet_client_key),
        service_accounts=True,
    )
    return config, args.ready_file


async def run(config: ApiConfig, ready: Path | None) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serve(config) as running:
        if ready:
            part = ready.with_suffix(".part")
            part.write_text(f"{running.url}\n")
            part.replace(ready)
        await stop.wait()


def main() -> None:
    """Entry point: exit 1 with one line when a file or an address cannot be used."""
    try:
        config, ready = settings(sys.argv[1:])
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(config, ready))
    except OSError as error:
        sys.exit(f"podidentity.lab.kube: {error}")


if __name__ == "__main__":
    main()
