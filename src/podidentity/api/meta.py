"""Object metadata, decoded with msgspec: only the fields podidentity needs."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Struct(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """Base of every API struct: camelCase on the wire, zero values left out, unknown fields ignored."""


class OwnerReference(Struct, frozen=True):
    """One entry of ``metadata.ownerReferences``."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class ObjectMeta(Struct, frozen=True):
    """``metadata``. Times are the RFC 3339 strings of the wire."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()


class KubeObject(Struct, frozen=True):
    """What every object has."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()

    @property
    def name(self) -> str:
        """``metadata.name``."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """``metadata.namespace``, empty for cluster-scoped objects."""
        return self.metadata.namespace

    @property
    def key(self) -> str:
        """``namespace/name``, or ``name`` for cluster-scoped objects: the key of stores."""
        meta = self.metadata
        return f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name


class ObjectReference(Struct, frozen=True):
    """A reference to another object, as Events carry it."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


def reference(obj: KubeObject) -> ObjectReference:
    """The reference an Event needs to be shown by ``kubectl describe`` of ``obj``."""
    return ObjectReference(
        api_version=obj.api_version,
        kind=obj.kind,
        name=obj.name,
        namespace=obj.namespace,
        uid=obj.metadata.uid,
        resource_version=obj.metadata.resource_version,
    )
