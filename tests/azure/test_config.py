"""azure.json, the environment, and changes."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podidentity.azure.config import AzureConfig, AzureConfigSource, azure_config, parse_config
from podidentity.config.errors import ConfigError

FILE: dict[str, object] = {
    "cloud": "AzurePublicCloud",
    "tenantId": "t-1",
    "subscriptionId": "s-1",
    "aadClientId": "msi",
    "aadClientSecret": "msi",
    "resourceGroup": "mc_rg",
    "location": "westeurope",
    "vmType": "vmss",
    "securityGroupName": "nsg",
    "useManagedIdentityExtension": True,
    "userAssignedIdentityID": "ae95",
}


def parse(**changes: object) -> AzureConfig:
    """The file with some fields changed; None removes one."""
    fields = {name: value for name, value in {**FILE, **changes}.items() if value is not None}
    return parse_config(json.dumps(fields).encode(), "/etc/kubernetes/azure.json", {})


def test_aks_file() -> None:
    """The azure.json of an AKS node gives the user-assigned identity; fields we do not know are fine."""
    config = parse()
    assert (config.cloud.name, config.use_managed_identity) == ("AzurePublicCloud", True)
    assert (config.user_assigned_identity_id, config.subscription_id, config.resource_group) == ("ae95", "s-1", "mc_rg")


def test_service_principal_file() -> None:
    """Without the managed identity flag the client secret is taken, and never shown."""
    config = parse(useManagedIdentityExtension=None, aadClientId="c", aadClientSecret="hush")
    assert not config.use_managed_identity
    assert config.client_secret.reveal() == "hush"
    assert "hush" not in repr(config)


def test_yaml_file() -> None:
    """The file may be YAML, and ids and secrets made of digits stay what they are."""
    text = "cloud: AzureCloud\ntenantId: 0123\nsubscriptionId: 1e3\naadClientId: 0x10\naadClientSecret: 0777\n"
    config = parse_config(text.encode(), "azure.json", {})
    assert (config.tenant_id, config.subscription_id, config.client_id) == ("0123", "1e3", "0x10")
    assert config.client_secret.reveal() == "0777"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"subscriptionId": None}, 'azure.json: "subscriptionId" is missing; add it or set SUBSCRIPTION_ID'),
        ({"cloud": None}, 'azure.json: "cloud" is missing; add it or set CLOUD'),
        ({"cloud": "a\nb"}, 'cloud "a b" is not known'),
        ({"cloud": "AzureCloudd"}, 'azure.json: "cloud": cloud "AzureCloudd" is not known; use one of AzureCloud,'),
        (
            {"useManagedIdentityExtension": False},
            'azure.json: "aadClientId" is missing (needed because useManagedIdentityExtension / USE_MSI is not true)',
        ),
        ({"useManagedIdentityExtension": False, "aadClientId": "c", "aadClientSecret": ""}, '"aadClientSecret" is mis'),
        ({"useManagedIdentityExtension": "maybe"}, '"useManagedIdentityExtension" is neither true nor false'),
        ({"useManagedIdentityExtension": 3}, '"useManagedIdentityExtension" is neither true nor false'),
        ({"tenantId": True}, '"tenantId" is not text; put it in quotes'),
        ({"tenantId": {"a": 1}}, '"tenantId" is not text'),
        ({"subscriptionId": None, "subscriptionID": "s"}, 'it is spelled "subscriptionID" there'),
        (
            {"useManagedIdentityExtension": None, "aadClientId": None, "aadClientID": "c"},
            'it is spelled "aadClientID" there, and names are case-sensitive',
        ),
    ],
)
def test_wrong_file(changes: dict[str, object], expected: str) -> None:
    """A wrong file is one line: file, field, and what to do."""
    with pytest.raises(ConfigError) as caught:
        parse(**changes)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"text", b"{", b"\xff\xfe", b"a: [", b"{1: 2}", b"[" * 5000, b"!!python/x"]
)
def test_garbage_file(content: bytes) -> None:
    """A file that is no azure.json at all is one line too."""
    with pytest.raises(ConfigError) as caught:
        parse_config(content, "azure.json", {})
    assert str(caught.value).startswith("azure.json: ")
    assert "\n" not in str(caught.value)


def refusal(content: bytes) -> str:
    """The ConfigError's text, empty without one."""
    try:
        parse_config(content, "azure.json", {})
    except ConfigError as error:
        return str(error)
    return ""


