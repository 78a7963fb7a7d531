"""The controller without its I/O: changes of objects in, actors woken, users told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from podidentity.api.core import Node, Pod
from podidentity.api.identity import AzureAssignedIdentity, AzureIdentity, AzureIdentityBinding
from podidentity.api.meta import KubeObject, reference
from podidentity.api.resources import AZURE_IDENTITIES, AZURE_IDENTITY_BINDINGS, PODS, Resource
from podidentity.kube.store import Change
from podidentity.mic import messages
from podidentity.mic.assign import Assigner, Shared
from podidentity.mic.match import Problem
from podidentity.mic.report import HostReport
from podidentity.mic.wanted import identified, resource_key
from podidentity.mic.world import Touched
from podidentity.telemetry.logging import get_logger

_KINDS: Final[tuple[Resource[Any], ...]] = (PODS, AZURE_IDENTITIES, AZURE_IDENTITY_BINDINGS)
_REASONS: Final = {
    "malformed identity": messages.MALFORMED,
    "duplicate name": messages.DUPLICATE,
    "no binding": messages.NO_BINDING,
    "no identity": messages.NO_IDENTITY,
}


class Controller:
    """Follows the cluster always; acts on it only while ``lead`` runs."""

    def __init__(self, shared: Shared, *, full_pass: float = 3600.0) -> None:
        self._shared = shared
        self._world = shared.world
        self.sharing = shared.world.sharing
        self._assigner = Assigner(shared)
        self._full_pass = full_pass
        self._log = get_logger()
        self.leading = False

    def matched(self, change: Change[Pod] | Change[AzureIdentity] | Change[AzureIdentityBinding]) -> None:
        """A pod, an identity or a binding changed."""
        self._take(self._world.match(change.old, change.new))
        if isinstance(change.new, AzureIdentity):
            self._assigner.forgive(resource_key(change.new.spec))

    def node(self, change: Change[Node]) -> None:
        """A node changed."""
        self._take(self._world.node(change.old, change.new))

    def assigned(self, change: Change[AzureAssignedIdentity]) -> None:
        """A record changed, by us or by somebody else; its parts are shared (``sharing.record``)."""
        if change.new is not None:
            self._take(self._world.seen(change.new, shared=True))
        elif change.old is not None:
            self._take(self._world.gone(change.old.key, change.old.metadata.uid))

    def records(self) -> Sequence[str]:
        """``namespace/name`` of every assigned identity there is."""
        return [name for shelf in self._world.shelves.values() for name in shelf.records]

    def reports(self) -> Sequence[HostReport]:
        """The hosts that are worked on."""
        return self._assigner.reports()

    def counts(self) -> tuple[int, int, int]:
        """Labelled pods, identities and bindings."""
        return self._world.matcher.counts()

    @property
    def assignments(self) -> int:
        """How many assignments were made since the start."""
        return self._shared.writer.assignments

    async def lead(self) -> None:
        """Act until cancelled. Every cache has to be complete: what is not known to be wanted is removed."""
        pods, identities, bindings = self.counts()
        self._log.info(f"found {pods} pods, {identities} ids, {bindings} bindings")
        self.leading = True
        try:
            for problem in self._world.matcher.problems():
                self._tell(problem)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._assigner.run())
                tasks.create_task(self._pass_again())
        finally:
            self.leading = False

    async def _pass_again(self) -> None:
        """Look at everything now and then, in case an event was lost."""
        while True:
            await asyncio.sleep(self._full_pass)
            await self._assigner.wake_all(reopen=True)

    def _take(self, touched: Touched) -> None:
        if touched.warning:
            self._log.warning(touched.warning)
        if self.leading:
            for problem in touched.problems:
                self._tell(problem)
        self._assigner.wake(touched.shelves)

    def _tell(self, problem: Problem) -> None:
        about, message = problem.about, problem.message
        resource: Resource[KubeObject] = next(one for one in _KINDS if isinstance(about, one.type))
        if problem.kind == "malformed identity":
            message = messages.malformed(about.key, message)
        where = reference(identified(resource, about))
        self._shared.outlets.events.event(where, "Warning", _REASONS[problem.kind], message)
        self._log.error(message, about=f"{resource.kind} {about.key}")
