"""CustomResourceDefinitions: checked, completed, and turned into the kinds they define (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from podidentity.lab.kube.errors import Cause, not_here
from podidentity.lab.kube.kinds import CUSTOM_VERBS, Kind
from podidentity.lab.kube.objects import Obj, dig, meta, rfc3339

FINALIZER: Final = "customresourcecleanup.apiextensions.k8s.io"
"""Keeps a CRD until its objects are gone."""

_SCOPES: Final = ("Cluster", "Namespaced")
_PROTECTED: Final = (".k8s.io", ".kubernetes.io")
_APPROVAL: Final = "api-approved.kubernetes.io"
_NAMES: Final = ("plural", "singular", "kind", "listKind", "shortNames", "categories")
_AGE: Final[Obj] = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def complete(crd: Obj) -> None:
    """Fill in the defaults of ``spec`` in place."""
    spec = crd.setdefault("spec", {})
    names = spec.setdefault("names", {})
    kind = names.get("kind") or ""
    names.setdefault("singular", kind.lower())
    names.setdefault("listKind", f"{kind}List")
    spec.setdefault("conversion", {"strategy": "None"})
    if spec.get("preserveUnknownFields") is False:
        del spec["preserveUnknownFields"]  # the real server does not store it: kubectl says "configured" every time


def faults(crd: Obj) -> Iterator[Cause]:
    """What makes the CRD invalid."""
    spec = crd.get("spec") or {}
    group, names = spec.get("group") or "", spec.get("names") or {}
    if not group:
        yield _required("spec.group")
    if not (scope := spec.get("scope")):
        yield _required("spec.scope")
    elif scope not in _SCOPES:
        text = f'Unsupported value: "{scope}": supported values: "Cluster", "Namespaced"'
        yield Cause("FieldValueNotSupported", text, "spec.scope")
    for part in ("plural", "kind"):
        if not names.get(part):
            yield _required(f"spec.names.{part}")
    wanted, name = f"{names.get('plural')}.{group}", meta(crd).get("name")
    if name != wanted:
        text = f'Invalid value: "{name}": must be spec.names.plural+"."+spec.group'
        yield Cause("FieldValueInvalid", text, "metadata.name")
    if group.endswith(_PROTECTED) and not (meta(crd).get("annotations") or {}).get(_APPROVAL):
        text = (
            f'Required value: protected groups must have approval annotation "{_APPROVAL}", '
            "see https://github.com/kubernetes/enhancements/pull/1111"
        )
        yield Cause("FieldValueRequired", text, f"metadata.annotations[{_APPROVAL}]")
    yield from _version_faults(spec)


def _required(path: str) -> Cause:
    return Cause("FieldValueRequired", "Required value", path)


def _version_faults(spec: Obj) -> Iterator[Cause]:
    versions = spec.get("versions") or []
    if not versions:
        yield _required("spec.versions")
        return
    if sum(bool(version.get("storage")) for version in versions) != 1:
        text = "Invalid value: must have exactly one version marked as storage version"
        yield Cause("FieldValueInvalid", text, "spec.versions")
        stored = "Invalid value: null: must have at least one stored version"
        yield Cause("FieldValueInvalid", stored, "status.storedVersions")
    for number, version in enumerate(versions):
        schema = dig(version, "schema", "openAPIV3Schema")
        path = f"spec.versions[{number}].schema.openAPIV3Schema"
        if not isinstance(schema, dict):
            yield Cause("FieldValueRequired", "Required value: schemas are required", path)
        elif schema.get("type") != "object":
            text = f'Invalid value: "{schema.get("type", "")}": must be object at the root'
            yield Cause("FieldValueInvalid", text, f"{path}.type")


def refuse_beyond(crd: Obj) -> None:
    """Raise for what only the real server can do: conversion webhooks and CEL rules."""
    spec = crd.get("spec") or {}
    if dig(spec, "conversion", "strategy") == "Webhook":
        raise not_here("a conversion webhook")
    if _mentions(spec.get("versions"), "x-kubernetes-validations"):
        raise not_here("x-kubernetes-validations (CEL rules) in a CustomResourceDefinition")


def _mentions(value: Any, word: str) -> bool:
    if isinstance(value, dict):
        return word in value or any(_mentions(item, word) for item in value.values())
    return isinstance(value, list) and any(_mentions(item, word) for item in value)


def established(crd: Obj, now: float) -> None:
    """Set ``status`` in place: names accepted, served at once."""
    spec, status = crd["spec"], crd.setdefault("status", {})
    status["acceptedNames"] = {name: spec["names"][name] for name in _NAMES if spec["names"].get(name)}
    stored = status.get("storedVersions") or []
    storage = next(version["name"] for version in spec["versions"] if version.get("storage"))
    status["storedVersions"] = [*stored, *([] if storage in stored else [storage])]
    when = rfc3339(now)
    if not status.get("conditions"):
        status["conditions"] = [
            *_approval(crd, when),
            _condition("NamesAccepted", "NoConflicts", "no conflicts found", when),
            _condition("Established", "InitialNamesAccepted", "the initial names have been accepted", when),
        ]


def _approval(crd: Obj, when: str) -> Iterator[Obj]:
    """What the API's reviewers said of a protected group: a URL, or that they were not asked."""
    if not crd["spec"]["group"].endswith(_PROTECTED):
        return
    said = str((meta(crd).get("annotations") or {}).get(_APPROVAL))
    name = "KubernetesAPIApprovalPolicyConformant"
    if said.startswith("unapproved"):
        yield _condition(name, "UnapprovedAnnotation", f'not approved: "{said}"', when, status="False")
    else:
        yield _condition(name, "ApprovedAnnotation", f"approved in {said}", when)