@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes(content: bytes) -> None:
    """No content whatever makes anything but a ConfigError of one line."""
    assert "\n" not in refusal(content)


def test_environment() -> None:
    """Without a file the environment of the raw manifests is read."""
    environ = {
        "CLOUD": "AzureUSGovernmentCloud",
        "TENANT_ID": "t",
        "CLIENT_ID": "c",
        "CLIENT_SECRET": "s",
        "SUBSCRIPTION_ID": "sub",
        "RESOURCE_GROUP": "rg",
        "VM_TYPE": "vmss",
    }
    config = azure_config("", environ)
    assert (config.cloud.name, config.tenant_id, config.client_id) == ("AzureUSGovernmentCloud", "t", "c")
    managed = azure_config("", {**environ, "USE_MSI": "TRUE", "USER_ASSIGNED_MSI_CLIENT_ID": "u"})
    assert (managed.use_managed_identity, managed.user_assigned_identity_id) == (True, "u")
    with pytest.raises(ConfigError, match="SUBSCRIPTION_ID is not set; set it or pass --cloudconfig"):
        azure_config("", {**environ, "SUBSCRIPTION_ID": ""})


def test_unreadable_file(tmp_path: Path) -> None:
    """A file that is not there is named together with the flag."""
    with pytest.raises(ConfigError, match="--cloudconfig"):
        azure_config(str(tmp_path / "none.json"), {})


def write(path: Path, **changes: object) -> None:
    """Replace the file atomically, as tools do."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({**FILE, **changes}))
    os.replace(fresh, path)  # noqa: PTH105 - the atomic replacement is the point


async def test_m38_source_follows_the_file(tmp_path: Path) -> None:
    """A replaced and a rewritten file are both seen by the watch, and told once each."""
    path = tmp_path / "azure.json"
    write(path)
    told: asyncio.Queue[str] = asyncio.Queue()
    source = AzureConfigSource(str(path), {}, on_change=lambda config: told.put_nowait(config.tenant_id))
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        watch = group.create_task(source.run(interval=0.01))
        write(path, tenantId="t-2")
        assert await told.get() == "t-2"
        path.write_text(json.dumps({**FILE, "tenantId": "t-3"}))
        assert await told.get() == "t-3"
        watch.cancel()
    assert told.empty()
    assert source.current().tenant_id == "t-3"


async def test_only_an_unlinked_file_is_outdated(tmp_path: Path) -> None:
    """A file that is gone, replaced or behind a link may come back by its path; one that is mounted alone may not."""
    path, link = tmp_path / "azure.json", tmp_path / "link.json"
    write(path)
    link.symlink_to(path)
    source = AzureConfigSource(str(link), {})
    assert not source.outdated
    write(path, tenantId="t-2")
    assert source.refresh()
    assert not source.outdated
    with path.open() as held:
        path.unlink()
        assert not source.outdated
        alone = AzureConfigSource(f"/proc/self/fd/{held.fileno()}", {})
        assert alone.outdated
        async with asyncio.timeout(5):
            await alone.run(interval=0.01)


def test_m37_failed_reload_keeps_the_old(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A broken or vanished file leaves the configuration as it was, is logged once, and is taken once it is right."""
    path = tmp_path / "azure.json"
    write(path)
    source = AzureConfigSource(str(path), {})
    path.write_text("{")
    assert not source.refresh()
    assert not source.refresh()
    path.unlink()
    assert not source.refresh()
    assert source.current().tenant_id == "t-1"
    assert capsys.readouterr().err.count("keeping the old one") == 2
    write(path, tenantId="t-2")
    assert source.refresh()
    assert source.current().tenant_id == "t-2"


def test_source_without_a_file() -> None:
    """With the environment as the source there is nothing to watch."""
    source = AzureConfigSource("", {"CLOUD": "AzureCloud", "SUBSCRIPTION_ID": "s", "USE_MSI": "true"})
    assert not source.refresh()
    assert source.current().use_managed_identity
