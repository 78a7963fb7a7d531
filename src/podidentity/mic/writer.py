"""Carries a plan's writes to the Kubernetes API, and what comes back to the world. The only place that writes records.

Each write is timed, counted and told as an Event. What somebody else changed or deleted meanwhile is read again, so
that the next plan starts from what is true.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from podidentity.aio.clock import Clock
from podidentity.api.constants import (
    FINALIZER,
    HOST_ANNOTATION,
    PRESENT_BEFORE_ANNOTATION,
    STATE_ASSIGNED,
    STATE_UNASSIGNED,
)
from podidentity.api.identity import AzureAssignedIdentity
from podidentity.api.meta import reference
from podidentity.api.resources import (
    AZURE_ASSIGNED_IDENTITIES,
    AZURE_IDENTITY_BINDINGS,
    PODS,
)
from podidentity.kube.errors import AlreadyExists, Conflict, KubeError, NotFound
from podidentity.mic import messages
from podidentity.mic.names import free_name
from podidentity.mic.plan import Create, Delete, Looked, Release, Rewrite, Settle, Write
from podidentity.mic.ports import Outlets
from podidentity.mic.record import Record
from podidentity.mic.wanted import Wanted, assigned_identity, identified, rewritten
from podidentity.mic.world import World
from podidentity.rules.resource_id import HostId
from podidentity.telemetry.logging import get_logger

Operation = Literal["addition", "deletion", "update"]
_PRESENT_PATH: Final = f"/metadata/annotations/{PRESENT_BEFORE_ANNOTATION.replace('/', '~1')}"


class RecordWriter:
    """Writes the records of all hosts."""

    def __init__(self, world: World, outlets: Outlets, clock: Clock) -> None:
        self._world = world
        self._out = outlets
        self._clock = clock
        self._log = get_logger()
        self.assignments = 0

    async def write(self, write: Write, host: HostId | None) -> bool:
        """Carry one write out; whether that changed anything. Raises KubeError and FenceClosedError."""
        self._out.fence.check()
        try:
            match write:
                case Create():
                    changed = await self._create(write, host)
                case Rewrite():
                    changed = await self._rewrite(write, host)
                case Settle():
                    changed = await self._settle(write)
                case Delete():
                    changed = await self._delete(write.record)
                case Release():
                    changed = await self._release(write.record, host)
                case Looked():
                    changed = await self._looked(write)
        except (Conflict, NotFound) as error:
            if isinstance(write, Create):
                raise
            changed = await self.refresh(write.record, error)
        return changed

    def tell(self, want: Wanted, type_: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Record an Event on the binding and on the pod."""
        self._out.events.event(reference(identified(AZURE_IDENTITY_BINDINGS, want.binding)), type_, reason, message)
        self._out.events.event(reference(identified(PODS, want.pod)), type_, reason, message)

    async def refresh(self, rec: Record, why: KubeError) -> bool:
        """Read a record again after ``why``; whether it was another one."""
        meta = rec.object.metadata
        self._log.v(5).info("reading an assigned identity again", name=rec.name, reason=str(why))
        try:
            obj = await self._out.kube.get(AZURE_ASSIGNED_IDENTITIES, meta.name, meta.namespace)
        except NotFound:
            return self._gone(rec)
        if obj.metadata.uid != meta.uid:
            self._world.gone(rec.name, meta.uid)
        return self._seen(obj, rec)

    async def _create(self, write: Create, host: HostId | None) -> bool:
        want = write.want
        name = free_name(want.key, f"{host.key if host else want.node}\0{want.resource}", self._world.taken)
        annotations = {HOST_ANNOTATION: host.path} if host else {}
        if write.present:
            annotations[PRESENT_BEFORE_ANNOTATION] = write.present
        obj = assigned_identity(want, name, annotations, state=write.state)
        self._log.info("creating assigned id", id=obj.key, node=want.node)
        self._world.reserve(name, obj.key)
        start = self._clock.monotonic()
        try:
            created = await self._out.kube.create(AZURE_ASSIGNED_IDENTITIES, obj)
        except AlreadyExists:
            there = await self._out.kube.get(AZURE_ASSIGNED_IDENTITIES, name, obj.namespace)
            return bool(self._world.seen(there).shelves)
        except KubeError as error:
            self._failed("assigned_identity_addition")
            message = messages.apply_error(want, name, str(error))
            self.tell(want, "Warning", messages.APPLY_ERROR, message)
            raise
        finally:
            self._world.release(name, obj.key)
        self._done("addition", start)
        if write.state == STATE_ASSIGNED:
            self._assigned(want, name)
        return self._seen(created, None)

    async def _rewrite(self, write: Rewrite, host: HostId | None) -> bool:
        self._log.info("updating assigned id", id=write.record.name, node=write.want.node)
        annotations = {HOST_ANNOTATION: host.path} if host else {}
        start = self._clock.monotonic()
        obj = rewritten(write.record.object, write.want, state=write.state, annotations=annotations)
        try:
            answer = await self._out.kube.replace(AZURE_ASSIGNED_IDENTITIES, obj)
        except (Conflict, NotFound):
            raise
        except KubeError as error:
            self._failed("assigned_identity_update")
            message = messages.apply_error(write.want, obj.name, str(error))
            self.tell(write.want, "Warning", messages.APPLY_ERROR, message)
            raise
        self._done("update", start)
        return self._seen(answer, write.record)

    async def _settle(self, write: Settle) -> bool:
        obj, ops = write.record.object, _status_ops(write.record.object)
        if write.present:
            ops.append({"op": "add", "path": _PRESENT_PATH, "value": write.present})
        elif write.present is not None:
            ops.append({"op": "remove", "path": _PRESENT_PATH})
        try:
            answer = await self._patch(obj, ops)
        except NotFound:
            raise
        except KubeError as error:
            self._failed("update_azure_assigned_identity_status")
            message = messages.status_error(obj.name, STATE_ASSIGNED, str(error))
            ref = reference(identified(AZURE_ASSIGNED_IDENTITIES, obj))
            self._out.events.event(ref, "Warning", messages.STATUS_ERROR, message)
            raise
        self._log.info("updating assigned id status", id=obj.key, status=STATE_ASSIGNED)
        self._assigned(write.want, obj.name)
        return self._seen(answer, write.record)

    async def _looked(self, write: Looked) -> bool:
        answer = await self._patch(write.record.object, [{"op": "remove", "path": _PRESENT_PATH}])
        return self._seen(answer, write.record)

    async def _delete(self, rec: Record) -> bool:
        meta = rec.object.metadata
        self._log.info("deleting assigned id", id=rec.name, node=rec.object.spec.node_name)
        start = self._clock.monotonic()
        try:
            if rec.resource and not rec.held:
                await self._hold(rec)
            left = await self._out.kube.delete(AZURE_ASSIGNED_IDENTITIES, meta.name, meta.namespace, uid=meta.uid)
        except (Conflict, NotFound):
            raise
        except KubeError:
            self._failed("assigned_identity_deletion")
            raise
        self._done("deletion", start)
        if left is None or not left.metadata.finalizers:
            return self._gone(rec)
        return self._seen(left, rec)

    async def _hold(self, rec: Record) -> None:
        """Put our finalizer on a record that some version of the original made without: it has a host to clean."""
        meta = rec.object.metadata
        patch: Mapping[str, object] = {
            "metadata": {"resourceVersion": meta.resource_version, "finalizers": [*meta.finalizers, FINALIZER]},
            "status": {},
        }
        await self._out.kube.patch_merge(AZURE_ASSIGNED_IDENTITIES, meta.name, meta.namespace, patch)

    async def _release(self, rec: Record, host: HostId | None) -> bool:
        meta = rec.object.metadata
        rest = [name for name in meta.finalizers if name != FINALIZER]
        patch: Mapping[str, object] = {
            "metadata": {"resourceVersion": meta.resource_version, "finalizers": rest},
            "status": {"status": STATE_UNASSIGNED},
        }
        try:
            answer = await self._out.kube.patch_merge(AZURE_ASSIGNED_IDENTITIES, meta.name, meta.namespace, patch)
        except (Conflict, NotFound):
            raise
        except KubeError:
            self._failed("assigned_identity_deletion")
            raise
        self._log.v(1).info("released assigned id", id=rec.name)
        if host is None:
            self._node_is_gone(rec)
        return self._seen(answer, rec) if rest else self._gone(rec)

    def _node_is_gone(self, rec: Record) -> None:
        """Say that a record went whose host is not known, so that nothing could be removed from it."""
        spec = rec.object.spec
        if rec.resource:
            self._log.warning(
                "the host is not known; the identity may still be on it", id=rec.name, node=spec.node_name
            )
        message = messages.removed(spec.azure_binding_ref.name, spec.node_name, spec.pod)
        ref = reference(identified(AZURE_IDENTITY_BINDINGS, spec.azure_binding_ref))
        self._out.events.event(ref, "Normal", messages.REMOVED, message)

    def _assigned(self, want: Wanted, name: str) -> None:
        self.assignments += 1
        self.tell(want, "Normal", messages.APPLIED, messages.applied(want, name))

    async def _patch(self, obj: AzureAssignedIdentity, ops: list[Mapping[str, object]]) -> AzureAssignedIdentity:
        return await self._out.kube.patch_json(AZURE_ASSIGNED_IDENTITIES, obj.name, obj.namespace, ops)

    def _seen(self, obj: AzureAssignedIdentity, before: Record | None) -> bool:
        """Take an answer in; whether it is another object than the one written to.

        Not whether it is news: the watch may have told of it before the answer was here.
        """
        self._world.seen(obj)
        if before is None:
            return True
        old, new = before.object.metadata, obj.metadata
        return (old.uid, old.resource_version) != (new.uid, new.resource_version)

    def _gone(self, rec: Record) -> bool:
        self._world.gone(rec.name, rec.object.metadata.uid)
        return True

    def _done(self, operation: Operation, start: float) -> None:
        self._out.meter.observe(f"assigned_identity_{operation}_duration_seconds", self._clock.monotonic() - start)
        self._out.meter.count(f"assigned_identity_{operation}_count")

    def _failed(self, operation_type: str) -> None:
        self._out.meter.count("kubernetes_api_operations_errors_count", operation_type=operation_type)


def _status_ops(obj: AzureAssignedIdentity) -> list[Mapping[str, object]]:
    """The original's one operation; objects of old versions have no status to replace."""
    if obj.status.status:
        return [{"op": "replace", "path": "/status/status", "value": STATE_ASSIGNED}]
    return [{"op": "add", "path": "/status", "value": {"status": STATE_ASSIGNED, "availableReplicas": 1}}]
