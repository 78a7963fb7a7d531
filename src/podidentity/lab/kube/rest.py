"""What the verbs do to objects: create, update, patch, delete. Every call is one step; nothing here awaits."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final

from podidentity.lab.kube import crds, deletion, metadata, names, patch, strategic, strategy
from podidentity.lab.kube.admission import Admission
from podidentity.lab.kube.errors import (
    Cause,
    StatusError,
    already_exists,
    bad_request,
    forbidden,
    invalid,
    not_found,
    not_here,
)
from podidentity.lab.kube.fields import check_fields
from podidentity.lab.kube.identify import (
    SERVER_META,
    check_current,
    identify,
    missing_uid,
    other_uid,
    other_version,
)
from podidentity.lab.kube.kinds import Catalogue, Kind
from podidentity.lab.kube.objects import Obj, copy, encode, go_text, json_name, meta, rfc3339
from podidentity.lab.kube.requests import DeleteOptions, Outcome, Where, WriteOptions
from podidentity.lab.kube.store import Store, Stored

CRDS: Final = "customresourcedefinitions.apiextensions.k8s.io"
_BORN_WITH_STATUS: Final = frozenset(["nodes"])
_TRIES: Final = 8


class Rest:
    """Verbs over a store. ``now`` gives seconds since the epoch; ``rng`` makes names and uids."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        admission: Admission,
        *,
        now: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._admission = admission
        self._now = now
        self._rng = rng
        for stored in store.scan(CRDS):
            self._serve(stored.obj())

    def get(self, where: Where) -> Stored:
        """The object, or 404."""
        found = self._store.get(where.kind.resource, where.namespace, where.name)
        if found is None:
            raise not_found(where.kind.plural, where.kind.group, where.name)
        return found

    # --- create -------------------------------------------------------------------------------------------------

    def create(self, where: Where, obj: Obj, options: WriteOptions) -> Outcome:
        """Add a new object; 409 when the name is taken."""
        kind = where.kind
        identify(where, obj)
        if kind.namespaced:
            self._needs_namespace(where, obj)
        about = obj["metadata"]
        if str(about.pop("resourceVersion", "0")).strip("0").isdigit():
            raise StatusError(500, "resourceVersion should not be set on objects to be created", reason="")
        if not about.get("name") and about.get("generateName"):
            about["name"] = self._generate(where, str(about["generateName"]))
        warnings = check_fields(kind, obj, options.validation)
        if kind.has_status and kind.resource not in _BORN_WITH_STATUS:
            obj.pop("status", None)
        self._born(kind, about)
        strategy.prepare(kind.resource, obj, None, self._now())
        self._admission.create(kind, obj)
        _check(kind, obj, None)
        if self._store.get(kind.resource, where.namespace, about["name"]):
            raise already_exists(kind.plural, kind.group, about["name"])
        if not options.dry_run:
            self._put(kind, obj)
        return Outcome(obj, created=True, warnings=warnings)

    def _needs_namespace(self, where: Where, obj: Obj) -> None:
        home = self._store.get("namespaces", "", where.namespace)
        if home is None:
            raise not_found("namespaces", "", where.namespace)
        if home.fields.get("status.phase") == "Terminating":
            why = f"unable to create new content in namespace {where.namespace} because it is being terminated"
            error = forbidden(where.kind.plural, where.kind.group, str(meta(obj).get("name") or ""), why)
            cause = {"reason": "NamespaceTerminating", "message": f"namespace {where.namespace} is being terminated"}
            error.details = {**(error.details or {}), "causes": [{**cause, "field": "metadata.namespace"}]}
            raise error

    def _generate(self, where: Where, prefix: str) -> str:
        for _ in range(_TRIES):
            name = names.generated(prefix, self._rng)
            if not self._store.get(where.kind.resource, where.namespace, name):
                return name
        raise already_exists(where.kind.plural, where.kind.group, prefix)

    def _born(self, kind: Kind, about: Obj) -> None:
        for key in SERVER_META:
            about.pop(key, None)
        about["uid"] = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        about["creationTimestamp"] = rfc3339(self._now())
        if kind.generation:
            about["generation"] = 1

    # --- update and patch ---------------------------------------------------------------------------------------

    def update(self, where: Where, obj: Obj, options: WriteOptions) -> Outcome:
        """Replace an object, or its subresource; 409 on a stale resourceVersion."""
        if self.makes(where):
            if uid := meta(obj).get("uid"):
                raise missing_uid(where, uid)
            meta(obj).pop("resourceVersion", None)
            return self.create(where, obj, options)
        identify(where, obj)
        old = self.get(where).obj()
        if strategy.versioned(where.kind) and not meta(obj).get("resourceVersion"):
            text = "Invalid value: 0: must be specified for an update"
            cause = Cause("FieldValueInvalid", text, "metadata.resourceVersion")
            raise invalid(where.kind.plural, where.kind.group, where.name, [cause])
        return self._replace(where, old, obj, options)

    def makes(self, where: Where) -> bool:
        """Whether an update of this object would create it."""
        return (
            where.kind.resource in strategy.MADE_BY_UPDATE
            and not where.subresource
            and self._store.get(where.kind.resource, where.namespace, where.name) is None
        )

    def patch(self, where: Where, content_type: str, body: Any, options: WriteOptions) -> Outcome:
        """Change an object by a patch of ``content_type`` (json, merge or strategic)."""
        if content_type.startswith("application/apply-patch"):
            raise not_here("server-side apply (application/apply-patch+yaml)", 415)
        old = self.get(where).obj()
        kind = where.kind
        whole = {"apiVersion": kind.api_version, "kind": kind.kind, **copy(old)}
        shown = ""
        match content_type:
            case "application/json-patch+json":
                new = patch.json_patch(whole, body)
            case "application/merge-patch+json":
                new = patch.merge_patch(whole, _patch_object(body, "error decoding patch: "))
            case "application/strategic-merge-patch+json" if not kind.custom:
                changed = strategic.merge(kind.kind, whole, _patch_object(body))
                new = {**changed, "apiVersion": kind.api_version, "kind": kind.kind}
                shown = go_text(body)
            case _:
                raise _unsupported_patch(kind)
        if not isinstance(new, dict):
            raise bad_request("the patched object is not an object")
        identify(where, new, patched=True)
        return self._replace(where, old, copy(new), options, patch=shown or encode(new).decode())

    def _replace(self, where: Where, old: Obj, obj: Obj, options: WriteOptions, *, patch: str = "") -> Outcome:
        kind, before = where.kind, old["metadata"]
        check_current(where, obj["metadata"], before, patched=bool(patch))
        causes = list(metadata.changes(obj, old))
        warnings = check_fields(kind, obj, options.validation, patch=patch)
        obj = _part(where, old, obj)
        about = obj["metadata"]
        for key in (*SERVER_META, "resourceVersion"):
            about.pop(key, None)
            if key in before:
                about[key] = before[key]
        if not where.subresource:
            strategy.prepare(kind.resource, obj, old, self._now())
            _check(kind, obj, old, causes)
        obj.pop("apiVersion", None)
        obj.pop("kind", None)
        if kind.generation and _spec_of(obj, kind) != _spec_of(old, kind):
            about["generation"] = before.get("generation", 0) + 1
        gone = self._save(kind, old, obj, options)
        return Outcome(obj, gone=gone, warnings=warnings)

    def _save(self, kind: Kind, old: Obj, obj: Obj, options: WriteOptions) -> bool:
        """Store what changed; whether that removed the object. Nothing changed: nothing is written."""
        gone = deletion.finished(kind, obj)
        if options.dry_run:
            return gone
        if gone:
            self._remove(kind, obj)
        elif obj != old:
            self._put(kind, obj)
        return gone

    def overwrite(self, kind: Kind, obj: Obj) -> None:
        """Store an object that the server itself changed; a new spec is a new generation."""
        about = obj["metadata"]
        if kind.generation:
            about["generation"] = about.get("generation", 0) + 1
        self._put(kind, obj)

    # --- delete -------------------------------------------------------------------------------------------------

    def delete(self, where: Where, options: DeleteOptions) -> Outcome:
        """Delete, or begin to: finalizers and a pod's grace period keep an object terminating."""
        kind, stored = where.kind, self.get(where)
        old, obj = stored.obj(), stored.obj()
        about = obj["metadata"]
        if options.uid and options.uid != about["uid"]:
            raise other_uid(where, options.uid, about["uid"])
        if options.resource_version and options.resource_version != about["resourceVersion"]:
            raise other_version(where, options.resource_version, about["resourceVersion"])
        self._admission.delete(kind, where.name)
        deletion.terminate(kind, obj, options, self._now())
        if kind.resource == CRDS:
            crds.terminating(obj, self._now())
        if kind.resource == "pods" and not options.dry_run and deletion.finished(kind, obj):
            self._put(kind, obj)  # a watcher sees a pod terminating before it sees it gone, however short its grace
        gone = self._save(kind, old, obj, WriteOptions(options.dry_run))
        return Outcome(obj, gone=gone)

    # --- what follows from a write --------------------------------------------------------------------------------

    def _put(self, kind: Kind, obj: Obj) -> None:
        self._store.put(kind.resource, obj)
        if kind.resource == CRDS:
            self._serve(obj)
            if obj["metadata"].get("deletionTimestamp"):
                self._withdraw(obj)

    def _remove(self, kind: Kind, obj: Obj) -> None:
        self._store.remove(kind.resource, obj)
        if kind.resource == CRDS:
            self._catalogue.replace_custom(obj["metadata"]["name"], ())
        elif kind.custom:
            self._release_definition(kind.resource)

    def _serve(self, crd: Obj) -> None:
        self._catalogue.replace_custom(crd["metadata"]["name"], crds.kinds(crd))

    def _withdraw(self, crd: Obj) -> None:
        """A CRD is being deleted: its objects go first."""
        defined = next(iter(crds.kinds(crd)), None)
        resource = crd["metadata"]["name"]
        if defined is not None:
            for stored in list(self._store.scan(resource)):
                self.delete(Where(defined, stored.namespace, stored.name), DeleteOptions())
        self._release_definition(resource)

    def _release_definition(self, resource: str) -> None:
        """Let a CRD that is being deleted go once it has no objects."""
        stored = self._store.get(CRDS, "", resource)
        if stored is None or self._store.count(resource):
            return
        crd = stored.obj()
        finalizers = crd["metadata"].get("finalizers") or []
        if crd["metadata"].get("deletionTimestamp") and crds.FINALIZER in finalizers:
            crd["metadata"]["finalizers"] = [found for found in finalizers if found != crds.FINALIZER]
            definitions = self._catalogue.find("apiextensions.k8s.io", "v1", "customresourcedefinitions")
            assert definitions is not None
            self._save(definitions, stored.obj(), crd, WriteOptions())


