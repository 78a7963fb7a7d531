"""Who may do what: RBAC over the roles and bindings in the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from podidentity.lab.kube.errors import StatusError, details
from podidentity.lab.kube.objects import Obj
from podidentity.lab.kube.store import Change, Store
from podidentity.lab.kube.users import MASTERS, User

_GROUP: Final = "rbac.authorization.k8s.io"
_RESOURCES: Final = tuple(
    f"{plural}.{_GROUP}" for plural in ("clusterroles", "clusterrolebindings", "roles", "rolebindings")
)
_REMEMBERED: Final = 1024


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is asked for. With ``path`` it is not about a resource."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def full_resource(self) -> str:
        """``pods`` or ``pods/log``."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


Granted = tuple[str, Mapping[str, Any]]
"""A rule and the namespace it is limited to, "" for all of them."""


class Authorizer:
    """Rules are gathered once a user and kept until any role or binding changes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rules: dict[tuple[str, tuple[str, ...]], tuple[Granted, ...]] = {}
        for resource in _RESOURCES:
            store.listen(resource, self._changed)

    def _changed(self, _change: Change) -> None:
        self._rules.clear()

    def granted(self, user: User) -> tuple[Granted, ...]:
        """Every rule that bindings give ``user``."""
        key = (user.name, user.groups)
        found = self._rules.get(key)
        if found is None:
            if len(self._rules) >= _REMEMBERED:
                self._rules.clear()
            found = self._rules[key] = tuple(self._gather(user))
        return found

    def _gather(self, user: User) -> Iterator[Granted]:
        for stored in self._store.scan(f"clusterrolebindings.{_GROUP}"):
            binding = stored.obj()
            if _binds(binding, user, ""):
                yield from (("", rule) for rule in self._role(binding, ""))
        for stored in self._store.scan(f"rolebindings.{_GROUP}"):
            binding = stored.obj()
            if _binds(binding, user, stored.namespace):
                yield from ((stored.namespace, rule) for rule in self._role(binding, stored.namespace))

    def _role(self, binding: Obj, namespace: str) -> list[Obj]:
        reference = binding.get("roleRef") or {}
        name = str(reference.get("name"))
        if reference.get("kind") == "Role":
            found = self._store.get(f"roles.{_GROUP}", namespace, name)
        else:
            found = self._store.get(f"clusterroles.{_GROUP}", "", name)
        return (found.obj().get("rules") or []) if found else []

    def allows(self, user: User, asked: Attributes) -> bool:
        """Whether any rule covers the request. Masters need none, so that nobody locks everybody out."""
        return MASTERS in user.groups or any(
            (not namespace or namespace == asked.namespace) and covers(rule, asked)
            for namespace, rule in self.granted(user)
        )

    def demand(self, user: User, asked: Attributes) -> None:
        """Raise 403 unless allowed."""
        if not self.allows(user, asked):
            raise refused(user, asked)


def _binds(binding: Obj, user: User, namespace: str) -> bool:
    for subject in binding.get("subjects") or ():
        kind, name = subject.get("kind"), subject.get("name")
        if kind == "User" and name == user.name:
            return True
        if kind == "Group" and name in user.groups:
            return True
        home = subject.get("namespace") or namespace
        if kind == "ServiceAccount" and user.name == f"system:serviceaccount:{home}:{name}":
            return True
    return False


def _holds(allowed: list[str] | None, value: str) -> bool:
    return bool(allowed) and ("*" in allowed or value in allowed)  # type: ignore[operator]  # bool() excludes None


def covers(rule: Mapping[str, Any], asked: Attributes) -> bool:
    """Whether one rule allows a request."""
    if not _holds(rule.get("verbs"), asked.verb):
        return False
    if asked.path:
        urls = rule.get("nonResourceURLs") or ()
        return any(url in {"*", asked.path} or (url.endswith("*") and asked.path.startswith(url[:-1])) for url in urls)
    if not _holds(rule.get("apiGroups"), asked.group):
        return False
    resources = rule.get("resources") or []
    if not _holds(resources, asked.full_resource) and not (asked.subresource and f"*/{asked.subresource}" in resources):
        return False
    names = rule.get("resourceNames")
    return not names or asked.name in names


def refused(user: User, asked: Attributes) -> StatusError:
    """403 in the real server's words."""
    if asked.path:
        return StatusError(403, f'forbidden: User "{user.name}" cannot {asked.verb} path "{asked.path}"', details={})
    resource = f"{asked.resource}.{asked.group}" if asked.group else asked.resource
    of = f'{resource} "{asked.name}"' if asked.name else resource
    where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    message = (
        f'{of} is forbidden: User "{user.name}" cannot {asked.verb} resource "{asked.full_resource}" '
        f'in API group "{asked.group}" {where}'
    )
    return StatusError(403, message, details=details(asked.resource, asked.group, asked.name))
