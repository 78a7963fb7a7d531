"""azure-cli as it is; see the package for what is asked and reported.

An ask is the commands that ``steps`` names, in a configuration directory of its own: login, secret (of the vault,
reported as ``secret``), token (for the resource). The outcome of one that fails is the command that did.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

ORDER = json.loads(sys.argv[1])
WRITING = Lock()
OPTIONS = {"client_id": "--client-id", "object_id": "--object-id", "resource_id": "--resource-id"}


def commands(by: str, identity: str) -> dict[str, list[str]]:
    """What a person types, by what it is for."""
    named = [OPTIONS[by], identity] if by else []
    vault, secret = ORDER["vault"].split("/")
    return {
        "login": ["login", "--identity", *named, "--allow-no-subscriptions"],
        "secret": ["keyvault", "secret", "show", "--vault-name", vault, "--name", secret, "--query", "value"],
        "token": ["account", "get-access-token", "--resource", ORDER["resource"], "--query", "accessToken"],
    }


def ask(way: str, by: str, identity: str) -> None:
    """Ask once, and report."""
    begun = time.monotonic()
    said: dict[str, str] = {}
    outcome = "token"
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "AZURE_CONFIG_DIR": folder, "AZURE_CORE_COLLECT_TELEMETRY": "no"}
        typed = commands(by, identity)
        for name in ORDER["steps"]:
            words = typed[name]
            done = subprocess.run(
                ["az", *words, "--output", "tsv"], env=environ, capture_output=True, text=True, check=False
            )
            said[name] = (done.stdout if done.returncode == 0 else done.stderr).strip()
            if done.returncode:
                outcome = f"az {words[0]}"
                break
    found = {"way": way, "outcome": outcome, "begun": begun, "seconds": time.monotonic() - begun}
    found |= {"words": list(said.values())[-1], "secret": said.get("secret", "")}
    with WRITING:
        print(json.dumps(found), flush=True)  # noqa: T201 - what the test reads


def go_on(way: str, by: str, identity: str) -> None:
    """Ask once, or until the file is there."""
    ask(way, by, identity)
    while ORDER["stop"] and not Path(ORDER["stop"]).exists():
        ask(way, by, identity)


with ThreadPoolExecutor(len(ORDER["ways"])) as pool:
    for done in [pool.submit(go_on, way, *how) for way, how in ORDER["ways"].items()]:
        done.result()
