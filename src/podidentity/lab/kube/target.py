"""What a URL names and which verb a request is: path and query to a value (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from podidentity.lab.kube.errors import StatusError
from podidentity.lab.kube.kinds import Kind
from podidentity.lab.kube.rbac import Attributes
from podidentity.lab.kube.requests import Where

_VERBS: Final = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_TRUE: Final = frozenset(["true", "1"])
_NAMESPACE_SUBRESOURCES: Final = frozenset(["status", "finalize"])
_API, _APIS = 2, 3
PROXY: Final = "proxy"
"""The subresource behind which a path is somebody else's."""


@dataclass(frozen=True, slots=True)
class Target:
    """A resource request. ``namespace`` is empty for all namespaces and for cluster-scoped objects."""

    verb: str
    group: str
    version: str
    plural: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    def where(self, kind: Kind, subresource: str = "") -> Where:
        """The object or collection in the store: cluster-scoped objects have no namespace there."""
        return Where(kind, self.namespace if kind.namespaced else "", self.name, subresource)

    def attributes(self, query: Mapping[str, str]) -> Attributes:
        """What authorization is asked for."""
        name = self.name
        if not name and self.verb in {"list", "watch", "deletecollection"}:
            key, _, value = query.get("fieldSelector", "").partition("=")
            name = value.lstrip("=") if key == "metadata.name" and "," not in value else ""
        return Attributes(self.verb, self.group, self.plural, self.subresource, self.namespace, name)


def flag(query: Mapping[str, str], name: str) -> bool:
    """A boolean query parameter."""
    return query.get(name, "").lower() in _TRUE


def parse(method: str, path: str, query: Mapping[str, str]) -> Target | None:
    """The resource a path names, or None when it names something else (discovery, health)."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > _API:
        group, version, rest = "", parts[1], parts[_API:]
    elif parts[0] == "apis" and len(parts) > _APIS:
        group, version, rest = parts[1], parts[2], parts[_APIS:]
    else:
        return None
    above: list[str] = []
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in _NAMESPACE_SUBRESOURCES:  # noqa: PLR2004 - ns, kind
        above, rest = rest[:2], rest[2:]
    if rest[2:3] == [PROXY]:
        rest = rest[:3]
    if "" in (*above, *rest):
        return None
    namespace = above[1] if above else ""
    plural, name, subresource = [*rest, "", ""][:3]
    if len(rest) > 3:  # noqa: PLR2004 - kind, name, subresource
        subresource = "/".join(rest[2:])
    if plural == "namespaces":
        namespace = name
    return Target(_verb(method, name, query), group, version, plural, namespace, name, subresource)


def _verb(method: str, name: str, query: Mapping[str, str]) -> str:
    verb = _VERBS.get(method)
    if verb is None:
        raise StatusError(405, "the server does not allow this method on the requested resource", details={})
    if not name:
        if verb == "get":
            return "watch" if flag(query, "watch") else "list"
        if verb == "delete":
            return "deletecollection"
    return verb
