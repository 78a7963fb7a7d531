"""What the controller needs of others, as narrow as it needs it: tests bring stand-ins, the app the real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from podidentity.aio.fence import Fence
from podidentity.api.meta import KubeObject, ObjectReference
from podidentity.api.resources import Resource
from podidentity.azure.arm import HostIdentities, IdentityPatch
from podidentity.rules.resource_id import HostId

T = TypeVar("T", bound=KubeObject)


class KubeApi(Protocol):
    """Single objects of the Kubernetes API; raises the tree of ``kube.errors``."""

    async def get(self, resource: Resource[T], name: str, namespace: str = "") -> T:
        """Read one object."""

    async def create(self, resource: Resource[T], obj: T) -> T:
        """Create an object in the namespace of its metadata."""

    async def replace(self, resource: Resource[T], obj: T) -> T:
        """Replace an object; Conflict on an old resource version."""

    async def patch_json(
        self, resource: Resource[T], name: str, namespace: str, ops: Sequence[Mapping[str, object]]
    ) -> T:
        """Apply a JSON patch."""

    async def patch_merge(self, resource: Resource[T], name: str, namespace: str, patch: Mapping[str, object]) -> T:
        """Apply a merge patch; Conflict when it carries an old resource version."""

    async def delete(self, resource: Resource[T], name: str, namespace: str = "", *, uid: str = "") -> T | None:
        """Delete an object; the object when it is still terminating."""


class Compute(Protocol):
    """The identities of a host in ARM; raises the tree of ``azure.errors``."""

    async def get(self, host: HostId) -> HostIdentities:
        """Read what is attached."""

    async def patch(self, host: HostId, patch: IdentityPatch) -> None:
        """Change it; returns when the change is done."""


class Events(Protocol):
    """Tells users what happened to their objects; never blocks."""

    def event(self, ref: ObjectReference, type_: str, reason: str, message: str) -> None:
        """Record one Event about ``ref``."""


class Meter(Protocol):
    """Counts and times; names without the prefix ``aadpodidentity_``."""

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add to a histogram."""

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""


@dataclass(frozen=True, slots=True)
class Outlets:
    """Everything the controller writes to.

    ``fence``: open while this process leads. ``kube`` and ``compute`` ask it again right before a write leaves, and
    raise FenceClosedError; here it saves beginning what could not be sent.
    """

    kube: KubeApi
    compute: Compute
    events: Events
    meter: Meter
    fence: Fence
