"""Where the bearer token comes from: nowhere, a text, a file that is rotated, a program."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from podidentity.aio.clock import Clock
from podidentity.kube.errors import KubeUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EXEC_TIMEOUT: Final = 60.0
"""Seconds a credential program may take."""

_EARLY: Final = 10.0
"""Seconds before its expiry a program's token is asked for again."""

_EXEC_VERSIONS: Final = tuple(f"client.authentication.k8s.io/{v}" for v in ("v1", "v1beta1", "v1alpha1"))


class TokenSource(Protocol):
    """Gives the bearer token for the next request."""

    async def token(self, *, refresh: bool = False) -> str:
        """Return the token; ``refresh`` after a 401 asks for a newer one. Raises KubeUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class StaticToken:
    """A token written in the configuration."""

    value: str = field(repr=False)

    async def token(self, *, refresh: bool = False) -> str:  # noqa: ARG002 - there is no newer one
        """Return the same token always."""
        return self.value


class FileToken:
    """A token in a file that somebody rotates: read again whenever the file changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._value = ""

    async def token(self, *, refresh: bool = False) -> str:
        """Return the file's content. A file that vanishes for a moment keeps the last token in use."""
        return self.read(refresh=refresh)

    def read(self, *, refresh: bool = False) -> str:
        """As ``token``, without waiting: the file is a few hundred bytes in memory."""
        try:
            stat = self.path.stat()
            seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if refresh or seen != self._seen:
                self._value, self._seen = self.path.read_text(encoding="ascii").strip() or self._value, seen
        except (OSError, UnicodeDecodeError) as error:
            if not self._value:
                raise KubeUnavailable(f"cannot read the token file {self.path}: {error}", sent=False) from error
        return self._value


class _ExecStatus(msgspec.Struct, frozen=True, rename="camel"):
    token: str = ""
    expiration_timestamp: str | None = None


class _ExecCredential(msgspec.Struct, frozen=True):
    status: _ExecStatus = _ExecStatus()


class ExecToken:
    """A program named in the kubeconfig prints the token (``ExecCredential``) and says how long it lives.

    ``env`` is added to ``environ``. A relative ``command`` with a slash is relative to ``folder``.
    """

    def __init__(
        self,
        command: str,
        args: Sequence[str],
        env: Mapping[str, str],
        *,
        api_version: str,
        environ: Mapping[str, str],
        folder: Path,
        hint: str = "",
        clock: Clock | None = None,
    ) -> None:
        is_relative = os.sep in command and not Path(command).is_absolute()
        self._argv = (str(folder / command) if is_relative else command, *args)
        self._hint = hint
        self._clock = clock or Clock()
        info = {"kind": "ExecCredential", "apiVersion": api_version, "spec": {"interactive": False}}
        self._env = {**environ, **env, "KUBERNETES_EXEC_INFO": msgspec.json.encode(info).decode()}
        self._lock = asyncio.Lock()
        self._value = ""
        self._expires: float | None = None

    @staticmethod
    def supports(api_version: str) -> bool:
        """Whether this version of the protocol is spoken."""
        return api_version in _EXEC_VERSIONS

    async def token(self, *, refresh: bool = False) -> str:
        """Return the program's last token while it lives, else a new one."""
        old = self._value
        async with self._lock:
            replaced = self._value != old
            if not self._value or self._expired() or (refresh and not replaced):
                await self._run()
        return self._value

    def _expired(self) -> bool:
        return self._expires is not None and self._clock.wall() >= self._expires - _EARLY

    async def _run(self) -> None:
        pipe = asyncio.subprocess.PIPE
        program = self._argv[0]
        try:
            process = await asyncio.create_subprocess_exec(
                *self._argv, env=self._env, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
            )
        except OSError as error:
            hint = f"; {self._hint}" if self._hint else ""
            raise KubeUnavailable(f"cannot run the credential program {program}: {error}{hint}", sent=False) from error
        try:
            async with asyncio.timeout(EXEC_TIMEOUT):
                out, err = await process.communicate()
        except TimeoutError as error:
            message = f"the credential program {program} gave no answer in {EXEC_TIMEOUT:g}s"
            raise KubeUnavailable(message, sent=False) from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            said = err.decode(errors="replace").strip()[-300:]
            message = f"the credential program {program} failed with {process.returncode}: {said}"
            raise KubeUnavailable(message, sent=False)
        self._take(out)

    def _take(self, out: bytes) -> None:
        program = self._argv[0]
        try:
            status = msgspec.json.decode(out, type=_ExecCredential).status
            stamp = status.expiration_timestamp
            expires = datetime.fromisoformat(stamp).timestamp() if stamp else None
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
            raise KubeUnavailable(f"the credential program {program} printed no ExecCredential", sent=False) from error
        if not status.token:
            message = f"the credential program {program} gave no token (client certificates are not supported)"
            raise KubeUnavailable(message, sent=False)
        self._value, self._expires = status.token, expires
