"""Clouds by name and by environment file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from podidentity.azure.cloud import Cloud, cloud_from_file, cloud_named
from podidentity.config.errors import ConfigError

STACK = {
    "name": "AzureStackCloud",
    "activeDirectoryEndpoint": "https://login.local.azurestack.external/",
    "resourceManagerEndpoint": "https://management.local.azurestack.external/",
    "keyVaultEndpoint": "https://vault.local.azurestack.external/",
    "keyVaultDNSSuffix": "vault.local.azurestack.external",
    "graphEndpoint": "https://graph.local.azurestack.external/",
}


@pytest.mark.parametrize(
    ("name", "arm", "vault"),
    [
        ("AzurePublicCloud", "https://management.azure.com", "vault.azure.net"),
        ("AZURECLOUD", "https://management.azure.com", "vault.azure.net"),
        ("azureusgovernment", "https://management.usgovcloudapi.net", "vault.usgovcloudapi.net"),
        ("AzureUSGovernmentCloud", "https://management.usgovcloudapi.net", "vault.usgovcloudapi.net"),
        ("AzureChinaCloud", "https://management.chinacloudapi.cn", "vault.azure.cn"),
        ("AzureGermanCloud", "https://management.microsoftazure.de", "vault.microsoftazure.de"),
    ],
)
def test_known_clouds(name: str, arm: str, vault: str) -> None:
    """Each name of the contract, in any case, gives that cloud's addresses without trailing slash."""
    cloud = cloud_named(name, {})
    assert (cloud.resource_manager, cloud.key_vault_dns_suffix) == (arm, vault)
    assert cloud.key_vault_resource == f"https://{vault}"
    assert cloud.resource_manager_audience == f"{arm}/"


@pytest.mark.parametrize(("name", "nearest"), [("AzurePublicCluod", "AzurePublicCloud"), ("china", "AzureChinaCloud")])
def test_unknown_cloud_names_the_nearest_first(name: str, nearest: str) -> None:
    """A misspelled cloud is answered with one line whose first suggestion is what was meant."""
    with pytest.raises(ConfigError) as caught:
        cloud_named(name, {})
    assert str(caught.value).startswith(f'cloud "{name}" is not known; use one of {nearest}, ')
    assert "AzureStackCloud" in str(caught.value)


def test_stack_cloud(tmp_path: Path) -> None:
    """AzureStackCloud comes from the environment file, its unknown fields ignored."""
    path = tmp_path / "akscustom.json"
    path.write_text(json.dumps(STACK))
    assert cloud_named("azurestackcloud", {"AZURE_ENVIRONMENT_FILEPATH": str(path)}) == Cloud(
        name="AzureStackCloud",
        resource_manager="https://management.local.azurestack.external",
        active_directory="https://login.local.azurestack.external",
        key_vault_dns_suffix="vault.local.azurestack.external",
        key_vault_resource="https://vault.local.azurestack.external",
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (json.dumps({**STACK, "resourceManagerEndpoint": ""}), '"resourceManagerEndpoint" is missing'),
        (json.dumps({**STACK, "activeDirectoryEndpoint": "http://x"}), "must be an https:// URL"),
        (json.dumps({**STACK, "activeDirectoryEndpoint": 3}), "not an environment file"),
        ("[]", "not an environment file"),
        ("{", "not an environment file"),
        ("\xff", "not an environment file"),
    ],
)
def test_wrong_environment_file(tmp_path: Path, content: str, expected: str) -> None:
    """A wrong environment file is reported by file and field."""
    path = tmp_path / "env.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ConfigError, match=expected) as caught:
        cloud_from_file(str(path))
    assert str(path) in str(caught.value)


def test_missing_environment_file() -> None:
    """AzureStackCloud without a file, or with one that is not there, says which variable to set."""
    for environ in ({}, {"AZURE_ENVIRONMENT_FILEPATH": "/nowhere/env.json"}):
        with pytest.raises(ConfigError, match="AZURE_ENVIRONMENT_FILEPATH"):
            cloud_named("AzureStackCloud", environ)
