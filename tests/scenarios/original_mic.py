"""Stands in for the original's mic: contends for the Endpoints record and renews it; it does not release it."""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SERVER = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
ENDPOINTS = "/api/v1/namespaces/default/endpoints"
NAME = "aad-pod-identity-mic"
ANNOTATION = "control-plane.alpha.kubernetes.io/leader"
LEASE = int(sys.argv[1])
ME = socket.gethostname()


class Healthy(BaseHTTPRequestHandler):
    """The probe."""

    def do_GET(self) -> None:
        """Say that all is well."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"Active")


def call(method: str, path: str, body: object = None) -> Any:
    """Ask the API server; None when the object is not there or is somebody else's by now."""
    headers = {"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{SERVER}{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=ACCOUNT / "ca.crt")) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code in {404, 409}:
            return None
        raise


def record() -> str:
    """What it writes."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = {"holderIdentity": ME, "leaseDurationSeconds": LEASE, "acquireTime": now, "renewTime": now}
    return json.dumps({**found, "leaderTransitions": 1})


def main() -> None:
    """Contend until it is killed: a record is free when its holder is empty or it has not changed for a lease."""
    threading.Thread(target=ThreadingHTTPServer(("0.0.0.0", 8080), Healthy).serve_forever, daemon=True).start()
    seen, since = "", time.monotonic()
    while True:
        found = call("GET", f"{ENDPOINTS}/{NAME}")
        text = "" if found is None else found["metadata"].get("annotations", {}).get(ANNOTATION, "")
        if text != seen:
            seen, since = text, time.monotonic()
        holder = json.loads(text).get("holderIdentity", "") if text else ""
        if found is None:
            metadata = {"name": NAME, "namespace": "default", "annotations": {ANNOTATION: record()}}
            call("POST", ENDPOINTS, {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata})
        elif holder in {"", ME} or time.monotonic() - since > LEASE:
            found["metadata"].setdefault("annotations", {})[ANNOTATION] = record()
            call("PUT", f"{ENDPOINTS}/{NAME}", found)
        time.sleep(LEASE / 4)


main()
