"""A kubelet's exec probe: ``python -I -m podidentity.probe SOCKET PATH`` succeeds when that answers 200.

For two agents on one node: a probe by port could be answered by the other one. Loads nothing of the product.
"""

from __future__ import annotations

import socket
import sys

_SECONDS = 4.0


def main(where: str, path: str) -> int:
    """Ask; print what is wrong."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
            asked.settimeout(_SECONDS)
            asked.connect(where)
            asked.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            answer = b"".join(iter(lambda: asked.recv(65536), b""))
    except OSError as error:
        sys.stdout.write(f"{where}: {error}\n")
        return 1
    head, _, body = answer.partition(b"\r\n\r\n")
    sys.stdout.write(body.decode(errors="replace"))
    return 0 if head.split(b" ")[1:2] == [b"200"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
