"""azure.json, or the environment that stands for it, and its changes."""

from __future__ import annotations

import asyncio
import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

from podidentity.azure.cloud import Cloud, cloud_named
from podidentity.config.errors import ConfigError
from podidentity.config.redact import SecretText
from podidentity.telemetry.logging import Logger, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_FILE: Final = 1024 * 1024
MANAGED_IDENTITY_PLACEHOLDER: Final = "msi"
"""What AKS writes as client id and secret where a managed identity is meant."""


@dataclass(frozen=True)
class AzureConfig:
    """Who we are in Azure. ``user_assigned_identity_id`` is a client id; empty: system-assigned."""

    cloud: Cloud
    tenant_id: str
    client_id: str
    client_secret: SecretText
    subscription_id: str
    resource_group: str
    use_managed_identity: bool
    user_assigned_identity_id: str


@dataclass(frozen=True)
class _Field:
    """One setting: its spelling in the file and in the environment."""

    file: str
    variable: str


_CLOUD: Final = _Field("cloud", "CLOUD")
_TENANT: Final = _Field("tenantId", "TENANT_ID")
_CLIENT: Final = _Field("aadClientId", "CLIENT_ID")
_SECRET: Final = _Field("aadClientSecret", "CLIENT_SECRET")
_SUBSCRIPTION: Final = _Field("subscriptionId", "SUBSCRIPTION_ID")
_GROUP: Final = _Field("resourceGroup", "RESOURCE_GROUP")
_MANAGED: Final = _Field("useManagedIdentityExtension", "USE_MSI")
_IDENTITY: Final = _Field("userAssignedIdentityID", "USER_ASSIGNED_MSI_CLIENT_ID")
_FIELDS: Final = (_CLOUD, _TENANT, _CLIENT, _SECRET, _SUBSCRIPTION, _GROUP, _MANAGED, _IDENTITY)