def terminating(crd: Obj, now: float) -> None:
    """Mark in place that a CRD is being deleted: its finalizer holds it until its objects are gone."""
    metadata, conditions = crd["metadata"], crd.setdefault("status", {}).setdefault("conditions", [])
    if FINALIZER not in (metadata.get("finalizers") or ()):
        metadata["finalizers"] = [*(metadata.get("finalizers") or ()), FINALIZER]
    if not any(found.get("type") == "Terminating" for found in conditions):
        message = "CustomResource deletion is pending"
        conditions.append(_condition("Terminating", "InstanceDeletionPending", message, rfc3339(now)))


def _condition(type_: str, reason: str, message: str, when: str, *, status: str = "True") -> Obj:
    return {"type": type_, "status": status, "lastTransitionTime": when, "reason": reason, "message": message}


def kinds(crd: Obj) -> tuple[Kind, ...]:
    """The kinds a CRD serves: one a served version."""
    spec = crd["spec"]
    names = spec["names"]
    return tuple(
        Kind(
            spec["group"],
            version["name"],
            names["plural"],
            names["kind"],
            spec.get("scope") == "Namespaced",
            tuple(names.get("shortNames") or ()),
            tuple(names.get("categories") or ()),
            subresources=_subresources(version, names["kind"]),
            fields=_selectable(version),
            generation=True,
            verbs=CUSTOM_VERBS,
            singular=names.get("singular") or "",
            list_kind=names.get("listKind") or "",
            schema=version["schema"]["openAPIV3Schema"],
            columns=tuple(version.get("additionalPrinterColumns") or (_AGE,)),
            scale=dig(version, "subresources", "scale") or {},
            custom=True,
        )
        for version in spec["versions"]
        if version.get("served")
    )


def _subresources(version: Obj, kind: str) -> dict[str, str]:
    declared = version.get("subresources") or {}
    return {name: of for name, of in (("scale", "Scale"), ("status", kind)) if name in declared}


def _selectable(version: Obj) -> dict[str, str]:
    return {
        item["jsonPath"].lstrip("."): item["jsonPath"].lstrip(".") for item in version.get("selectableFields") or ()
    }
