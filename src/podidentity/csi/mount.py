"""One mount: a token, the objects from Key Vault, all files or none."""

from __future__ import annotations

import asyncio
import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from podidentity.azure.cloud import Cloud, cloud_named, vault_cloud_from_file
from podidentity.azure.errors import AzureError, KeyVaultError
from podidentity.config.errors import ConfigError
from podidentity.csi.content import CertificateOptions, Content, certificate_contents, key_contents, secret_contents
from podidentity.csi.errors import MountError
from podidentity.csi.objects import WantedObject, parse_objects
from podidentity.csi.pace import PER_MOUNT, Paces
from podidentity.csi.parameters import Mount, vault_name, wrapped
from podidentity.csi.retry import observed, retried
from podidentity.csi.versions import newest
from podidentity.telemetry.logging import Logger, get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from podidentity.azure.keyvault import CertificateBundle, KeyBundle, ObjectVersion, SecretBundle
    from podidentity.config.redact import SecretText
    from podidentity.csi.objects import ObjectKind

T = TypeVar("T")
NAMED: Final = 8
"""Objects an error names at most."""
MAX_RESPONSE: Final = 4 * 1024 * 1024 - 64 * 1024
"""Bytes: the driver takes 4 MiB, what surrounds the files included."""
MAX_CLOUD_FILE: Final = 64 * 1024
"""Bytes of an environment file."""


class Tokens(Protocol):
    """Signs a mount in."""

    async def token(self, mount: Mount, cloud: Cloud) -> SecretText:
        """Get the vault's token. Raises MountError."""


class Vault(Protocol):
    """Gives objects and lists their versions. All raise AzureError."""

    async def secret(self, vault_url: str, name: str, version: str, token: str) -> SecretBundle:
        """Get a secret."""

    async def key(self, vault_url: str, name: str, version: str, token: str) -> KeyBundle:
        """Get a key."""

    async def certificate(self, vault_url: str, name: str, version: str, token: str) -> CertificateBundle:
        """Get a certificate."""

    async def versions(self, vault_url: str, kind: ObjectKind, name: str, token: str) -> tuple[ObjectVersion, ...]:
        """List an object's versions."""


@dataclass(frozen=True, slots=True)
class Source:
    """The vault a mount reads from and the token for it."""

    url: str
    token: SecretText


@dataclass(frozen=True, slots=True)
class Job:
    """One version of one object to fetch; ``index`` is its place in a history, None without one."""

    wanted: WantedObject
    version: str
    index: int | None = None

    @property
    def path(self) -> str:
        """The file it becomes."""
        return self.wanted.path if self.index is None else f"{self.wanted.path}/{self.index}"

    @property
    def id(self) -> str:
        """What the driver records its version under."""
        name = f"{self.wanted.kind}/{self.wanted.name}"
        return name if self.index is None else f"{name}/{self.index}"


@dataclass(frozen=True, slots=True)
class Versioned:
    """The files of one fetched version of an object."""

    files: tuple[Content, ...]
    notice: str
    version: str


@dataclass(frozen=True, slots=True)
class MountedFile:
    """A file for the driver to write; ``id`` and ``version`` are what it records."""

    path: str
    mode: int
    contents: bytes = field(repr=False)
    id: str
    version: str


