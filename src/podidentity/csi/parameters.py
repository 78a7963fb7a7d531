"""What the driver sends with a mount: JSON texts in, a frozen value out. No I/O."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from podidentity.csi.errors import MountError

if TYPE_CHECKING:
    from collections.abc import Mapping

POD_NAME: Final = "csi.storage.k8s.io/pod.name"
POD_NAMESPACE: Final = "csi.storage.k8s.io/pod.namespace"
MODES: Final = ("usePodIdentity", "useVMManagedIdentity", "useAzureTokenProxy")
KNOWN: Final = frozenset(
    {
        *MODES,
        "userAssignedIdentityID",
        "clientID",
        "keyvaultName",
        "cloudName",
        "cloudEnvFileName",
        "tenantID",
        "tenantId",
        "objects",
        "secretProviderClass",
    }
)
"""Every parameter of a SecretProviderClass, and what the driver adds; names with a ``/`` are the driver's too."""

_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False", ""})
_VAULT: Final = re.compile(r"[-a-zA-Z0-9]{3,24}")
_VAULT_LENGTH: Final = range(3, 25)
_MAX_MODE: Final = 0o7777


@dataclass(frozen=True)
class Mount:
    """One mount, checked. ``cloud_name`` is empty for the provider's own; ``mode`` is the files' default mode.

    ``notices`` are worth a log line: parameters that are not known or have no effect here.
    """

    pod_name: str
    pod_namespace: str
    vault: str
    tenant_id: str
    cloud_name: str
    cloud_file: str
    objects: str
    mode: int
    notices: tuple[str, ...] = ()


def parse_mount(attributes: str, secrets: str, permission: str) -> Mount:
    """Read a MountRequest's three JSON texts. Raises MountError with the original's texts, the first that applies."""
    values = _texts(attributes, "attributes")
    _texts(secrets, "secrets")
    mode = _mode(permission)
    try:
        return _mount(values, mode)
    except MountError as error:
        raise wrapped(error) from error


def wrapped(error: MountError) -> MountError:
    """Return the error as everything after the JSON texts is reported."""
    return MountError(f"failed to mount objects, error: {error}")


def vault_name(name: str) -> str:
    """Return the vault's name if it is one. Raises MountError."""
    if len(name) not in _VAULT_LENGTH:
        raise MountError(f'failed to get vault: Invalid vault name: "{name[:80]}", must be between 3 and 24 chars')
    if not _VAULT.fullmatch(name):
        raise MountError(f'failed to get vault: Invalid vault name: "{name}", must match [-a-zA-Z0-9]{{3,24}}')
    return name


def _mount(values: Mapping[str, str], mode: int) -> Mount:
    pod_name = _required(values, POD_NAME, "pod name is not provided")
    pod_namespace = _required(values, POD_NAMESPACE, "pod namespace is not provided")
    chosen = [name for name in MODES if _flag(values, name)]
    if len(chosen) > 1:
        raise MountError(f"only one identity mode can be enabled at a time: {', '.join(chosen)} are")
    vault = _required(values, "keyvaultName", "keyvaultName is not provided")
    tenant = values.get("tenantID") or values.get("tenantId") or ""
    if not tenant:
        raise MountError("tenantId is not provided")
    if chosen != ["usePodIdentity"]:
        mode_name = {"useVMManagedIdentity": "VMManagedIdentity", "useAzureTokenProxy": "AzureTokenProxy"}
        named = mode_name[chosen[0]] if chosen else "None"
        raise MountError(
            f"failed to build auth config for mode {named}, error: this provider signs in as the pod's identity only; "
            'set usePodIdentity: "true"'
        )
    objects = _required(values, "objects", "objects is not set")
    return Mount(
        pod_name=pod_name,
        pod_namespace=pod_namespace,
        vault=vault,
        tenant_id=tenant,
        cloud_name=values.get("cloudName", ""),
        cloud_file=values.get("cloudEnvFileName", ""),
        objects=objects,
        mode=mode,
        notices=tuple(_notices(values)),
    )


def _notices(values: Mapping[str, str]) -> list[str]:
    unknown = sorted(name for name in values if name not in KNOWN and "/" not in name)
    notices = [f'parameter "{name[:80]}" is not known and ignored' for name in unknown]
    idle = [name for name in ("userAssignedIdentityID", "clientID") if values.get(name)]
    return notices + [f'parameter "{name}" has no effect with usePodIdentity: the binding decides' for name in idle]


def _texts(text: str, what: str) -> Mapping[str, str]:
    """Read a JSON object of texts, each trimmed."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MountError(f"failed to unmarshal {what}, error: {_short(error)}") from error
    if parsed is None:
        return {}
    if not isinstance(parsed, dict):
        raise MountError(f"failed to unmarshal {what}, error: not an object of texts")
    for name, value in parsed.items():
        if value is not None and not isinstance(value, str):
            raise MountError(f'failed to unmarshal {what}, error: "{name[:80]}" is not a text')
    return {name: (value or "").strip() for name, value in parsed.items()}


def _mode(text: str) -> int:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MountError(f"failed to unmarshal file permission, error: {_short(error)}") from error
    if isinstance(parsed, bool) or not isinstance(parsed, int) or not 0 <= parsed <= _MAX_MODE:
        raise MountError("failed to unmarshal file permission, error: not a file mode such as 420")
    return parsed


def _flag(values: Mapping[str, str], name: str) -> bool:
    """Read a boolean as Go spells it; blank is false."""
    text = values.get(name, "")
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise MountError(f'failed to parse {name} flag, error: "{text[:80]}" is neither true nor false')


def _required(values: Mapping[str, str], name: str, message: str) -> str:
    value = values.get(name, "")
    if not value:
        raise MountError(message)
    return value


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
