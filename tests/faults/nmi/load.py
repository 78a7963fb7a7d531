"""What the pods of the fault table run: they ask for tokens all the time and write down what they were answered.

Each line they write, five a second, is one :class:`Heard` as JSON. A token is told by the client id of its claims.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

FOLDER: Final = "/var/lib/heard"
"""Where the pods write, on their node."""

WRITER: Final = """
import base64, json, os, time

class Writer:
    def __init__(self):
        self.file = open(os.environ["HEARD"], "a", buffering=1)
        self.tokens, self.other = {}, {}
        self.since = self.last = time.time()
        self.gap = 0.0
    def token(self, text):
        claims = json.loads(base64.urlsafe_b64decode(text.split(".")[1] + "=="))
        who = claims["appid"] if claims["exp"] > time.time() else "expired"
        self.tokens[who] = self.tokens.get(who, 0) + 1
        now = time.time()
        self.gap, self.last = max(self.gap, now - self.last), now
        self.tell()
    def failure(self, word):
        self.other[word] = self.other.get(word, 0) + 1
        self.tell()
    def tell(self):
        now = time.time()
        if now - self.since < 0.2:
            return
        line = {"since": self.since, "at": now, "tokens": self.tokens, "other": self.other}
        self.file.write(json.dumps({**line, "gap": self.gap, "last": self.last}) + chr(10))
        self.tokens, self.other, self.since, self.gap = {}, {}, now, 0.0
"""

RAW: Final = (
    WRITER
    + """
import http.client, itertools
PATH = "/metadata/identity/oauth2/token?api-version=2018-02-01"
RESOURCES = ("https://vault.azure.net", "https://management.azure.com/")
writer, pause, kept = Writer(), float(os.environ["PAUSE"]), None
named = os.environ["NAMED"] and "&client_id=" + os.environ["NAMED"]
for number in itertools.count():
    connection = kept or http.client.HTTPConnection("169.254.169.254", timeout=5)
    fresh, kept = kept is None, None
    bypass = "&bypass_cache=true" if number % 50 == 49 else ""
    query = named + "&resource=" + RESOURCES[number % 2] + bypass
    try:
        connection.request("GET", PATH + query, headers={"Metadata": "true"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == 200:
            writer.token(json.loads(body)["access_token"])
        else:
            writer.failure(str(answer.status))
        kept = connection if not answer.will_close and number % 10 else None
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        writer.failure(type(error).__name__ + ("" if fresh else " on a kept connection"))
    if kept is None:
        connection.close()
    time.sleep(pause)
"""
)

SDK: Final = (
    WRITER
    + """
from azure.core.exceptions import AzureError
from azure.identity import ManagedIdentityCredential
writer, pause = Writer(), float(os.environ["PAUSE"])
while True:
    try:
        with ManagedIdentityCredential() as credential:
            writer.token(credential.get_token("https://vault.azure.net/.default").token)
    except AzureError as error:
        writer.failure(type(error).__name__)
    time.sleep(pause)
"""
)
"""The unmodified SDK with its own retries; a credential for each token, since a credential keeps its tokens."""


class Heard(msgspec.Struct, frozen=True):
    """What one pod was told between ``since`` and ``at`` (seconds since the epoch).

    ``tokens`` by the client id in them, ``other`` by status or error; ``gap``: the longest time between two tokens that
    ended here; ``last``: when the latest token came, the pod's start if none has.
    """

    since: float
    at: float
    tokens: dict[str, int]
    other: dict[str, int]
    gap: float
    last: float


class Reader:
    """Reads on in a file that a pod writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def read(self) -> list[Heard]:
        """What is new, whole lines only."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(newline)
        return [msgspec.json.decode(line, type=Heard) for line in whole.splitlines()]
