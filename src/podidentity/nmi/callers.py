"""Who may ask ``/host/token`` for a pod's token: anybody on the node's loopback, or only who proves to be allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from podidentity.api.core import Pod
from podidentity.config.nmi import CGROUP, POD, SERVICE_ACCOUNT, SOCKET
from podidentity.kube.errors import KubeError
from podidentity.nmi.cgroups import Cgroups, pod_uid
from podidentity.nmi.peer import Owner
from podidentity.nmi.request import Link, Request

_BEARER: Final = "bearer "
ANYBODY: Final = "loopback"


class CallerRefused(Exception):  # noqa: N818 - said of the caller
    """Not allowed; ``str`` is what the caller is told. ``passing``: it could not be found out now."""

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class Accounts(Protocol):
    """``reviews.Reviews``."""

    async def service_account(self, token: str) -> str:
        """Return ``namespace/name``, or empty. Raises KubeError."""
        ...


@dataclass(frozen=True, slots=True)
class Callers:
    """``allowed``: entries of ``--host-token-callers``; none of them lets everybody on loopback in.

    ``owner_of`` asks the kernel for the other end's owner; ``pod_of`` finds a pod of this node by its UID.
    """

    allowed: frozenset[str]
    reviews: Accounts | None
    cgroups: Cgroups
    owner_of: Callable[[tuple[str, int], tuple[str, int]], Owner | None]
    pod_of: Callable[[str], Pod | None]

    async def proof(self, request: Request) -> str:
        """Return who is asking, as far as it was checked. Raises CallerRefused."""
        link = request.pin.link
        if link is not None and link.unix:
            return SOCKET
        if not self.allowed:
            return ANYBODY
        account = await self._account(request.headers.authorization or "")
        if account:
            return account
        if any(entry.startswith((CGROUP, POD)) for entry in self.allowed) and link is not None:
            found = await asyncio.to_thread(self._by_cgroup, link)
            if found:
                return found
        raise CallerRefused("this caller may not ask for pods' tokens (--host-token-callers)")

    async def _account(self, authorization: str) -> str:
        wanted = any(entry.startswith(SERVICE_ACCOUNT) for entry in self.allowed)
        if not wanted or self.reviews is None or authorization[: len(_BEARER)].lower() != _BEARER:
            return ""
        try:
            name = await self.reviews.service_account(authorization[len(_BEARER) :].strip())
        except KubeError as error:
            raise CallerRefused("the caller's token could not be reviewed now", passing=True) from error
        account = f"{SERVICE_ACCOUNT}{name}"
        return account if account in self.allowed else ""

    def _by_cgroup(self, link: Link) -> str:
        """Return the entry that the process at the other end fits, or empty."""
        try:
            owner = self.owner_of((link.peer, link.peer_port), (link.local, link.local_port))
        except OSError:
            return ""
        path = self.cgroups.path(owner.cgroup) if owner is not None and owner.cgroup else ""
        if not path:
            return ""
        for entry in self.allowed:
            prefix = entry.removeprefix(CGROUP)
            if prefix != entry and (path == prefix or path.startswith(f"{prefix.rstrip('/')}/")):
                return f"{CGROUP}{path}"
        pod = self.pod_of(pod_uid(path))
        if pod is None or not pod.metadata.uid:
            return ""
        account = f"{POD}{pod.metadata.namespace}/{pod.spec.service_account_name or 'default'}"
        return account if account in self.allowed else ""
