"""The Azure clouds and their addresses."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from podidentity.config.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Cloud:
    """Addresses of one cloud; URLs without trailing slash. ``other_logins``: further names of its Entra ID.

    ``token_audience``: what ARM tokens are asked for, when that is not ARM's own address (Azure Stack).
    """

    name: str
    resource_manager: str
    active_directory: str
    key_vault_dns_suffix: str
    key_vault_resource: str
    other_logins: tuple[str, ...] = ()
    token_audience: str = ""

    @property
    def resource_manager_audience(self) -> str:
        """The resource ARM tokens are asked for: by default the endpoint with its trailing slash."""
        return self.token_audience or f"{self.resource_manager}/"


def _cloud(name: str, resource_manager: str, active_directory: str, vault: str, *other_logins: str) -> Cloud:
    others = tuple(f"https://{host}" for host in other_logins)
    return Cloud(name, f"https://{resource_manager}", f"https://{active_directory}", vault, f"https://{vault}", others)


PUBLIC: Final = _cloud(
    "AzurePublicCloud",
    "management.azure.com",
    "login.microsoftonline.com",
    "vault.azure.net",
    "login.windows.net",
    "login.microsoft.com",
)
US_GOVERNMENT: Final = _cloud(
    "AzureUSGovernmentCloud",
    "management.usgovcloudapi.net",
    "login.microsoftonline.us",
    "vault.usgovcloudapi.net",
    "login.usgovcloudapi.net",
)
CHINA: Final = _cloud(
    "AzureChinaCloud",
    "management.chinacloudapi.cn",
    "login.chinacloudapi.cn",
    "vault.azure.cn",
    "login.partner.microsoftonline.cn",
)
GERMAN: Final = _cloud(
    "AzureGermanCloud", "management.microsoftazure.de", "login.microsoftonline.de", "vault.microsoftazure.de"
)
STACK: Final = "AzureStackCloud"
STACK_FILE_VARIABLE: Final = "AZURE_ENVIRONMENT_FILEPATH"

_CLOUDS: Final[Mapping[str, Cloud]] = {
    "AzurePublicCloud": PUBLIC,
    "AzureCloud": PUBLIC,
    "AzureUSGovernmentCloud": US_GOVERNMENT,
    "AzureUSGovernment": US_GOVERNMENT,
    "AzureChinaCloud": CHINA,
    "AzureGermanCloud": GERMAN,
}
KNOWN_NAMES: Final = (*_CLOUDS, STACK)


class _EnvironmentFile(msgspec.Struct, frozen=True):
    """The JSON of ``AZURE_ENVIRONMENT_FILEPATH``."""

    name: str = STACK
    active_directory: str = msgspec.field(default="", name="activeDirectoryEndpoint")
    resource_manager: str = msgspec.field(default="", name="resourceManagerEndpoint")
    key_vault: str = msgspec.field(default="", name="keyVaultEndpoint")
    key_vault_suffix: str = msgspec.field(default="", name="keyVaultDNSSuffix")
    token_audience: str = msgspec.field(default="", name="tokenAudience")


def cloud_named(name: str, environ: Mapping[str, str]) -> Cloud:
    """The cloud of that name, in any case. ``AzureStackCloud`` is read from ``AZURE_ENVIRONMENT_FILEPATH``.

    Raises ConfigError with one line that lists the known names, the nearest first.
    """
    wanted = name.strip().casefold()
    for known, cloud in _CLOUDS.items():
        if known.casefold() == wanted:
            return cloud
    if wanted == STACK.casefold():
        path = environ.get(STACK_FILE_VARIABLE, "")
        if not path:
            raise ConfigError(f"cloud {STACK}: {STACK_FILE_VARIABLE} is not set; set it to the environment file's path")
        return cloud_from_file(path)
    shown = " ".join(name.split())[:80]
    raise ConfigError(f'cloud "{shown}" is not known; use one of {", ".join(_nearest_first(name))}')


def cloud_from_file(path: str) -> Cloud:
    """The cloud an environment file (JSON, go-autorest's names) describes.

    Raises ConfigError that names the file, the field and the fix.
    """
    return _from_file(path, resource_manager=True)


def vault_cloud_from_file(path: str) -> Cloud:
    """As ``cloud_from_file``, for who asks Key Vault only: the file may leave out ARM's endpoint."""
    return _from_file(path, resource_manager=False)


def _from_file(path: str, *, resource_manager: bool) -> Cloud:
    try:
        parsed = msgspec.json.decode(Path(path).read_bytes(), type=_EnvironmentFile)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check {STACK_FILE_VARIABLE}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not an environment file in JSON ({error})") from error
    vault = _url(path, "keyVaultEndpoint", parsed.key_vault, required=False)
    suffix = parsed.key_vault_suffix.strip(".") or (urlsplit(vault).hostname or "")
    return Cloud(
        name=parsed.name or STACK,
        resource_manager=_url(path, "resourceManagerEndpoint", parsed.resource_manager, required=resource_manager),
        active_directory=_url(path, "activeDirectoryEndpoint", parsed.active_directory),
        key_vault_dns_suffix=suffix,
        key_vault_resource=vault or (f"https://{suffix}" if suffix else ""),
        token_audience=parsed.token_audience,
    )


def _url(path: str, field: str, value: str, *, required: bool = True) -> str:
    if not value:
        if required:
            raise ConfigError(f'{path}: "{field}" is missing; add it')
        return ""
    parts = urlsplit(value)
    if parts.scheme != "https" or not parts.hostname:
        raise ConfigError(f'{path}: "{field}" is "{value}"; it must be an https:// URL')
    return value.rstrip("/")


def _nearest_first(name: str) -> list[str]:
    def distance(known: str) -> float:
        return -difflib.SequenceMatcher(None, known.casefold(), name.casefold()).ratio()

    return sorted(KNOWN_NAMES, key=distance)
