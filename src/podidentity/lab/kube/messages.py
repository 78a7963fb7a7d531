"""What kubectl's and helm's typed clients send as protobuf: the fields of each kind by number (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Field:
    """One field: ``type`` is text, int, bool, bytes, either (a number or a text), drop, map, bytesmap, or a message."""

    name: str
    type: str | Mapping[int, Field] = "text"
    repeated: bool = False


Message = Mapping[int, Field]


def texts(*names: str) -> dict[int, Field]:
    """A message of text fields that are numbered from 1."""
    return {number: Field(name) for number, name in enumerate(names, 1)}


_DROP: Final = Field("", "drop")
_META: Final[Message] = {
    1: Field("name"),
    2: Field("generateName"),
    3: Field("namespace"),
    4: _DROP,
    5: Field("uid"),
    6: Field("resourceVersion"),
    7: _DROP,
    8: _DROP,
    9: _DROP,
    10: _DROP,
    11: Field("labels", "map"),
    12: Field("annotations", "map"),
    13: Field("ownerReferences", {1: Field("kind"), 3: Field("name"), 4: Field("uid"), 5: Field("apiVersion")}, True),  # noqa: FBT003 - a table
    14: Field("finalizers", repeated=True),
    17: _DROP,
}
_OBJECT: Final[Message] = {1: Field("metadata", _META), 3: _DROP}
_RULES: Final[Message] = {
    number: Field(name, repeated=True)
    for number, name in enumerate(("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs"), 1)
}
_RESOURCE: Final[Message] = texts("namespace", "verb", "group", "version", "resource", "subresource", "name")
_ACCESS: Final[Message] = {
    1: Field("resourceAttributes", _RESOURCE),
    2: Field("nonResourceAttributes", texts("path", "verb")),
}
_ROLE: Final[Message] = {1: Field("metadata", _META), 2: Field("rules", _RULES, repeated=True)}
_BINDING: Final[Message] = {
    1: Field("metadata", _META),
    2: Field("subjects", texts("kind", "apiGroup", "name", "namespace"), repeated=True),
    3: Field("roleRef", texts("apiGroup", "kind", "name")),
}
_CONTAINER: Final[Message] = {
    1: Field("name"),
    2: Field("image"),
    3: Field("command", repeated=True),
    4: Field("args", repeated=True),
    6: Field("ports", {3: Field("containerPort", "int"), 4: Field("protocol")}, repeated=True),
    8: Field("resources", {}),
}
_SERVICE_PORT: Final[Message] = {
    1: Field("name"),
    2: Field("protocol"),
    3: Field("port", "int"),
    4: Field("targetPort", "either"),
}
_TOKEN: Final[Message] = {
    1: Field("audiences", repeated=True),
    3: Field("boundObjectRef", texts("kind", "apiVersion", "name", "uid")),
    4: Field("expirationSeconds", "int"),
}
_OPTIONS: Final[Message] = {
    1: Field("gracePeriodSeconds", "int"),
    2: Field("preconditions", texts("uid", "resourceVersion")),
    3: _DROP,
    4: Field("propagationPolicy"),
    5: Field("dryRun", repeated=True),
}
_POD: Final[Message] = {
    2: Field("containers", _CONTAINER, repeated=True),
    3: Field("restartPolicy"),
    14: Field("securityContext", {}),
}
_TEMPLATE: Final[Message] = {1: Field("metadata", _META), 2: Field("spec", _POD)}
_DEPLOYMENT: Final[Message] = {
    1: Field("replicas", "int"),
    2: Field("selector", {1: Field("matchLabels", "map")}),
    3: Field("template", _TEMPLATE),
    4: Field("strategy", {1: Field("type")}),
}
_SERVICE: Final[Message] = {
    1: Field("ports", _SERVICE_PORT, repeated=True),
    2: Field("selector", "map"),
    3: Field("clusterIP"),
    4: Field("type"),
    7: Field("sessionAffinity"),
    10: Field("externalName"),
}
KINDS: Final[Mapping[str, Message]] = {
    "Namespace": {1: Field("metadata", _META), 2: _DROP, 3: _DROP},
    "ServiceAccount": {1: Field("metadata", _META), 4: Field("automountServiceAccountToken", "bool")},
    "ConfigMap": {
        1: Field("metadata", _META),
        2: Field("data", "map"),
        3: Field("binaryData", "bytesmap"),
        4: Field("immutable", "bool"),
    },
    "Secret": {
        1: Field("metadata", _META),
        2: Field("data", "bytesmap"),
        3: Field("type"),
        4: Field("stringData", "map"),
        5: Field("immutable", "bool"),
    },
    "Deployment": {**_OBJECT, 2: Field("spec", _DEPLOYMENT)},
    "Service": {**_OBJECT, 2: Field("spec", _SERVICE)},
    "ClusterRole": _ROLE,
    "Role": _ROLE,
    "ClusterRoleBinding": _BINDING,
    "RoleBinding": _BINDING,
    "TokenRequest": {**_OBJECT, 2: Field("spec", _TOKEN)},
    "SelfSubjectAccessReview": {**_OBJECT, 2: Field("spec", _ACCESS)},
    "SelfSubjectRulesReview": {**_OBJECT, 2: Field("spec", texts("namespace"))},
    "SelfSubjectReview": {1: Field("metadata", _META), 2: _DROP},
    "DeleteOptions": _OPTIONS,
    "Eviction": {1: Field("metadata", _META), 2: Field("deleteOptions", _OPTIONS)},
}
