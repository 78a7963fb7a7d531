"""Stands in for the original nmi on a node: holds its chain, passes token requests on, opens the node at its end."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CHAIN = ("-t", "nat")
TARGET = "-d 169.254.169.254/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 127.0.0.1:2579"
JUMP = ("PREROUTING", "-j", "aad-metadata")
SERVES_ON = 3.0
"""Seconds it answers after its redirect is gone; the original does for ten."""


class Answers(BaseHTTPRequestHandler):
    """Asks the metadata service what it was asked."""

    def do_GET(self) -> None:
        """Pass one request on."""
        if self.path == "/healthz":
            self._answer(200, b"Active")
            return
        asked = urllib.request.Request(f"http://169.254.169.254{self.path}", headers={"Metadata": "true"})
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                self._answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            self._answer(error.code, error.read())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def iptables(*words: str) -> None:
    """Change the table; fails when it cannot."""
    subprocess.run(["iptables", "-w", "5", *CHAIN, *words], check=True)


def install() -> None:
    """Put the chain as the original has it; kube-proxy would allow the way to loopback."""
    Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1")
    with contextlib.suppress(subprocess.CalledProcessError):
        iptables("-N", "aad-metadata")
    iptables("-F", "aad-metadata")
    iptables("-A", "aad-metadata", "!", "-s", "127.0.0.1/32", *TARGET.split())
    iptables("-A", "aad-metadata", "-j", "RETURN")
    iptables("-I", JUMP[0], "1", *JUMP[1:])


def main() -> None:
    """Serve until SIGTERM, then as the original ends."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    for address in (("127.0.0.1", 2579), ("0.0.0.0", 8085)):
        threading.Thread(target=ThreadingHTTPServer(address, Answers).serve_forever, daemon=True).start()
    install()
    ended.wait()
    iptables("-D", *JUMP)
    iptables("-F", "aad-metadata")
    iptables("-X", "aad-metadata")
    time.sleep(SERVES_ON)


main()
