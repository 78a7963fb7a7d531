"""Steps about the lab's vault."""

from __future__ import annotations

import json
import secrets
import sys
from dataclasses import dataclass

from tests.scenarios.scene import Scene
from tests.scenarios.steps import Condition, Step


@dataclass(frozen=True)
class Readable(Step):
    """A secret of this name is in the lab's vault, which the identity may read."""

    identity: str
    secret: str

    async def play(self, scene: Scene) -> None:
        """Make it, with a value that nobody can guess."""
        vault = await scene.site.may_read(scene.identities[self.identity])
        scene.memory[self.secret] = secrets.token_urlsafe(12)
        await scene.site.stage.lab.azure.set_secret(vault, self.secret, scene.memory[self.secret])


@dataclass(frozen=True)
class Validated(Condition):
    """`podidentity validate` in a pod finds everything right: tokens and the secret, in all three ways."""

    pod: str
    identity: str
    secret: str

    async def lacks(self, scene: Scene) -> str:
        """What it did not get."""
        made, vault = scene.identities[self.identity], scene.site.stage.lab.spec.vault
        words = [f"--client-id={made.properties.client_id}", f"--resource-id={made.id}", f"--secret={self.secret}"]
        words += [f"--vault-url=https://{vault}.vault.azure.net", "--tries=1", "--json"]
        _, text = await scene.run(self.pod, sys.executable, "-m", "podidentity", "validate", *words)
        try:
            found = json.loads(text)
        except ValueError:
            return f"it printed {text[-500:]!r}"
        lacking = [one for one in found if not one["holds"]]
        return str(lacking) if lacking or len(found) != 7 else ""
