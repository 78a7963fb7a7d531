"""Where ``podidentity roles`` learns of a cluster: its options, and the reading of the files they name."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from podidentity import __version__
from podidentity.api.resources import AZURE_IDENTITIES
from podidentity.azure.config import azure_config
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

if TYPE_CHECKING:
    from collections.abc import Callable

USER_AGENT = f"podidentity-roles/{__version__}"
MAX_FILE = 32 * 1024 * 1024
"""Bytes; a terraform state's outputs are a thousandth of it."""

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
                said = joined(said, _read(path, read))
        if self.azure_json is not None:
            said = joined(said, from_azure_json(azure_config(str(self.azure_json), os.environ)))
        if self.kubeconfig is not None:
            said = joined(said, Said(identities=asyncio.run(_in_cluster(self.kubeconfig))))
        return said


def read_file(path: Path) -> bytes:
    """A file, or stdin for ``-``. Raises ConfigError when it is far too large, OSError."""
    if str(path) == "-":
        if sys.stdin is None:  # it is when the caller closed it
            raise ConfigError("-: stdin is closed")
        data = sys.stdin.buffer.read(MAX_FILE + 1)
    else:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise ConfigError(f"{path}: is larger than {MAX_FILE // 1024**2} MiB; this is not what is asked for")
    return data


def _read(path: Path, read: Callable[[bytes], Said]) -> Said:
    data = read_file(path)
    try:
        return read(data)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


async def _in_cluster(kubeconfig: Path) -> tuple[str, ...]:
    """ARM ids of the cluster's AzureIdentity objects of type 0."""
    settings = load_settings(str(kubeconfig), os.environ)
    try:
        async with KubeClient(settings, user_agent=USER_AGENT) as client:
            found = await client.list(AZURE_IDENTITIES)
    except KubeError as error:
        raise ConfigError(f"{kubeconfig}: {error}") from error
    return tuple(one.spec.resource_id for one in found.items if one.spec.type == 0)
