"""Asks for tokens with azure-identity as it is, a credential for each row; waits between tries are counted, not slept.

Rows as JSON on standard input: ``[{"row": ..., "resource": ..., "by": ..., "id": ...}]``, one JSON line for each comes
back. ``by`` is how the identity is named: client_id, object_id, resource_id, nothing, or default (the usual chain).
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

from azure.core.pipeline.transport import RequestsTransport
from azure.identity import DefaultAzureCredential, ManagedIdentityCredential


class Impatient(RequestsTransport):
    """The usual transport, whose pauses take no time."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = 0.0

    def sleep(self, duration: float) -> None:
        """Count the pause."""
        self.waited += duration


def credential_for(row: dict[str, str], transport: Impatient) -> ManagedIdentityCredential | DefaultAzureCredential:
    """Return the credential that asks as the row says."""
    if row["by"] == "default":
        return DefaultAzureCredential(transport=transport)
    if row["by"] == "client_id":
        return ManagedIdentityCredential(client_id=row["id"], transport=transport)
    named = {row["by"]: row["id"]} if row["by"] else None
    return ManagedIdentityCredential(identity_config=named, transport=transport)


def ask(row: dict[str, str]) -> dict[str, object]:
    """Return what came of one row."""
    transport = Impatient()
    with credential_for(row, transport) as credential:
        try:
            outcome, words = "token", credential.get_token(f"{row['resource']}/.default").token
        except Exception as error:  # noqa: BLE001 - what it raises is the question
            outcome, words = type(error).__name__, str(error)
    return {"row": row["row"], "outcome": outcome, "waited": transport.waited, "words": words}


rows = json.load(sys.stdin)
with ThreadPoolExecutor(len(rows)) as pool:
    for done in pool.map(ask, rows):
        print(json.dumps(done))  # noqa: T201 - what the test reads
