"""azure-identity as it is; see the package for what is asked and reported."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

ORDER = json.loads(sys.argv[1])
WRITING = Lock()


def credential(by: str, identity: str) -> ManagedIdentityCredential | DefaultAzureCredential:
    """A new credential, which has no token yet."""
    if by == "default":
        return DefaultAzureCredential()
    if by == "client_id":
        return ManagedIdentityCredential(client_id=identity)
    return ManagedIdentityCredential(identity_config={by: identity} if by else None)


def ask(way: str, by: str, identity: str) -> None:
    """Ask once, and report."""
    begun = time.monotonic()
    try:
        with credential(by, identity) as asked:
            outcome, words = "token", asked.get_token(f"{ORDER['resource']}/.default").token
    except Exception as error:  # noqa: BLE001 - what it raises is the question
        outcome, words = type(error).__name__, str(error)
    found = {"way": way, "outcome": outcome, "begun": begun, "seconds": time.monotonic() - begun, "words": words}
    with WRITING:
        print(json.dumps(found), flush=True)  # noqa: T201 - what the test reads


def go_on(way: str, by: str, identity: str) -> None:
    """Ask once, or until the file is there."""
    ask(way, by, identity)
    while ORDER["stop"] and not Path(ORDER["stop"]).exists():
        time.sleep(0.3)
        ask(way, by, identity)


with ThreadPoolExecutor(len(ORDER["ways"])) as pool:
    for done in [pool.submit(go_on, way, *how) for way, how in ORDER["ways"].items()]:
        done.result()
