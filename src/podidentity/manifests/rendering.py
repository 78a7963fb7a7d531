"""The manifests of an identity: AzureIdentity, AzureIdentityBinding, SecretProviderClass and a pod. No I/O.

Values are checked before they are written; a value that YAML would take for something else than text is quoted, every
other stands as it is, so that the first two manifests equal, byte for byte, what the same templates give elsewhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from podidentity.api.constants import API_VERSION, POD_LABEL
from podidentity.config.errors import ConfigError
from podidentity.rules.resource_id import parse_identity_id

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_NAME: Final = 253
MAX_LABEL: Final = 63
BINDING_SUFFIX: Final = "-binding"

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_VAULT: Final = re.compile(r"[a-zA-Z](-?[a-zA-Z0-9]){2,23}")
_MAX_VAULT: Final = 24
_SECRET: Final = re.compile(r"[0-9a-zA-Z-]{1,127}")
_VERSION: Final = re.compile(r"[0-9a-zA-Z]{1,64}")
_IMAGE: Final = re.compile(r"[0-9a-zA-Z][0-9a-zA-Z._:/@-]{0,254}")
_API_VERSION: Final = re.compile(r"v1(alpha1)?")
_YAML_WORDS: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_NUMBER_LIKE: Final = re.compile(r"[0-9][0-9a-fA-FxXoO_.:+-]*")
_UNSAFE: Final = re.compile(r"[^-0-9a-zA-Z._/()@:+]|: |^[-:@]|:$")


@dataclass(frozen=True)
class IdentityValues:
    """A user-assigned identity: ``name`` in Kubernetes, ``resource_id`` and ``client_id`` in Azure."""

    name: str
    resource_id: str
    client_id: str


@dataclass(frozen=True)
class VaultValues:
    """A secret of a vault. ``version`` empty: the latest."""

    vault: str
    client_id: str
    secret: str
    tenant_id: str
    version: str = ""
    api_version: str = "v1alpha1"


@dataclass(frozen=True)
class PodValues:
    """A pod that mounts the secrets of the SecretProviderClass named like ``vault``."""

    identity: str
    vault: str
    name: str = "nginx-secrets-store-inline"
    image: str = "nginx"


def binding_name(identity: str) -> str:
    """Return the binding's name, which is its selector and the pods' label too. Raises ConfigError."""
    name = _kubernetes_name("identity name", identity)
    label = f"{name}{BINDING_SUFFIX}"
    if len(label) > MAX_LABEL:
        raise _wrong(
            f'identity name "{identity}": "{label}" is {len(label)} characters, a pod label holds {MAX_LABEL}; '
            f"choose a name of at most {MAX_LABEL - len(BINDING_SUFFIX)}"
        )
    return label


def render_identity(values: IdentityValues) -> str:
    """Return the AzureIdentity, without a newline at its end. Raises ConfigError."""
    binding_name(values.name)
    if parse_identity_id(values.resource_id) is None:
        raise _wrong(
            f'resource id "{values.resource_id}": must be /subscriptions/<id>/resourceGroups/<group>/providers/'
            "Microsoft.ManagedIdentity/userAssignedIdentities/<name>"
        )
    client_id = _uuid("client id", values.client_id)
    return "\n".join(
        (
            f'apiVersion: "{API_VERSION}"',
            "kind: AzureIdentity",
            "metadata:",
            f"  name: {_scalar(values.name)}",
            "spec:",
            "  type: 0",
            f"  resourceID: {_scalar(values.resource_id)}",
            f"  clientID: {client_id}",
        )
    )


def render_binding(identity: str) -> str:
    """Return the AzureIdentityBinding, without a newline at its end. Raises ConfigError."""
    label = binding_name(identity)
    return "\n".join(
        (
            f'apiVersion: "{API_VERSION}"',
            "kind: AzureIdentityBinding",
            "metadata:",
            f"  name: {label}",
            "spec:",
            f"  azureIdentity: {_scalar(identity)}",
            f"  selector: {label}",
        )
    )


def render_secret_provider_class(values: VaultValues) -> str:
    """Return the SecretProviderClass, named like the vault, ending with a newline. Raises ConfigError."""
    name = _vault_name(values.vault)
    client_id = _uuid("client id", values.client_id)
    tenant_id = _uuid("tenant id", values.tenant_id)
    if not _SECRET.fullmatch(values.secret):
        raise _wrong(f'secret name "{values.secret}": must be 1 to 127 letters, digits and dashes')
    if values.version and not _VERSION.fullmatch(values.version):
        raise _wrong(f'secret version "{values.version}": must be letters and digits, or empty for the latest')
    if not _API_VERSION.fullmatch(values.api_version):
        raise _wrong(f'SecretProviderClass version "{values.api_version}": must be v1 or v1alpha1')
    return "\n".join(
        (
            f"apiVersion: secrets-store.csi.x-k8s.io/{values.api_version}",
            "kind: SecretProviderClass",
            "metadata:",
            f"  name: {_scalar(name)}",
            "spec:",
            "  provider: azure",
            "  parameters:",
            '    usePodIdentity: "true"',
            f"    userAssignedIdentityID: {client_id}",
            f"    keyvaultName: {_scalar(values.vault)}",
            '    cloudName: ""',
            "    objects: |",
            "      array:",
            "        - |",
            f"          objectName: {values.secret}",
            f"          objectAlias: {values.secret}",
            "          objectType: secret",
            f"          objectVersion: {values.version}".rstrip(),
            f"    tenantId: {tenant_id}",
            "",
        )
    )


def render_pod(values: PodValues) -> str:
    """Return the pod, its label that of the binding, ending with a newline. Raises ConfigError."""
    label = binding_name(values.identity)
    name = _kubernetes_name("pod name", values.name)
    vault = _vault_name(values.vault)
    if not _IMAGE.fullmatch(values.image):
        raise _wrong(f'image "{values.image}": is not an image reference such as registry/name:tag')
    return "\n".join(
        (
            "apiVersion: v1",
            "kind: Pod",
            "metadata:",
            f"  name: {_scalar(name)}",
            "  labels:",
            f"    {POD_LABEL}: {label}",
            "spec:",
            "  containers:",
            "    - name: nginx",
            f"      image: {_scalar(values.image)}",
            "      volumeMounts:",
            "        - name: secrets-store-inline",
            '          mountPath: "/mnt/secrets-store"',
            "          readOnly: true",
            "  volumes:",
            "    - name: secrets-store-inline",
            "      csi:",
            "        driver: secrets-store.csi.k8s.io",
            "        readOnly: true",
            "        volumeAttributes:",
            f"          secretProviderClass: {_scalar(vault)}",
            "",
        )
    )


def identity_files(values: IdentityValues) -> Mapping[str, str]:
    """Return the two files of an identity by name: ``<name>.yaml`` and ``<name>_Binding.yaml``. Raises ConfigError."""
    return {
        f"{values.name}.yaml": render_identity(values),
        f"{values.name}_Binding.yaml": render_binding(values.name),
    }


def _wrong(text: str) -> ConfigError:
    """Return the error as one line, whatever the values hold."""
    return ConfigError(" ".join(text.split()))


def _kubernetes_name(what: str, name: str) -> str:
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        better = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[: MAX_LABEL - len(BINDING_SUFFIX)].strip("-")
        hint = f', for example "{better}"' if better else ""
        raise _wrong(f'{what} "{name}": must be lower-case letters, digits, "-" and "." for Kubernetes{hint}')
    return name


def _uuid(what: str, value: str) -> str:
    if not _UUID.fullmatch(value):
        raise _wrong(f'{what} "{value}": must be a UUID such as 00000000-0000-0000-0000-000000000000')
    return value


def _vault_name(vault: str) -> str:
    """Return the vault's name as a Kubernetes name: vault names are the same in any case."""
    if not _VAULT.fullmatch(vault) or len(vault) > _MAX_VAULT:
        raise _wrong(f'vault name "{vault}": must be 3 to 24 letters, digits and single dashes, a letter first')
    return vault.lower()


def _scalar(text: str) -> str:
    """Return the text as YAML keeps it: quoted only where it would be taken for something else."""
    if text.lower() in _YAML_WORDS or _NUMBER_LIKE.fullmatch(text) or _UNSAFE.search(text):
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return text
