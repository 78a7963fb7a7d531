"""Steps in which a pod asks with the unmodified azure-identity."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

from tests.scenarios.scene import VAULT, Scene, claims
from tests.scenarios.steps import Condition, Object, Step

LOG = "/tmp/azure.log"
PROGRAM = f"""
import json, logging, sys
logging.basicConfig(filename={LOG!r}, level=logging.DEBUG)
from azure.identity import ManagedIdentityCredential
with ManagedIdentityCredential(**json.loads(sys.argv[1])) as credential:
    print(credential.get_token({VAULT + "/.default"!r}).token)
"""
WAITING = f"""
from azure.identity import ManagedIdentityCredential
with ManagedIdentityCredential() as credential:
    credential.get_token({VAULT + "/.default"!r})
"""
"""What an init container runs: it ends well when there is a token."""
HEADERS = """
import json, sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers={"Metadata": "true"}), timeout=60)
except urllib.error.HTTPError as error:
    answer = error
print(json.dumps([answer.status, dict(answer.headers)]))
"""


@dataclass(frozen=True)
class SdkToken(Step):
    """A pod asks with the SDK, default retries, for the identity by client id: it gets a token of it."""

    pod: str
    identity: str

    async def play(self, scene: Scene) -> None:
        """Ask once."""
        client_id = scene.identities[self.identity].properties.client_id
        named = json.dumps({"client_id": client_id})
        code, text = await scene.run(self.pod, sys.executable, "-c", PROGRAM, named)
        assert code == 0, text[-1500:]
        assert claims(text.strip())["appid"] == client_id


@dataclass(frozen=True)
class SdkHeard(Condition):
    """The SDK, which still asks, was answered with that status."""

    pod: str
    status: int

    async def lacks(self, scene: Scene) -> str:
        """Its log."""
        _, text = await scene.run(self.pod, "cat", LOG)
        return "" if f"Response status: {self.status}" in text else f"its log ends with {text[-500:]!r}"


@dataclass(frozen=True)
class Header(Condition):
    """A token request is answered with a status and a header."""

    pod: str
    identity: str
    status: int
    name: str
    value: str

    async def lacks(self, scene: Scene) -> str:
        """The status and all headers."""
        client_id = scene.identities[self.identity].properties.client_id
        target = "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01"
        url = f"{target}&resource={VAULT}&client_id={client_id}"
        _, text = await scene.run(self.pod, sys.executable, "-SEc", HEADERS, url)
        status, headers = json.loads(text)
        return "" if (status, headers.get(self.name)) == (self.status, self.value) else f"{status} {headers}"


@dataclass(frozen=True)
class InitRuns(Condition):
    """A pod's init container runs, and has not ended."""

    ref: str

    async def lacks(self, scene: Scene) -> str:
        """Its state."""
        pod: Object = await scene.get("pod", self.ref)
        states = [one["state"] for one in pod["status"].get("initContainerStatuses", [])]
        return "" if states and "running" in states[0] else f"{states}"
