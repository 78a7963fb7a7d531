"""Run in a process of its own by ``test_proxy.py``: aiohttp reads the proxies from the environment of the process.

Asks Entra ID and ARM, Key Vault, the metadata service and Kubernetes; prints what came of each as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable
from typing import Any

from tests.azure.test_simulated_azure import APP, SUB, TENANT, VM

from podidentity.azure.arm import ComputeClient
from podidentity.azure.cloud import PUBLIC
from podidentity.azure.config import AzureConfig
from podidentity.azure.credentials import credential_for
from podidentity.azure.errors import AzureError
from podidentity.azure.imds import ImdsClient
from podidentity.azure.keyvault import KeyVaultClient
from podidentity.config.redact import SecretText
from podidentity.kube.client import KubeClient
from podidentity.kube.target import KubeSettings


async def said(work: Awaitable[object]) -> str:
    """``ok``, or the error's text."""
    try:
        await work
    except AzureError as error:
        return str(error)
    return "ok"


async def ask(where: dict[str, str]) -> dict[str, Any]:
    """Ask all of them."""
    config = AzureConfig(
        cloud=PUBLIC,
        tenant_id=TENANT,
        client_id=APP,
        client_secret=SecretText("s3cret"),
        subscription_id=SUB,
        resource_group="rg-Nodes",
        use_managed_identity=where["sign_in"] == "node",
        user_assigned_identity_id=where["kubelet"],
    )
    credential = credential_for(config, imds_url=where["imds"], authority_url=where["entra"], environ=os.environ)
    compute = ComputeClient(PUBLIC, credential, user_agent="test", base_url=where["arm"], environ=os.environ)
    imds, vault = ImdsClient(where["imds"]), KeyVaultClient()
    found = {
        "arm": await said(compute.get(VM)),
        "imds": await said(imds.token(PUBLIC.key_vault_resource, client_id=where["kubelet"])),
        "vault": await said(vault.secret(where["vault"], "kvs-test01", "", SecretText("nobody's"))),
    }
    for client in (compute, imds, vault):
        await client.close()
    async with KubeClient(KubeSettings(server=where["kubernetes"]), user_agent="test") as kubernetes:
        found["kubernetes"] = await kubernetes.server_version()
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(ask(json.loads(sys.argv[1])))))
