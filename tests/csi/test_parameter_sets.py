"""Forty SecretProviderClasses, each mounted as the driver does it: which files come, or what the pod's Event says."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.csi.conftest import Bench, attributes
from tests.csi.test_kinds_and_modes import stack_file, vault_answer
from tests.csi.test_objects import array
from tests.csi.test_parameters import tokens

from podidentity.csi.parameters import SERVICE_ACCOUNT_TOKENS

Entry = Mapping[str, str]
SECRET: Entry = {"objectName": "s", "objectType": "secret"}
KEY: Entry = {"objectName": "k", "objectType": "key"}
CERT: Entry = {"objectName": "c", "objectType": "cert"}
BACKED: Entry = {"objectName": "backed", "objectType": "secret"}
PRINCIPAL = json.dumps({"clientid": "sp", "clientsecret": "pw"})
STACK = "AzureStackCloud"


@dataclass(frozen=True)
class Case:
    """What differs from the walkthrough's class, and what follows.

    ``files``: path to mode and first bytes; empty when the mount is refused, with ``says`` in its text. ``signs_in``:
    who gave the token. ``resource``: whom it was for, of those that say so in their URL.
    """

    entries: tuple[Entry, ...] = (SECRET,)
    changes: Mapping[str, str | None] = field(default_factory=dict)
    secrets: str = "{}"
    permission: str = "420"
    files: Mapping[str, tuple[int, bytes]] = field(default_factory=dict)
    signs_in: str = "nmi"
    resource: str = "https://vault.azure.net"
    says: str = ""


FILE = {"s": (0o644, b"value of s")}
NODE = {"usePodIdentity": "false", "useVMManagedIdentity": "true"}
NONE = {"usePodIdentity": None}

GOOD = {
    "secret": Case(files=FILE),
    "key": Case((KEY,), files={"k": (0o644, b"-----BEGIN PUBLIC KEY-----")}),
    "certificate": Case((CERT,), files={"c": (0o644, b"-----BEGIN CERTIFICATE-----")}),
    "certificate with its key": Case((BACKED,), files={"backed": (0o644, b"-----BEGIN PRIVATE KEY-----")}),
    "as PFX": Case((BACKED | {"objectFormat": "PFX"},), files={"backed": (0o644, b"MI")}),
    "PFX decoded": Case(
        (BACKED | {"objectFormat": "pfx", "objectEncoding": "base64"},), files={"backed": (0o644, b"\x30\x82")}
    ),
    "alias in a folder": Case((SECRET | {"objectAlias": "a/b.txt"},), files={"a/b.txt": (0o644, b"value of s")}),
    "version": Case((SECRET | {"objectVersion": "v1"},), files=FILE),
    "version latest": Case((SECRET | {"objectVersion": "LATEST"},), files=FILE),
    "history": Case(
        (SECRET | {"objectVersionHistory": "2"},),
        files={"s/0": (0o644, b"value of s"), "s/1": (0o644, b"value of s")},
    ),
    "file permission": Case((SECRET | {"filePermission": "0400"},), files={"s": (0o400, b"value of s")}),
    "mount permission": Case(permission="384", files={"s": (0o600, b"value of s")}),
    "three kinds": Case(
        (SECRET, KEY, CERT), files=FILE | {"k": (0o644, b"-----BEGIN PUBLIC"), "c": (0o644, b"-----BEGIN CERT")}
    ),
    "public cloud by name": Case(changes={"cloudName": "AzurePublicCloud"}, files=FILE),
    "China": Case(changes={"cloudName": "AzureChinaCloud"}, files=FILE, resource="https://vault.azure.cn"),
    "US government": Case(
        changes={"cloudName": "AzureUSGovernmentCloud"}, files=FILE, resource="https://vault.usgovcloudapi.net"
    ),
    "tenantID": Case(changes={"tenantId": None, "tenantID": "t"}, files=FILE),
    "the node's identity": Case(changes=NODE, files=FILE, signs_in="imds"),
    "the node's own identity": Case(changes=NODE | {"userAssignedIdentityID": None}, files=FILE, signs_in="imds"),
    "workload identity": Case(
        changes=NONE | {"clientID": "app", "cloudName": STACK, SERVICE_ACCOUNT_TOKENS: tokens()},
        files=FILE,
        signs_in="entra",
    ),
    "service principal": Case(changes=NONE | {"cloudName": STACK}, secrets=PRINCIPAL, files=FILE, signs_in="entra"),
}

BAD = {
    "no objects": Case(changes={"objects": None}, says="objects is not set"),
    "empty objects": Case((), says="the array is empty"),
    "no name": Case(({"objectType": "secret"},), says="objectName"),
    "unknown kind": Case((SECRET | {"objectType": "blob"},), says="objectType"),
    "unknown format": Case((SECRET | {"objectFormat": "der"},), says="invalid objectFormat: der, should be PEM or PFX"),
    "PFX of a key": Case((KEY | {"objectFormat": "pfx"},), says="PFX format only supported for objectType: secret"),
    "encoded key": Case((KEY | {"objectEncoding": "hex"},), says="objectEncoding"),
    "unknown encoding": Case((SECRET | {"objectEncoding": "utf-7"},), says="invalid objectEncoding: utf-7"),
    "file permission": Case((SECRET | {"filePermission": "0999"},), says="filePermission"),
    "a path that leads out": Case((SECRET | {"objectAlias": "../x"},), says="must not contain"),
    "an absolute path": Case((SECRET | {"objectAlias": "/x"},), says="/x"),
    "two of one file": Case((SECRET, SECRET), says='more than one object would be written to file "s"'),
    "disabled version": Case(
        (SECRET | {"objectVersion": "v4", "objectVersionHistory": "2"},), says="version v4 is disabled"
    ),
    "all mistakes at once": Case(
        (SECRET | {"objectFormat": "d"}, KEY | {"objectEncoding": "hex"}), says="objectName:k"
    ),
    "vault's name": Case(changes={"keyvaultName": "k"}, says='Invalid vault name: "k"'),
    "no vault": Case(changes={"keyvaultName": None}, says="keyvaultName is not provided"),
    "no tenant": Case(changes={"tenantId": None}, says="tenantId is not provided"),
    "two modes": Case(changes={"useVMManagedIdentity": "true"}, says="only one identity mode can be enabled"),
    "unknown cloud": Case(changes={"cloudName": "Mars"}, says="cloudName Mars is not valid"),
    "no way to sign in": Case(changes=NONE, says="failed to get credentials, nodePublishSecretRef secret"),
    "no token for workload identity": Case(changes=NONE | {"clientID": "c"}, says="failed to parse workload identity"),
}


def text_of(case: Case, bench: Bench, folder: Path) -> str:
    """The attributes; a custom cloud's file leads to the bench's own."""
    more = {"cloudEnvFileName": stack_file(folder, bench.entra.url)} if case.changes.get("cloudName") == STACK else {}
    objects = array(*case.entries) if case.entries else "array: []"
    return attributes(**{"objects": objects, **case.changes, **more})  # type: ignore[arg-type]  # objects is one of them


def test_how_many() -> None:
    """Forty at least."""
    assert len(GOOD) + len(BAD) >= 40


@pytest.mark.parametrize("name", GOOD)
async def test_files_come(bench: Bench, tmp_path: Path, name: str) -> None:
    """Each file with its mode and contents, its version recorded, the token from whom the class names."""
    case = GOOD[name]
    bench.vault.handler = vault_answer
    response = await bench.mount(text_of(case, bench, tmp_path), secrets=case.secrets, permission=case.permission)
    files = {file.path: (file.mode, file.contents) for file in response.files}
    assert list(files) == list(case.files)
    for path, (mode, begins) in case.files.items():
        assert files[path][0] == mode
        assert files[path][1].startswith(begins)
    assert len(response.object_version) == len(case.files)
    assert all(one.version for one in response.object_version)
    peers = {"nmi": bench.nmi, "imds": bench.imds, "entra": bench.entra}
    assert {peer for peer, one in peers.items() if one.asked} == {case.signs_in}
    if case.signs_in != "entra":
        query = urllib.parse.urlsplit(peers[case.signs_in].asked[0][0]).query
        assert urllib.parse.parse_qs(query)["resource"] == [case.resource]


@pytest.mark.parametrize("name", BAD)
async def test_the_event_says_why(bench: Bench, tmp_path: Path, name: str) -> None:
    """One line that names what is wrong; nothing is mounted, and the mistakes of a class cost the vault no request."""
    case = BAD[name]
    bench.vault.handler = vault_answer
    said = await bench.refusal(text_of(case, bench, tmp_path), secrets=case.secrets, permission=case.permission)
    assert case.says in said
    assert "\n" not in said
    assert not [target for target, _ in bench.vault.asked if "/versions" not in target]