def _check(kind: Kind, obj: Obj, old: Obj | None, causes: Sequence[Cause] = ()) -> None:
    causes = [
        *causes,
        *names.faults(kind.resource, obj),
        *metadata.faults(obj, old, core=not kind.custom and kind.resource != CRDS),
        *strategy.validate(kind.resource, obj, old),
    ]
    if causes:
        raise invalid(kind.kind, kind.group, str(meta(obj).get("name") or ""), causes)


def _part(where: Where, old: Obj, obj: Obj) -> Obj:
    """What a write to ``where`` makes of ``old``: the main resource leaves status alone, a subresource all else."""
    match where.subresource:
        case "":
            if where.kind.has_status:
                obj.pop("status", None)
                if "status" in old:
                    obj["status"] = old["status"]
            return obj
        case "status":
            return {**old, "metadata": copy(old["metadata"]), "status": obj.get("status") or {}}
        case "finalize":
            return {**old, "metadata": copy(old["metadata"]), "spec": obj.get("spec") or {}}
        case other:
            raise not_here(f"a write to {where.kind.plural}/{other}")


def _spec_of(obj: Obj, kind: Kind) -> Obj:
    """What a new generation counts: everything but metadata and, where it is a subresource, status."""
    return {key: value for key, value in obj.items() if key != "metadata" and not (kind.has_status and key == "status")}


def _patch_object(body: Any, prefix: str = "") -> Obj:
    if not isinstance(body, dict):
        raise bad_request(
            f"{prefix}json: cannot unmarshal {json_name(body)} into Go value of type map[string]interface {{}}"
        )
    return body


def _unsupported_patch(kind: Kind) -> StatusError:
    accepted = ["application/json-patch+json", "application/merge-patch+json"]
    if not kind.custom:
        accepted.append("application/strategic-merge-patch+json")
    message = "the body of the request was in an unknown format - accepted media types include: "
    return StatusError(415, message + ", ".join(accepted))
