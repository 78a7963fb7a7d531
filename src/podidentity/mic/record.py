"""An AzureAssignedIdentity as the controller looks at it. Pure."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from podidentity.api.constants import (
    FINALIZER,
    HOST_ANNOTATION,
    POD_UID_ANNOTATION,
    PRESENT_BEFORE_ANNOTATION,
    STATE_ASSIGNED,
    TYPE_USER_ASSIGNED,
)
from podidentity.api.identity import AzureAssignedIdentity
from podidentity.mic.wanted import AssignmentKey, Wanted, intent_of, resource_key
from podidentity.rules.resource_id import HostId, fold, parse_host_id

YES = "true"
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Record:
    """What the API holds for one assignment.

    ``name`` is ``namespace/name`` of the object, ``resource`` the folded ARM id, empty for types 1 and 2.
    """

    object: AzureAssignedIdentity
    name: str
    key: AssignmentKey
    resource: str
    client_id: str

    @property
    def dying(self) -> bool:
        """Whether it was deleted and only its finalizers keep it."""
        return self.object.metadata.deletion_timestamp is not None

    @property
    def held(self) -> bool:
        """Whether our finalizer is on it."""
        return FINALIZER in self.object.metadata.finalizers

    @property
    def assigned(self) -> bool:
        """Whether its state is Assigned."""
        return self.object.status.status == STATE_ASSIGNED

    @property
    def present_before(self) -> bool:
        """Whether the identity was on the host before us: it is never removed."""
        return self.object.metadata.annotations.get(PRESENT_BEFORE_ANNOTATION) == YES

    @property
    def unlooked(self) -> bool:
        """Whether nobody knows yet if the identity was on the host before us; no PATCH adds it until that is known."""
        return self.object.metadata.annotations.get(PRESENT_BEFORE_ANNOTATION) == UNKNOWN

    @property
    def host(self) -> HostId | None:
        """The host written on it, ``None`` on the original's objects."""
        return parse_host_id(self.object.metadata.annotations.get(HOST_ANNOTATION, ""))


def record(obj: AzureAssignedIdentity) -> Record:
    """Read an object; anything is accepted, also what others wrote."""
    spec = obj.spec
    identity = spec.azure_identity_ref
    return Record(
        object=obj,
        name=obj.key,
        key=AssignmentKey(spec.pod_namespace, spec.pod, identity.name),
        resource=resource_key(identity.spec),
        client_id=sys.intern(fold(identity.spec.client_id)),
    )


def same_place(rec: Record, want: Wanted) -> bool:
    """Whether the record can be rewritten to ``want`` with nothing left behind on the host: the same ARM identity."""
    service_principal = rec.object.spec.azure_identity_ref.spec.type != TYPE_USER_ASSIGNED
    return rec.resource == want.resource and (bool(want.resource) or service_principal)


def up_to_date(rec: Record, want: Wanted) -> bool:
    """Whether the record says what is wanted; a pod uid that is absent (the original's objects) counts as equal."""
    spec = rec.object.spec
    uid = rec.object.metadata.annotations.get(POD_UID_ANNOTATION, want.intent.pod_uid)
    return intent_of(uid, spec.node_name, spec.azure_identity_ref, spec.azure_binding_ref) == want.intent
