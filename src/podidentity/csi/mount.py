"""One mount: a token from nmi, the objects from Key Vault, all files or none."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from podidentity.azure.cloud import Cloud, cloud_from_file, cloud_named
from podidentity.azure.errors import AuthenticationFailed, AzureError, AzureStatusError, AzureUnavailable
from podidentity.config.errors import ConfigError
from podidentity.csi.errors import MountError
from podidentity.csi.objects import WantedFile, content_of, parse_objects
from podidentity.csi.parameters import Mount, vault_name, wrapped
from podidentity.telemetry.logging import Logger, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from podidentity.azure.keyvault import SecretBundle
    from podidentity.config.redact import SecretText

PARALLEL: Final = 8
ATTEMPTS: Final = 3
PAUSE: Final = 0.5
LONGEST_WAIT: Final = 5.0
"""Seconds; a vault that wants us to wait longer is left to the kubelet's next try."""
MAX_RESPONSE: Final = 4 * 1024 * 1024 - 64 * 1024
"""Bytes: the driver takes 4 MiB, what surrounds the files included."""
MAX_CLOUD_FILE: Final = 64 * 1024
"""Bytes of an environment file."""


class Tokens(Protocol):
    """Gives a pod's token."""

    async def token(self, resource: str, *, pod_namespace: str, pod_name: str) -> SecretText:
        """Get the token. Raises MountError."""


class Vault(Protocol):
    """Gives a secret."""

    async def secret(self, vault_url: str, name: str, version: str, token: str) -> SecretBundle:
        """Get the secret. Raises AzureError."""


@dataclass(frozen=True, slots=True)
class MountedFile:
    """A file for the driver to write; ``id`` and ``version`` are what it records."""

    path: str
    mode: int
    contents: bytes = field(repr=False)
    id: str
    version: str


def default_vault_url(cloud: Cloud, name: str) -> str:
    """Return the vault's address in its cloud."""
    return f"https://{name}.{cloud.key_vault_dns_suffix}"


def check_small_file(path: str) -> None:
    """Refuse a path a class names that is no small file, before it is opened. Raises ConfigError.

    A device or a pipe would be read without end or waited for; files of ``/proc`` show no size, and count as such.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - a NUL in the path is told like any other mistake
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path[:200]}: cannot be read") from error
    if not stat.S_ISREG(found.st_mode) or not 0 < found.st_size <= MAX_CLOUD_FILE:
        raise ConfigError(f"{path[:200]}: is not a file of 1 to {MAX_CLOUD_FILE} bytes")


class Mounter:
    """Carries out mounts. ``cloud_name`` is for classes that name none; ``vault_url`` is injectable for tests."""

    def __init__(
        self,
        tokens: Tokens,
        vault: Vault,
        *,
        cloud_name: str,
        environ: Mapping[str, str],
        vault_url: Callable[[Cloud, str], str] = default_vault_url,
        observe: Callable[[str, float, str], None] | None = None,
        log: Logger | None = None,
    ) -> None:
        self._tokens = tokens
        self._vault = vault
        self._cloud_name = cloud_name
        self._environ = environ
        self._vault_url = vault_url
        self._observe = observe
        self._log = log if log is not None else get_logger()

    async def mount(self, mount: Mount) -> tuple[MountedFile, ...]:
        """Fetch every object. Raises MountError that names each object that failed; then nothing is mounted."""
        log = self._log.bind(pod=f"{mount.pod_namespace}/{mount.pod_name}", vault=mount.vault)
        for notice in mount.notices:
            log.v(1).info(notice)
        try:
            cloud = await asyncio.to_thread(self._cloud, mount)
            # YAML in pure Python is slow enough for a large class to hold up other mounts.
            wanted = await asyncio.to_thread(parse_objects, mount.objects)
            url = self._vault_url(cloud, vault_name(mount.vault))
            token = await self._tokens.token(
                cloud.key_vault_resource, pod_namespace=mount.pod_namespace, pod_name=mount.pod_name
            )
            files = await self._fetch_all(url, token, wanted, mount.mode)
        except MountError as error:
            log.warning("mount failed", error=str(error))
            raise wrapped(error) from error
        log.info("mounted", files=len(files))
        return files

    def _cloud(self, mount: Mount) -> Cloud:
        name = mount.cloud_name or self._cloud_name
        try:
            if mount.cloud_file and name.casefold() == "azurestackcloud":
                check_small_file(mount.cloud_file)
                return cloud_from_file(mount.cloud_file)
            return cloud_named(name, self._environ)
        except ConfigError as error:
            raise MountError(f"cloudName {name[:80]} is not valid: {error}") from error

    async def _fetch_all(
        self, url: str, token: SecretText, wanted: Sequence[WantedFile], mode: int
    ) -> tuple[MountedFile, ...]:
        limit = asyncio.Semaphore(PARALLEL)

        async def one(file: WantedFile) -> MountedFile | str:
            async with limit:
                try:
                    return await self._fetch(url, token, file, mode)
                except (AzureError, MountError) as error:
                    return f"failed to get {file.title}: {error}"

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(file)) for file in wanted]
        results = [task.result() for task in tasks]
        failures = [result for result in results if isinstance(result, str)]
        if failures:
            more = f"; and {len(failures) - PARALLEL} more" if len(failures) > PARALLEL else ""
            raise MountError("; ".join(failures[:PARALLEL]) + more)
        files = tuple(result for result in results if isinstance(result, MountedFile))
        size = sum(len(file.contents) + len(file.path.encode()) + len(file.id) + 128 for file in files)
        if size > MAX_RESPONSE:
            raise MountError(f"the objects are {size} bytes together; the driver takes at most 4 MiB a volume")
        return files

    async def _fetch(self, url: str, token: SecretText, file: WantedFile, mode: int) -> MountedFile:
        bundle = await self._secret(url, token, file)
        contents = content_of(file, bundle.value, content_type=bundle.content_type, certificate_backed=bool(bundle.kid))
        return MountedFile(
            path=file.path,
            mode=mode if file.mode is None else file.mode,
            contents=contents,
            id=f"secret/{file.name}",
            version=bundle.version,
        )

    async def _secret(self, url: str, token: SecretText, file: WantedFile) -> SecretBundle:
        loop = asyncio.get_running_loop()
        attempt = 1
        while True:
            start = loop.time()
            failure: AzureError | None = None
            try:
                return await self._vault.secret(url, file.name, file.version, token.reveal())
            except AzureError as error:
                failure = error
                wait = PAUSE * attempt if error.retry_after is None else error.retry_after
                if attempt >= ATTEMPTS or wait > LONGEST_WAIT or not _transient(error):
                    raise
            finally:
                if self._observe is not None:
                    self._observe("secret", loop.time() - start, _word(failure))
            attempt += 1
            await asyncio.sleep(wait)


def _transient(error: AzureError) -> bool:
    if isinstance(error, AzureStatusError):
        return error.status in {408, 429, 500, 502, 503, 504} and not isinstance(error, AuthenticationFailed)
    return isinstance(error, AzureUnavailable)


def _word(failure: AzureError | None) -> str:
    """Return the failure as one of a few words: a metric's label must not grow with what users write."""
    if failure is None:
        return ""
    return str(failure.status) if isinstance(failure, AzureStatusError) else "unavailable"
