"""What the verbs do to objects: create, update, patch, delete. Every call is one step; nothing here awaits."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from podidentity.lab.kube import admission, crds, names, patch, strategic, strategy
from podidentity.lab.kube.errors import (
    Cause,
    StatusError,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    not_found,
    not_here,
)
from podidentity.lab.kube.fields import check_fields
from podidentity.lab.kube.kinds import Catalogue, Kind
from podidentity.lab.kube.objects import Obj, copy, encode, meta, rfc3339
from podidentity.lab.kube.store import Store, Stored

CRDS: Final = "customresourcedefinitions.apiextensions.k8s.io"
_SERVER_META: Final = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
_TRIES: Final = 8


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """``validation`` is Strict, Warn or Ignore: what happens to unknown fields. ``dry_run`` writes nothing."""

    dry_run: bool = False
    validation: str = "Warn"


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """The body of a DELETE; None and empty mean "as the kind does by default"."""

    grace: int | None = None
    uid: str = ""
    resource_version: str = ""
    propagation: str = ""
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """An object after a write, without apiVersion and kind. ``gone``: the write removed it."""

    obj: Obj
    created: bool = False
    gone: bool = False
    warnings: tuple[str, ...] = field(default=())


class Rest:
    """Verbs over a store. ``now`` gives seconds since the epoch; ``rng`` makes generated names."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        admit: admission.Admission,
        *,
        now: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._admission = admit
        self._now = now
        self._rng = rng
        for stored in store.scan(CRDS):
            self._serve(stored.obj())

    def get(self, kind: Kind, namespace: str, name: str) -> Stored:
        """The object, or 404."""
        found = self._store.get(kind.resource, namespace, name)
        if found is None:
            raise not_found(kind.plural, kind.group, name)
        return found

    # --- create -------------------------------------------------------------------------------------------------

    def create(self, kind: Kind, namespace: str, obj: Obj, options: WriteOptions) -> Outcome:
        """Add a new object; 409 when the name is taken."""
        self._identify(kind, namespace, "", obj)
        if kind.namespaced:
            self._needs_namespace(kind, namespace, obj)
        metadata = obj["metadata"]
        if metadata.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = self._generate(kind, namespace, str(metadata["generateName"]))
        warnings = check_fields(kind, obj, options.validation)
        if kind.has_status:
            obj.pop("status", None)
        self._born(kind, metadata)
        strategy.prepare(kind.resource, obj, None, self._now())
        self._admission.create(kind, obj)
        self._valid(kind, obj, None)
        if self._store.get(kind.resource, namespace, metadata["name"]):
            raise already_exists(kind.plural, kind.group, metadata["name"])
        if not options.dry_run:
            self._store.put(kind.resource, obj)
            self._written(kind, obj)
        return Outcome(obj, created=True, warnings=warnings)

    def _identify(self, kind: Kind, namespace: str, name: str, obj: Obj) -> None:
        """Compare what the body says it is with where it was sent; namespace and name are filled in."""
        said, as_kind = obj.get("apiVersion"), obj.get("kind")
        if kind.custom and not as_kind:
            raise bad_request(f"Object 'Kind' is missing in '{encode(obj).decode()}'")
        if said and said != kind.api_version:
            message = f"the API version in the data ({said}) does not match the expected API version"
            raise bad_request(f"{message} ({kind.api_version})")
        if as_kind and as_kind != kind.kind:
            raise bad_request(f'{as_kind} in version "{kind.version}" cannot be handled as a {kind.kind}')
        obj["apiVersion"], obj["kind"] = kind.api_version, kind.kind
        metadata = obj.get("metadata")
        if metadata is None:
            metadata = obj["metadata"] = {}
        if not isinstance(metadata, dict):
            raise bad_request("metadata is not an object")
        if kind.namespaced:
            if metadata.setdefault("namespace", namespace) not in {namespace, ""}:
                raise bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request"
                )
            metadata["namespace"] = namespace
        else:
            metadata.pop("namespace", None)
        if name and metadata.setdefault("name", name) != name:
            message = f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
            raise bad_request(message)
        for key in [key for key, value in metadata.items() if value is None or key in {"managedFields", "selfLink"}]:
            del metadata[key]

    def _needs_namespace(self, kind: Kind, namespace: str, obj: Obj) -> None:
        home = self._store.get("namespaces", "", namespace)
        if home is None:
            raise not_found("namespaces", "", namespace)
        if meta(home.obj()).get("deletionTimestamp"):
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise forbidden(kind.plural, kind.group, str(meta(obj).get("name") or ""), why)

    def _generate(self, kind: Kind, namespace: str, prefix: str) -> str:
        for _ in range(_TRIES):
            name = names.generated(prefix, self._rng)
            if not self._store.get(kind.resource, namespace, name):
                return name
        raise already_exists(kind.plural, kind.group, prefix)

    def _born(self, kind: Kind, metadata: Obj) -> None:
        for key in _SERVER_META:
            metadata.pop(key, None)
        metadata["uid"] = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        metadata["creationTimestamp"] = rfc3339(self._now())
        if kind.generation:
            metadata["generation"] = 1

    def _valid(self, kind: Kind, obj: Obj, old: Obj | None) -> None:
        causes = [*names.faults(kind.resource, obj), *strategy.validate(kind.resource, obj, old)]
        if causes:
            raise invalid(kind.kind, kind.group, str(meta(obj).get("name") or ""), causes)

    # --- update and patch ---------------------------------------------------------------------------------------

    def update(
        self, kind: Kind, namespace: str, name: str, obj: Obj, options: WriteOptions, *, subresource: str = ""
    ) -> Outcome:
        """Replace an object, or with ``subresource`` that part of it; 409 on a stale resourceVersion."""
        old = self.get(kind, namespace, name).obj()
        self._identify(kind, namespace, name, obj)
        if kind.custom and not meta(obj).get("resourceVersion"):
            causes = [
                Cause(
                    "FieldValueInvalid",
                    "Invalid value: 0x0: must be specified for an update",
                    "metadata.resourceVersion",
                )
            ]
            raise invalid(kind.kind, kind.group, name, causes)
        return self._replace(kind, old, obj, options, subresource)

    def _replace(self, kind: Kind, old: Obj, obj: Obj, options: WriteOptions, subresource: str) -> Outcome:
        before, metadata = old["metadata"], obj["metadata"]
        version = metadata.get("resourceVersion")
        if version and version != before["resourceVersion"]:
            raise conflict(kind.plural, kind.group, before["name"])
        if metadata.get("uid") and metadata["uid"] != before["uid"]:
            why = f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {before['uid']}"
            raise conflict(kind.plural, kind.group, before["name"], why)
        warnings = check_fields(kind, obj, options.validation)
        obj = self._merge_subresource(kind, old, obj, subresource)
        metadata = obj["metadata"]
        for key in (*_SERVER_META, "resourceVersion"):
            metadata.pop(key, None)
            if key in before:
                metadata[key] = before[key]
        if not subresource:
            strategy.prepare(kind.resource, obj, old, self._now())
            self._valid(kind, obj, old)
        obj.pop("apiVersion", None)
        obj.pop("kind", None)
        if kind.generation and _spec_of(obj, kind) != _spec_of(old, kind):
            metadata["generation"] = before.get("generation", 0) + 1
        return self._save(kind, old, obj, options, warnings)

    def _merge_subresource(self, kind: Kind, old: Obj, obj: Obj, subresource: str) -> Obj:
        match subresource:
            case "":
                if kind.has_status:
                    obj.pop("status", None)
                    if "status" in old:
                        obj["status"] = old["status"]
                return obj
            case "status":
                return {**old, "metadata": copy(old["metadata"]), "status": obj.get("status") or {}}
            case "finalize":
                return {**old, "metadata": copy(old["metadata"]), "spec": obj.get("spec") or {}}
            case _:
                raise not_here(f"a write to {kind.plural}/{subresource}")

    def _save(self, kind: Kind, old: Obj, obj: Obj, options: WriteOptions, warnings: tuple[str, ...]) -> Outcome:
        gone = self._is_done(kind, obj)
        if not gone and obj == old:
            return Outcome(obj, warnings=warnings)
        if not options.dry_run:
            if gone:
                self._remove(kind, obj)
            else:
                self._store.put(kind.resource, obj)
                self._written(kind, obj)
        return Outcome(obj, gone=gone, warnings=warnings)

    @staticmethod
    def _is_done(kind: Kind, obj: Obj) -> bool:
        metadata = obj["metadata"]
        if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
            return False
        if kind.resource == "namespaces":
            return not (obj.get("spec") or {}).get("finalizers")
        return not metadata.get("deletionGracePeriodSeconds")

    def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        content_type: str,
        body: Any,
        options: WriteOptions,
        *,
        subresource: str = "",
    ) -> Outcome:
        """Change an object by a patch of ``content_type`` (json, merge or strategic)."""
        old = self.get(kind, namespace, name).obj()
        whole = {"apiVersion": kind.api_version, "kind": kind.kind, **copy(old)}
        match content_type:
            case "application/json-patch+json":
                new = patch.json_patch(whole, body)
            case "application/merge-patch+json":
                new = patch.merge_patch(whole, _patch_object(body))
            case "application/strategic-merge-patch+json" if not kind.custom:
                new = strategic.merge(kind.kind, whole, _patch_object(body))
            case "application/apply-patch+yaml" | "application/apply-patch+cbor":
                raise not_here("server-side apply (application/apply-patch+yaml)", 415)
            case _:
                raise unsupported_patch(kind)
        if not isinstance(new, dict):
            raise bad_request("the patched object is not an object")
        self._identify(kind, namespace, name, new)
        return self._replace(kind, old, copy(new), options, subresource)

    def overwrite(self, kind: Kind, obj: Obj) -> None:
        """Store an object that the server itself changed; a new spec is a new generation."""
        metadata = obj["metadata"]
        if kind.generation:
            metadata["generation"] = metadata.get("generation", 0) + 1
        self._store.put(kind.resource, obj)

    # --- delete -------------------------------------------------------------------------------------------------

    def delete(self, kind: Kind, namespace: str, name: str, options: DeleteOptions) -> Outcome:
        """Delete, or begin to: finalizers and a pod's grace period keep an object terminating."""
        obj = self.get(kind, namespace, name).obj()
        metadata = obj["metadata"]
        if options.uid and options.uid != metadata["uid"]:
            why = f"Precondition failed: UID in precondition: {options.uid}, UID in object meta: {metadata['uid']}"
            raise conflict(kind.plural, kind.group, name, why)
        if options.resource_version and options.resource_version != metadata["resourceVersion"]:
            why = (
                f"Precondition failed: ResourceVersion in precondition: {options.resource_version}, "
                f"ResourceVersion in object meta: {metadata['resourceVersion']}"
            )
            raise conflict(kind.plural, kind.group, name, why)
        self._admission.delete(kind, namespace, name)
        old = copy(obj)
        self._propagate(metadata, options.propagation)
        grace = _grace(kind, obj, options)
        self._terminate(kind, obj, grace)
        if self._is_done(kind, obj):
            if not options.dry_run:
                self._remove(kind, obj)
            return Outcome(obj, gone=True)
        if obj != old and not options.dry_run:
            self._store.put(kind.resource, obj)
            self._written(kind, obj)
        return Outcome(obj)

    @staticmethod
    def _propagate(metadata: Obj, propagation: str) -> None:
        finalizer = {"Orphan": "orphan", "Foreground": "foregroundDeletion"}.get(propagation)
        if finalizer and finalizer not in (metadata.get("finalizers") or ()):
            metadata["finalizers"] = [*(metadata.get("finalizers") or ()), finalizer]

    def _terminate(self, kind: Kind, obj: Obj, grace: int) -> None:
        metadata = obj["metadata"]
        if not metadata.get("deletionTimestamp"):
            metadata["deletionTimestamp"] = rfc3339(self._now() + grace)
            metadata["deletionGracePeriodSeconds"] = grace
            if kind.generation:
                metadata["generation"] = metadata.get("generation", 0) + 1
        elif grace < (metadata.get("deletionGracePeriodSeconds") or 0):
            metadata["deletionTimestamp"] = rfc3339(self._now() + grace)
            metadata["deletionGracePeriodSeconds"] = grace
        if kind.resource == "namespaces":
            metadata.pop("deletionGracePeriodSeconds", None)
            obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}

    def _remove(self, kind: Kind, obj: Obj) -> None:
        self._store.remove(kind.resource, obj)
        if kind.resource == CRDS:
            self._catalogue.replace_custom(obj["metadata"]["name"], ())
        if kind.custom and not self._store.count(kind.resource):
            self._release_definition(kind)

    # --- CustomResourceDefinitions ------------------------------------------------------------------------------

    def _serve(self, crd: Obj) -> None:
        self._catalogue.replace_custom(crd["metadata"]["name"], crds.kinds(crd))

    def _written(self, kind: Kind, obj: Obj) -> None:
        """What follows from a write: a CRD is served, or withdrawn once its objects are gone."""
        if kind.resource != CRDS:
            return
        self._serve(obj)
        if obj["metadata"].get("deletionTimestamp"):
            defined = next(iter(crds.kinds(obj)), None)
            if defined is None:
                return
            for stored in list(self._store.scan(defined.resource)):
                self.delete(defined, stored.namespace, stored.name, DeleteOptions())
            if not self._store.count(defined.resource):
                self._release_definition(defined)

    def _release_definition(self, kind: Kind) -> None:
        stored = self._store.get(CRDS, "", kind.resource)
        if stored is None:
            return
        crd = stored.obj()
        finalizers = crd["metadata"].get("finalizers") or []
        if crd["metadata"].get("deletionTimestamp") and crds.FINALIZER in finalizers:
            crd["metadata"]["finalizers"] = [found for found in finalizers if found != crds.FINALIZER]
            definitions = self._catalogue.find("apiextensions.k8s.io", "v1", "customresourcedefinitions")
            assert definitions is not None
            self._save(definitions, stored.obj(), crd, WriteOptions(), ())


def _spec_of(obj: Obj, kind: Kind) -> Obj:
    """What a new generation counts: everything but metadata and, where it is a subresource, status."""
    return {key: value for key, value in obj.items() if key != "metadata" and not (kind.has_status and key == "status")}


def _grace(kind: Kind, pod: Obj, options: DeleteOptions) -> int:
    """Seconds a deletion waits for the kubelet: only pods that run somewhere have any."""
    if kind.resource != "pods":
        return 0
    if not (pod.get("spec") or {}).get("nodeName") or (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}:
        return 0
    if options.grace is not None:
        return max(0, options.grace)
    return int((pod.get("spec") or {}).get("terminationGracePeriodSeconds") or 0)


def _patch_object(body: Any) -> Obj:
    if not isinstance(body, dict):
        raise bad_request("error decoding patch: a merge patch is an object")
    return body


def unsupported_patch(kind: Kind) -> StatusError:
    """415, with the patches the kind takes."""
    accepted = ["application/json-patch+json", "application/merge-patch+json"]
    if not kind.custom:
        accepted.append("application/strategic-merge-patch+json")
    message = "the body of the request was in an unknown format - accepted media types include: "
    return StatusError(415, message + ", ".join(accepted))
