"""What the original's Key Vault provider got wrong and no other test of ours is about; the numbers are the page's."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.csi.conftest import Bench, attributes

from podidentity.config.csi import csi_settings
from podidentity.telemetry.logging import configure_logging


def cloud_file(folder: Path, name: str) -> str:
    """An environment file of a custom cloud of that name."""
    path = folder / f"{name}.json"
    ends = {"keyVaultDNSSuffix": f"{name}.local", "keyVaultEndpoint": f"https://{name}.local"}
    path.write_text(json.dumps({"name": "AzureStackCloud", "activeDirectoryEndpoint": "https://login.local", **ends}))
    return str(path)


async def test_k6_nmi_is_asked_by_address_for_the_vaults_own_resource(bench: Bench, tmp_path: Path) -> None:
    """No name has to be resolved to IPv4; the resource is percent-encoded and that of the class's cloud."""
    assert urlsplit(csi_settings([], {}).nmi_url).hostname == "127.0.0.1"
    await bench.mount(attributes(cloudName="AzureStackCloud", cloudEnvFileName=cloud_file(tmp_path, "one")))
    ((target, _),) = bench.nmi.asked
    assert target == "/host/token/?resource=https%3A%2F%2Fone.local"


async def test_k7_concurrent_mounts_keep_their_own_clouds(bench: Bench, tmp_path: Path) -> None:
    """Each class's file counts for its own mount alone; nothing of it stays in the process's environment."""
    before = dict(os.environ)
    names = [f"cloud{number}" for number in range(10)]
    texts = [attributes(cloudName="AzureStackCloud", cloudEnvFileName=cloud_file(tmp_path, name)) for name in names]
    await asyncio.gather(*(bench.mount(text) for text in (*texts, attributes())))
    asked = sorted(parse_qs(urlsplit(target).query)["resource"][0] for target, _ in bench.nmi.asked)
    assert asked == sorted([*(f"https://{name}.local" for name in names), "https://vault.azure.net"])
    assert dict(os.environ) == before


async def test_k11_no_object_is_named_in_the_log(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """At the highest verbosity a mount tells whose it is and how many files it has, never what is in the class."""
    configure_logging(log_format="text", verbosity=10)
    try:
        await bench.mount()
    finally:
        configure_logging(log_format="text", verbosity=0)
    log = capsys.readouterr().err
    assert "mounted" in log
    assert "default/nginx-secrets-store-inline" in log
    assert "kvs-test01" not in log
