"""What the driver sends with a mount: JSON texts in, a frozen value out. No I/O."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from podidentity.config.redact import SecretText
from podidentity.csi.errors import MountError

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICE_ACCOUNT_TOKENS: Final = "csi.storage.k8s.io/serviceAccount.tokens"
WORKLOAD_AUDIENCE: Final = "api://AzureADTokenExchange"
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


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """The identity bound to the pod, through nmi."""


@dataclass(frozen=True, slots=True)
class VmIdentity:
    """An identity of the node itself, from its metadata service; the system-assigned one without a client id."""

    client_id: str


@dataclass(frozen=True, slots=True)
class WorkloadIdentity:
    """An application that trusts the pod's ServiceAccount, whose token is exchanged at Entra ID."""

    client_id: str
    assertion: SecretText


@dataclass(frozen=True, slots=True)
class ServicePrincipal:
    """An application with a client secret, from the Secret that the volume names."""

    client_id: str
    secret: SecretText


SignIn = PodIdentity | VmIdentity | WorkloadIdentity | ServicePrincipal


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
    sign_in: SignIn = PodIdentity()
    notices: tuple[str, ...] = ()


def parse_mount(attributes: str, secrets: str, permission: str) -> Mount:
    """Read a MountRequest's three JSON texts. Raises MountError with the original's texts, the first that applies."""
    values = _texts(attributes, "attributes")
    held = _texts(secrets, "secrets")
    mode = _mode(permission)
    try:
        return _mount(values, held, mode)
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


def _mount(values: Mapping[str, str], secrets: Mapping[str, str], mode: int) -> Mount:
    pod_name = _required(values, POD_NAME, "pod name is not provided")
    pod_namespace = _required(values, POD_NAMESPACE, "pod namespace is not provided")
    chosen = [name for name in MODES if _flag(values, name)]
    if len(chosen) > 1:
        raise MountError(f"only one identity mode can be enabled at a time: {', '.join(chosen)} are")
    vault = _required(values, "keyvaultName", "keyvaultName is not provided")
    tenant = values.get("tenantID") or values.get("tenantId") or ""
    if not tenant:
        raise MountError("tenantId is not provided")
    sign_in = _sign_in(chosen[0] if chosen else "", values, secrets)
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
        sign_in=sign_in,
        notices=tuple(_notices(values, sign_in)),
    )


def _sign_in(chosen: str, values: Mapping[str, str], secrets: Mapping[str, str]) -> SignIn:
    """Who asks the vault. A token for ``clientID`` is looked at only where it is used."""
    if chosen == "usePodIdentity":
        return PodIdentity()
    if chosen == "useVMManagedIdentity":
        return VmIdentity(values.get("userAssignedIdentityID", ""))
    if chosen:
        raise MountError(
            "failed to build auth config for mode AzureTokenProxy, error: this provider has no token proxy; use "
            'usePodIdentity: "true", or clientID for workload identity'
        )
    prefix = "failed to build auth config for mode None, error: "
    client = values.get("clientID", "")
    if client and (tokens := values.get(SERVICE_ACCOUNT_TOKENS, "")):
        return WorkloadIdentity(client, SecretText(_assertion(tokens, prefix)))
    if client and not secrets:
        raise MountError(
            f"{prefix}failed to parse workload identity tokens, the driver sent none; add audience {WORKLOAD_AUDIENCE} "
            "to tokenRequests of CSIDriver secrets-store.csi.k8s.io"
        )
    if not secrets:
        raise MountError(
            f"{prefix}failed to get credentials, nodePublishSecretRef secret is not set; name a Secret there, or set "
            'usePodIdentity: "true"'
        )
    named = {name.lower(): value for name, value in secrets.items()}
    for key in ("clientid", "clientsecret"):
        if not named.get(key):
            raise MountError(f"{prefix}failed to get credentials, could not find {key} in secrets")
    return ServicePrincipal(named["clientid"], SecretText(named["clientsecret"]))


def _assertion(tokens: str, prefix: str) -> str:
    wrong = f"{prefix}failed to parse workload identity tokens, error: "
    try:
        parsed = json.loads(tokens)
    except (ValueError, RecursionError):
        raise MountError(f"{wrong}not JSON") from None  # the text holds tokens: nothing of it is shown
    found = parsed.get(WORKLOAD_AUDIENCE) if isinstance(parsed, dict) else None
    token = found.get("token") if isinstance(found, dict) else None
    if not isinstance(token, str) or not token:
        raise MountError(f"{wrong}no token for audience {WORKLOAD_AUDIENCE}; add it to tokenRequests of the CSIDriver")
    return token


def _notices(values: Mapping[str, str], sign_in: SignIn) -> list[str]:
    unknown = sorted(name for name in values if name not in KNOWN and "/" not in name)
    notices = [f'parameter "{name[:80]}" is not known and ignored' for name in unknown]
    if values.get("tenantId") and not values.get("tenantID"):
        notices.append('parameter "tenantId" is the older spelling of tenantID')
    if isinstance(sign_in, PodIdentity):
        idle = [name for name in ("userAssignedIdentityID", "clientID") if values.get(name)]
        notices += [f'parameter "{name}" has no effect with usePodIdentity: the binding decides' for name in idle]
    return notices


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