def recorded_versions(files: Sequence[MountedFile]) -> dict[str, str]:
    """The version of each object, as the driver keeps it: one entry an object, however many files it became.

    An object mounted in several versions has an entry for each, told apart by the file.
    """
    found: dict[str, str] = {}
    for file in files:
        known = found.setdefault(file.id, file.version)
        if known != file.version:
            found[f"{file.id}:{file.path}"] = file.version
    return found


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
        certificates: CertificateOptions | None = None,
        vault_url: Callable[[Cloud, str], str] = default_vault_url,
        observe: Callable[[str, float, str], None] | None = None,
        log: Logger | None = None,
    ) -> None:
        self._tokens = tokens
        self._vault = vault
        self._paces = Paces()
        self._cloud_name = cloud_name
        self._environ = environ
        self._certificates = certificates or CertificateOptions()
        self._vault_url = vault_url
        self._observe = observe
        self._log = log if log is not None else get_logger()

    async def mount(self, mount: Mount) -> tuple[MountedFile, ...]:
        """Fetch every object, many at a time. Raises MountError; then nothing is mounted.

        It names each object that failed. A failure of the vault itself ends the other requests and is named alone.
        """
        log = self._log.bind(pod=f"{mount.pod_namespace}/{mount.pod_name}", vault=mount.vault)
        for notice in mount.notices:
            log.v(1).info(notice)
        try:
            cloud = await asyncio.to_thread(self._cloud, mount)
            # YAML in pure Python is slow enough for a large class to hold up other mounts.
            wanted = await asyncio.to_thread(parse_objects, mount.objects)
            url = self._vault_url(cloud, vault_name(mount.vault))
            source = Source(url, await self._tokens.token(mount, cloud))
            files = await self._fetch_all(source, wanted, mount.mode, log)
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
                return vault_cloud_from_file(mount.cloud_file)
            return cloud_named(name, self._environ)
        except ConfigError as error:
            raise MountError(f"cloudName {name[:80]} is not valid: {error}") from error

    async def _fetch_all(
        self, source: Source, wanted: Sequence[WantedObject], mode: int, log: Logger
    ) -> tuple[MountedFile, ...]:
        limit = asyncio.Semaphore(PER_MOUNT)

        async def jobs_of(one: WantedObject) -> list[Job]:
            async with limit:
                return await self._jobs(source, one)

        async def files_of(job: Job) -> list[MountedFile]:
            async with limit:
                contents = await self._contents(source, job)
            if contents.notice:
                log.warning(contents.notice)
            given = mode if job.wanted.mode is None else job.wanted.mode
            return [
                MountedFile(f"{job.path}{one.suffix}", given, one.data, job.id, contents.version)
                for one in contents.files
            ]

        jobs = await _all_or_none([(one, partial(jobs_of, one)) for one in wanted])
        files = await _all_or_none([(job.wanted, partial(files_of, job)) for job in jobs])
        _check_together(files)
        return tuple(files)

    async def _jobs(self, source: Source, wanted: WantedObject) -> list[Job]:
        """What to fetch of an object: for a history, its versions are looked up first."""
        if wanted.history == 1:
            return [Job(wanted, wanted.version)]
        listed = await self._ask(
            source,
            wanted.kind,
            lambda: self._vault.versions(source.url, wanted.kind, wanted.name, source.token.reveal()),
        )
        return [Job(wanted, one, index) for index, one in enumerate(newest(listed, wanted.history, wanted.version))]

    async def _contents(self, source: Source, job: Job) -> Versioned:
        wanted = job.wanted
        where = (source.url, wanted.name, job.version, source.token.reveal())
        if wanted.kind == "secret":
            secret = await self._ask(source, "secret", lambda: self._vault.secret(*where))
            made, version = secret_contents(wanted, secret, self._certificates), secret.version
        elif wanted.kind == "key":
            key = await self._ask(source, "key", lambda: self._vault.key(*where))
            made, version = key_contents(key), key.version
        else:
            certificate = await self._ask(source, "cert", lambda: self._vault.certificate(*where))
            made, version = certificate_contents(certificate), certificate.version
        return Versioned(made.files, made.notice, version)

    async def _ask(self, source: Source, kind: ObjectKind, call: Callable[[], Awaitable[T]]) -> T:
        observe = None if self._observe is None else partial(self._observe, kind)
        return await retried(lambda: self._paces.ask(source.url, lambda: observed(call, observe)))


async def _all_or_none(work: Sequence[tuple[WantedObject, Callable[[], Awaitable[list[T]]]]]) -> list[T]:
    """All results in order. Raises MountError that names every object that failed, or what ended the others."""

    async def one(wanted: WantedObject, ask: Callable[[], Awaitable[list[T]]]) -> list[T] | str:
        try:
            return await ask()
        except (AzureError, MountError) as error:
            text = f"failed to get {wanted.title}: {error}"
            if _only_this(error):
                return text
            raise MountError(text) from error

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(wanted, ask)) for wanted, ask in work]
    except ExceptionGroup as failed:
        mistakes, others = failed.split(MountError)
        if mistakes is None or others is not None:
            raise
        raise mistakes.exceptions[0] from failed
    results = [task.result() for task in tasks]
    failures = [result for result in results if isinstance(result, str)]
    if failures:
        more = f"; and {len(failures) - NAMED} more" if len(failures) > NAMED else ""
        raise MountError("; ".join(failures[:NAMED]) + more)
    return [item for result in results if not isinstance(result, str) for item in result]


def _only_this(error: AzureError | MountError) -> bool:
    """Whether a failure is about one object: then the others are still asked for, so that all mistakes show at once.

    A vault that throttles, does not take the token, or is down will not give the others either.
    """
    return isinstance(error, MountError) or (isinstance(error, KeyVaultError) and error.status < 500)  # noqa: PLR2004 - HTTP


def _check_together(files: Sequence[MountedFile]) -> None:
    """What only all files together can break. Raises MountError."""
    twice = [path for path, count in Counter(file.path for file in files).items() if count > 1]
    if twice:
        raise MountError(f'objects: more than one object would be written to file "{twice[0]}"')
    size = sum(len(file.contents) + len(file.path.encode()) + len(file.id) + 128 for file in files)
    if size > MAX_RESPONSE:
        raise MountError(f"the objects are {size} bytes together; the driver takes at most 4 MiB a volume")
