"""What ``terraform output -json`` says of identities and vault secrets, found by its shape. No I/O.

Outputs have the names their author gave them: ``UAI1_ClientId`` after the module's, or bare ``ClientId``. So scalars
belong together when what is before their last ``_`` is equal, and an object is an identity when it looks like one.
The cluster's own identity has no ``Name`` among its outputs, and is left out.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import yaml

from podidentity.config.errors import ConfigError
from podidentity.manifests.rendering import IdentityValues
from podidentity.manifests.terraform_text import read_values
from podidentity.rules.resource_id import parse_identity_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SECRET_ID: Final = re.compile(r"https://(?P<vault>[^./]+)\.vault\.[^/]+/secrets/(?P<name>[^/]+)/(?P<version>[^/]+)")

_VAULT_URI: Final = re.compile(r"https://(?P<vault>[^./]+)\.vault\.[^/]+/?")


@dataclass(frozen=True, slots=True)
class SecretValues:
    """A secret of a vault, one version of it."""

    vault: str
    name: str
    version: str


class _Metadata(msgspec.Struct, frozen=True):
    name: str


class _Spec(msgspec.Struct, frozen=True):
    resource_id: str = msgspec.field(name="resourceID")
    client_id: str = msgspec.field(name="clientID")


class _Manifest(msgspec.Struct, frozen=True):
    kind: str
    metadata: _Metadata
    spec: _Spec


@dataclass(frozen=True, slots=True)
class Found:
    """What the outputs name, in their order."""

    identities: tuple[IdentityValues, ...]
    secrets: tuple[SecretValues, ...]
    tenants: tuple[str, ...]


def read_outputs(text: bytes) -> Found:
    """Read ``terraform output -json``. Raises ConfigError when it is something else, or names no identity."""
    outputs = read_values(text)
    groups = grouped(outputs)
    identities = identities_in(outputs)
    if not identities:
        raise ConfigError(
            f"no output names a user-assigned identity: an object with name, id and client_id, or outputs that end in "
            f"Name, Id and ClientId; there are {', '.join(filter(None, outputs)) or 'none'}"
        )
    tenants = [group["TenantId"] for group in groups.values() if "TenantId" in group]
    return Found(identities, tuple(dict.fromkeys(_secrets(outputs))), tuple(dict.fromkeys(tenants)))


def _secrets(outputs: Mapping[str, object]) -> Iterator[SecretValues]:
    """Secrets by their ids; or by name and version, when the outputs name one vault."""
    texts = [value for value in outputs.values() if isinstance(value, str)]
    yield from (SecretValues(**match.groupdict()) for text in texts if (match := _SECRET_ID.fullmatch(text)))
    vaults = {match["vault"] for text in texts if (match := _VAULT_URI.fullmatch(text))}
    if len(vaults) == 1:
        (vault,) = vaults
        for group in grouped(outputs).values():
            if "Name" in group and "Version" in group:
                yield SecretValues(vault, group["Name"], group["Version"])


def identities_in(outputs: Mapping[str, object]) -> tuple[IdentityValues, ...]:
    """The user-assigned identities that the outputs name, each once, in their order."""
    return tuple(dict.fromkeys((*_of_groups(grouped(outputs)), *_of_objects(outputs), *_of_manifests(outputs))))


def grouped(outputs: Mapping[str, object]) -> Mapping[str, Mapping[str, str]]:
    """Text outputs by what is before the last ``_`` of their names."""
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name, value in outputs.items():
        if isinstance(value, str):
            group, _, last = name.rpartition("_")
            found[group][last] = value
    return found


def _of_groups(groups: Mapping[str, Mapping[str, str]]) -> Iterator[IdentityValues]:
    for group in groups.values():
        name, resource, client = group.get("Name", ""), group.get("Id", ""), group.get("ClientId", "")
        if name and client and parse_identity_id(resource):
            yield IdentityValues(name, resource, client)


def _of_manifests(outputs: Mapping[str, object]) -> Iterator[IdentityValues]:
    """Identities that an output has as a rendered AzureIdentity."""
    for text in outputs.values():
        if not isinstance(text, str) or "kind: AzureIdentity" not in text:
            continue
        try:
            found = msgspec.convert(yaml.load(text, Loader=yaml.BaseLoader), type=_Manifest)  # noqa: S506 - text only
        except (yaml.YAMLError, msgspec.ValidationError, RecursionError):
            continue
        if found.kind == "AzureIdentity":
            yield IdentityValues(found.metadata.name, found.spec.resource_id, found.spec.client_id)


def _of_objects(value: object) -> Iterator[IdentityValues]:
    """Identities among objects and lists, however deep."""
    if isinstance(value, list):
        for item in value:
            yield from _of_objects(item)
    if not isinstance(value, dict):
        return
    name, resource, client = (value.get(key) for key in ("name", "id", "client_id"))
    if isinstance(name, str) and isinstance(resource, str) and isinstance(client, str) and parse_identity_id(resource):
        yield IdentityValues(name, resource, client)
    for item in value.values():
        yield from _of_objects(item)
