"""What this server serves, and without a verb what it has not, as discovery documents (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from podidentity.lab.kube.absent import listed
from podidentity.lab.kube.kinds import Catalogue, Kind
from podidentity.lab.kube.objects import Obj

AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
VERSION: Final[Obj] = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.4",
    "gitCommit": "embedded",
    "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "none",
    "platform": "linux/amd64",
}
_SUBVERBS: Final = {
    "status": ["get", "patch", "update"],
    "scale": ["get", "patch", "update"],
    "finalize": ["update"],
    "log": ["get"],
    "exec": ["create", "get"],
    "proxy": ["get"],
    "binding": ["create"],
    "eviction": ["create"],
    "token": ["create"],
}
_SUBGROUPS: Final = {
    "eviction": ("policy", "v1"),
    "scale": ("autoscaling", "v1"),
    "token": ("authentication.k8s.io", "v1"),
}


def wants_aggregated(accept: str) -> bool:
    """Whether the client takes the aggregated document."""
    return "as=APIGroupDiscoveryList" in accept and "v=v2;" in accept.replace(" ", "") + ";"


def _groups(kinds: Iterable[Kind]) -> dict[str, dict[str, list[Kind]]]:
    groups: dict[str, dict[str, list[Kind]]] = {}
    for kind in kinds:
        groups.setdefault(kind.group, {}).setdefault(kind.version, []).append(kind)
    return groups


def aggregated(catalogue: Catalogue, *, core: bool) -> Obj:
    """``/api`` (``core``) or ``/apis``."""
    items = []
    for group, versions in _groups(listed(catalogue)).items():
        if (group == "") is not core:
            continue
        found = [
            {"version": version, "freshness": "Current", "resources": [_aggregated(kind) for kind in kinds]}
            for version, kinds in versions.items()
        ]
        items.append({"metadata": {"name": group} if group else {}, "versions": found})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _aggregated(kind: Kind) -> Obj:
    entry: Obj = {
        "resource": kind.plural,
        "responseKind": {"group": "", "version": "", "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.one,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    if kind.subresources:
        entry["subresources"] = [
            {
                "subresource": name,
                "responseKind": dict(
                    zip(("group", "version", "kind"), (*_SUBGROUPS.get(name, ("", "")), of), strict=True)
                ),
                "verbs": _SUBVERBS[name],
            }
            for name, of in kind.subresources.items()
        ]
    return entry


def versions() -> Obj:
    """``/api``, the plain way."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def _group(group: str, found: Iterable[str]) -> Obj:
    versions = [{"groupVersion": f"{group}/{version}", "version": version} for version in found]
    return {"name": group, "versions": versions, "preferredVersion": versions[0]}


def group_list(catalogue: Catalogue) -> Obj:
    """``/apis``, the plain way."""
    groups = [_group(group, found) for group, found in _groups(listed(catalogue)).items() if group]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(catalogue: Catalogue, name: str) -> Obj | None:
    """``/apis/GROUP``."""
    found = _groups(listed(catalogue)).get(name)
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, found)} if found and name else None


def resource_list(catalogue: Catalogue, name: str, version: str) -> Obj | None:
    """``/api/v1`` or ``/apis/GROUP/VERSION``."""
    kinds = _groups(listed(catalogue)).get(name, {}).get(version)
    if not kinds:
        return None
    resources = []
    for kind in kinds:
        entry: Obj = {"name": kind.plural, "singularName": kind.one, "namespaced": kind.namespaced, "kind": kind.kind}
        entry["verbs"] = list(kind.verbs)
        if kind.short_names:
            entry["shortNames"] = list(kind.short_names)
        if kind.categories:
            entry["categories"] = list(kind.categories)
        resources.append(entry)
        for sub, of in kind.subresources.items():
            part: Obj = {"name": f"{kind.plural}/{sub}", "singularName": "", "namespaced": kind.namespaced, "kind": of}
            if sub in _SUBGROUPS:
                part["group"], part["version"] = _SUBGROUPS[sub]
            resources.append({**part, "verbs": _SUBVERBS[sub]})
    version_name = f"{name}/{version}" if name else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version_name, "resources": resources}
