"""Where ``podidentity roles`` learns of a cluster: its options, and the reading of the files they name."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from podidentity import __version__
from podidentity.api.resources import AZURE_IDENTITIES
from podidentity.azure.config import azure_config
from podidentity.cli.files import read_file
from podidentity.config.errors import ConfigError
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import KubeError
from podidentity.kube.settings import load_settings
from podidentity.manifests.role_facts import (
    Said,
    SignIn,
    from_aks,
    from_azure_json,
    from_identities,
    from_terraform,
    joined,
)

USER_AGENT = f"podidentity-roles/{__version__}"

TerraformFile = Annotated[
    Path | None, typer.Option("--terraform", help="What `terraform output -json` prints; - for stdin.")
]
AksFile = Annotated[Path | None, typer.Option("--aks", help="What `az aks show -o json` prints; - for stdin.")]
IdentitiesFile = Annotated[
    Path | None, typer.Option("--identities", help="What `az identity list -o json` prints: those your pods use.")
]
AzureJson = Annotated[Path | None, typer.Option("--azure-json", help="The azure.json that mic reads.")]
Kubeconfig = Annotated[
    Path | None, typer.Option(help="Read the AzureIdentity objects of this cluster: those your pods use.")
]
Subscription = Annotated[str, typer.Option(help="The nodes' subscription.")]
NodeGroup = Annotated[str, typer.Option(help="The nodes' resource group (MC_...).")]
PrincipalId = Annotated[str, typer.Option(help="Object id of who mic signs in as.")]
Identity = Annotated[
    list[str] | None, typer.Option("--identity", help="ARM id of an identity your pods use; repeatable.")
]


@dataclass(frozen=True, slots=True)
class Options:
    """The options as given. What they say themselves counts more than what the files say."""

    terraform: Path | None
    aks: Path | None
    identities: Path | None
    azure_json: Path | None
    kubeconfig: Path | None
    subscription: str
    node_group: str
    principal_id: str
    identity: list[str] | None

    def said(self) -> Said:
        """What all of them say together. Raises ConfigError, OSError."""
        sign_in = SignIn("mic", object_id=self.principal_id) if self.principal_id else None
        said = Said(self.subscription, self.node_group, sign_in, identities=tuple(self.identity or ()))
        for path, read in ((self.terraform, from_terraform), (self.aks, from_aks), (self.identities, from_identities)):
            if path is not None:
                said = joined(said, read_file(path, read))
        if self.azure_json is not None:
            said = joined(said, from_azure_json(azure_config(str(self.azure_json), os.environ)))
        if self.kubeconfig is not None:
            said = joined(said, Said(identities=asyncio.run(_in_cluster(self.kubeconfig))))
        return said


async def _in_cluster(kubeconfig: Path) -> tuple[str, ...]:
    """ARM ids of the cluster's AzureIdentity objects of type 0."""
    settings = load_settings(str(kubeconfig), os.environ)
    try:
        async with KubeClient(settings, user_agent=USER_AGENT) as client:
            found = await client.list(AZURE_IDENTITIES)
    except KubeError as error:
        raise ConfigError(f"{kubeconfig}: {error}") from error
    return tuple(one.spec.resource_id for one in found.items if one.spec.type == 0)