class _PlainLoader(yaml.SafeLoader):
    """YAML where only ``null``, ``true`` and ``false`` are not text: ids of digits stay what they are."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own shape


_PlainLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"~|null|Null|NULL|"), ["~", "n", "N", ""])
_PlainLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"true|false|True|False"), list("tfTF"))


def azure_config(cloudconfig: str, environ: Mapping[str, str]) -> AzureConfig:
    """The configuration of the file ``cloudconfig``, or of the environment when that is empty.

    Raises ConfigError with one line that names where, which field, and what to do.
    """
    if not cloudconfig:
        return config_from_environment(environ)
    try:
        content = Path(cloudconfig).read_bytes()
    except OSError as error:
        raise ConfigError(f"{cloudconfig}: cannot be read ({error.strerror}); check --cloudconfig") from error
    return parse_config(content, cloudconfig, environ)


def config_from_environment(environ: Mapping[str, str]) -> AzureConfig:
    """The configuration of ``CLOUD``, ``SUBSCRIPTION_ID`` and the other variables. Raises ConfigError."""
    values = {field.file: environ.get(field.variable, "").strip() for field in _FIELDS}

    def missing(field: _Field, why: str) -> ConfigError:
        return ConfigError(f"{field.variable} is not set{why}; set it or pass --cloudconfig=<azure.json>")

    managed = values[_MANAGED.file].lower() == "true"
    return _checked(values, managed, missing, environ, "CLOUD")


def parse_config(content: bytes, path: str, environ: Mapping[str, str]) -> AzureConfig:
    """The configuration in the bytes of an azure.json (YAML or JSON); ``path`` is for messages. Raises ConfigError."""
    document = _document(content, path)
    name = Path(path).name

    def missing(field: _Field, why: str) -> ConfigError:
        near = difflib.get_close_matches(field.file.casefold(), [key.casefold() for key in document], n=1, cutoff=0.85)
        for key in document:
            if near and key.casefold() == near[0] and key not in {known.file for known in _FIELDS}:
                return ConfigError(
                    f'{name}: "{field.file}" is missing{why}; it is spelled "{key}" there, and names are case-sensitive'
                )
        return ConfigError(f'{name}: "{field.file}" is missing{why}; add it or set {field.variable}')

    values: dict[str, str] = {}
    for field in _FIELDS:
        value = document.get(field.file)
        if field is _MANAGED:
            values[field.file] = _flag(value, name)
        elif value is None:
            values[field.file] = ""
        elif isinstance(value, str):
            values[field.file] = value.strip()
        else:
            raise ConfigError(f'{name}: "{field.file}" is not text; put it in quotes')
    managed = values[_MANAGED.file] == "true"
    # The file's own words win; what it leaves out may come from the environment, as the messages say.
    merged = {field.file: values[field.file] or environ.get(field.variable, "").strip() for field in _FIELDS}
    return _checked(merged, managed, missing, environ, f'{name}: "cloud"')


def _document(content: bytes, path: str) -> Mapping[str, object]:
    name = Path(path).name
    if len(content) > MAX_FILE:
        raise ConfigError(f"{name}: is larger than {MAX_FILE} bytes; it is not an azure.json")
    try:
        parsed: object = yaml.load(content.decode(), Loader=_PlainLoader)  # noqa: S506 - a SafeLoader with fewer types
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigError(f"{name}: line {line}: {error.problem}; it must be JSON or YAML") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{name}: is neither JSON nor YAML") from error
    if not isinstance(parsed, dict) or not all(isinstance(key, str) for key in parsed):
        raise ConfigError(f"{name}: must be an object with named fields")
    return parsed


def _flag(value: object, name: str) -> str:
    if value in (None, "", False):
        return "false"
    if value is True:
        return "true"
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower()
    raise ConfigError(f'{name}: "{_MANAGED.file}" is neither true nor false')


def _checked(
    values: Mapping[str, str],
    managed: bool,
    missing: Callable[[_Field, str], ConfigError],
    environ: Mapping[str, str],
    where_cloud: str,
) -> AzureConfig:
    """The configuration, once everything its way of signing in needs is there."""
    if not values[_CLOUD.file]:
        raise missing(_CLOUD, "")
    try:
        cloud = cloud_named(values[_CLOUD.file], environ)
    except ConfigError as error:
        raise ConfigError(f"{where_cloud}: {error}") from error
    if not values[_SUBSCRIPTION.file]:
        raise missing(_SUBSCRIPTION, "")
    if not managed:
        why = f" (needed because {_MANAGED.file} / {_MANAGED.variable} is not true)"
        for field in (_CLIENT, _SECRET, _TENANT):
            value = values[field.file]
            if not value or (field is not _TENANT and value.lower() == MANAGED_IDENTITY_PLACEHOLDER):
                raise missing(field, why)
    return AzureConfig(
        cloud=cloud,
        tenant_id=values[_TENANT.file],
        client_id=values[_CLIENT.file],
        client_secret=SecretText(values[_SECRET.file]),
        subscription_id=values[_SUBSCRIPTION.file],
        resource_group=values[_GROUP.file],
        use_managed_identity=managed,
        user_assigned_identity_id=values[_IDENTITY.file],
    )


class AzureConfigSource:
    """The configuration as it is now. A changed file is read again; one that is wrong is reported and ignored.

    The content is compared, so that it makes no difference whether the file was written or replaced.
    """

    def __init__(
        self,
        cloudconfig: str,
        environ: Mapping[str, str],
        *,
        log: Logger | None = None,
        on_change: Callable[[AzureConfig], None] | None = None,
    ) -> None:
        """Read once. Raises ConfigError as ``azure_config`` does."""
        self._path = cloudconfig
        self._environ = environ
        self._log = log if log is not None else get_logger()
        self._on_change = on_change
        self._seen: bytes | None = self._read() if cloudconfig else None
        self._current = azure_config(cloudconfig, environ)

    def current(self) -> AzureConfig:
        """The last configuration that was right."""
        return self._current

    def refresh(self) -> bool:
        """Read the file again if its content changed; whether there is a new configuration."""
        if not self._path:
            return False
        content = self._read()
        if content == self._seen:
            return False
        self._seen = content
        try:
            if content is None:
                raise ConfigError(f"{self._path}: cannot be read any more")  # noqa: TRY301 - one place logs both
            fresh = parse_config(content, self._path, self._environ)
        except ConfigError as error:
            self._log.error("cloud configuration changed but is not usable, keeping the old one", error=str(error))
            return False
        changed = fresh != self._current
        self._current = fresh
        if changed:
            self._log.info("cloud configuration reloaded", path=self._path)
            if self._on_change is not None:
                self._on_change(fresh)
        return changed

    @property
    def outdated(self) -> bool:
        """Whether the file was replaced behind a bind mount of the file itself: here it stays what it was, for ever."""
        try:
            return bool(self._path) and Path(self._path).stat().st_nlink == 0
        except OSError:
            return False

    async def run(self, interval: float = 5.0) -> None:
        """Refresh every ``interval`` seconds; returns only when that is of no use any more (``outdated``)."""
        while not self.outdated:
            await asyncio.sleep(interval)
            self.refresh()

    def _read(self) -> bytes | None:
        try:
            return Path(self._path).read_bytes()
        except OSError:
            return None
