"""The walkthrough with our own commands: from ``terraform output -json``, and nothing else, to the secret in a pod."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from podidentity.azure.arm_call import ArmCaller
from podidentity.azure.authorization import AuthorizationClient
from podidentity.azure.cloud import PUBLIC
from podidentity.azure.credentials import AccessToken
from podidentity.config.redact import SecretText
from podidentity.lab.azure import UserAssignedIdentity
from podidentity.lab.cluster import Answer, answer_of
from podidentity.lab.running import RunningLab
from podidentity.lab.scenarios.walkthrough import IDENTITY, SECRET, Walkthrough
from podidentity.manifests import role_apply, role_table
from podidentity.manifests.role_facts import facts, from_terraform
from podidentity.manifests.role_principals import at_hand
from podidentity.rules.role_check import State
from podidentity.rules.role_needs import Need, needed
from podidentity.rules.roles import told

WIDTH = 110


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns the subscription, as a credential."""

    lab: RunningLab

    async def token(self, resource: str) -> AccessToken:
        """A token of the owner."""
        asked = {"clientId": self.lab.spec.owner_client_id, "resource": resource}
        minted = await self.lab.azure.call("POST", "/tokens", asked)
        return AccessToken(SecretText(str(minted["access_token"])), int(time.time()) + 3600, resource)

    async def close(self) -> None:
        """Nothing is open."""


def outputs_of(lab: RunningLab, identity: UserAssignedIdentity, version: str) -> dict[str, object]:
    """What ``terraform output -json`` would print of this lab: the names of ``deploy/terraform/example``."""
    spec = lab.spec
    kubelet = {
        "client_id": spec.kubelet_client_id,
        "object_id": spec.kubelet_principal_id,
        "user_assigned_identity_id": spec.kubelet_identity_id,
    }
    control = {
        "identity_ids": [],
        "principal_id": spec.control_plane_principal_id,
        "tenant_id": spec.tenant_id,
        "type": "SystemAssigned",
    }
    values = {
        "KubeName": spec.cluster,
        "NodeRG": spec.node_resource_group,
        "KubeControlPlane_SAI": [control],
        "KubeKubelet_UAI": [kubelet],
        "UAI1_Name": identity.name,
        "UAI1_Id": identity.id,
        "UAI1_ClientId": identity.properties.client_id,
        "UAI1_PrincipalId": identity.properties.principal_id,
        "KV_Name": spec.vault,
        "KV_TenantId": spec.tenant_id,
        "KV_URI": f"https://{spec.vault}.vault.azure.net/",
        "SecretTest_Name": SECRET,
        "SecretTest_Version": version,
    }
    return {name: {"sensitive": isinstance(one, list), "value": one} for name, one in values.items()}


@dataclass(slots=True)
class FromTerraform(Walkthrough):
    """The same story; Azure's side is there, and only its outputs are known."""

    @property
    def outputs(self) -> Path:
        """The file that all commands are given."""
        return self.lab.layout.root / "manifests" / "outputs.json"

    def steps(self) -> Sequence[Callable[[], Awaitable[None]]]:
        """Terraform's part, ours, then the walkthrough's end."""
        return (
            self.terraform,
            self.plan,
            self.apply,
            self.infrastructure,
            self.manifests,
            self.azure_sdk,
            self.refusal,
            self.counts,
        )

    async def terraform(self) -> None:
        """What a state holds before we begin: identity, vault, secret, and the outputs."""
        self.story.step("Let terraform make an identity, a vault and a secret; keep its outputs")
        spec, azure = self.lab.spec, self.lab.azure
        self.identity = await azure.create_identity(IDENTITY, spec.resource_group)
        await azure.create_vault(spec.vault, spec.resource_group, self.identity.properties.principal_id)
        version = await azure.set_secret(spec.vault, SECRET, self.value)
        outputs = outputs_of(self.lab, self.identity, version)
        self.outputs.parent.mkdir(exist_ok=True)
        self.outputs.write_text(json.dumps(outputs, indent=2))
        self.story.typed(f"terraform output -json > {self.outputs.name}")
        self.story.answered(", ".join(outputs))
        self.story.why("terraform is not run: what it would make is made in the simulated Azure.")

    async def plan(self) -> None:
        """The least roles."""
        self.story.step("Ask which roles mic needs")
        self.show(await self._ours("roles", "plan", f"--terraform={self.outputs}"))
        self.story.why("Two roles at two narrow scopes, where the walkthrough gives four at the subscription.")

    async def apply(self) -> None:
        """Check, make, make again, check."""
        self.story.step("Give mic those roles, and no others")
        self.story.answered("The commands' own code, in this process: only inside the lab ARM has its address.")
        said = from_terraform(self.outputs.read_bytes())
        needs = needed(facts(said, at_hand(said)))
        caller = ArmCaller(
            PUBLIC,
            Owner(self.lab),
            user_agent="podidentity-lab",
            base_url="http://management.azure.com",
            unix_socket=str(self.lab.layout.cloud_socket),
        )
        client = AuthorizationClient(caller)
        try:
            before = await role_apply.check(needs, client)
            made = [await self._applied(needs, client) for _ in range(2)]
            after = await role_apply.check(needs, client)
        finally:
            await client.close()
        self.story.typed(f"podidentity roles check --terraform={self.outputs.name}")
        self.story.answered(_text(role_table.check_table(after.findings)))
        self.story.claim("no role was there before", len(before.missing) == len(needs))
        self.story.claim("roles apply makes each once, a second time nothing", made == [len(needs), 0], f"made {made}")
        self.story.claim(
            "mic then has what it needs, at no wider scope",
            [found.state for found in after.findings] == [State.PRESENT] * len(needs),
        )
        self.story.why("mic works as the kubelet identity, and may attach this one identity.")

    async def _applied(self, needs: Sequence[Need], client: AuthorizationClient) -> int:
        """Make what is missing, told as the command tells it; how many were made."""
        self.story.typed(f"podidentity roles apply --terraform={self.outputs.name}")
        made: list[Need] = []
        await role_apply.apply(needs, client, made=lambda need, _new: made.append(need))
        for need in made:
            self.story.answered(f"made: {need.role.name} for {need.principal.who} at {told(need.scope)}")
        return len(made)

    async def manifests(self) -> None:
        """The four manifests from the outputs, applied; then the secret."""
        self.story.step("Render identity, binding, class and pod from the outputs, apply them, read the secret")
        folder = self.outputs.parent
        written = self.show(
            await self._ours("manifests", "render", f"--terraform={self.outputs}", f"--output={folder}")
        )
        await self.mounted(*(Path(line) for line in written.text.splitlines()))

    async def _ours(self, *words: str) -> Answer:
        """A command of ours in a process of its own."""
        typed = (
            " ".join(("podidentity", *words))
            .replace(f"{self.outputs.parent}/", "")
            .replace(str(self.outputs.parent), ".")
        )
        return await answer_of((sys.executable, "-m", "podidentity", *words), typed)


def _text(table: Table) -> str:
    console = Console(file=io.StringIO(), width=WIDTH, highlight=False, markup=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()
