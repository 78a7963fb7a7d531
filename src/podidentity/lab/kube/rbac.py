"""Who may do what: RBAC over the roles and bindings in the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from podidentity.lab.kube.errors import StatusError, details
from podidentity.lab.kube.objects import Obj
from podidentity.lab.kube.store import Change, Store, Stored
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


@dataclass(frozen=True, slots=True)
class Granted:
    """A rule, the namespace it is limited to ("" for all of them), and the binding that gives it."""

    namespace: str
    rule: Mapping[str, Any]
    by: str


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

    def _bindings(self, user: User) -> Iterator[tuple[Stored, Obj, str]]:
        """Each binding of the user: as stored, its roleRef, and the subject that is the user."""
        for resource in (f"clusterrolebindings.{_GROUP}", f"rolebindings.{_GROUP}"):
            for stored in self._store.scan(resource):
                binding = stored.obj()
                if subject := _subject(binding, user, stored.namespace):
                    yield stored, binding.get("roleRef") or {}, subject

    def _gather(self, user: User) -> Iterator[Granted]:
        for stored, reference, subject in self._bindings(user):
            kind = "RoleBinding" if stored.namespace else "ClusterRoleBinding"
            name = "/".join(filter(None, (stored.name, stored.namespace)))
            by = f'{kind} "{name}" of {reference.get("kind")} "{reference.get("name")}" to {subject}'
            role = self._role(reference, stored.namespace)
            rules = (role.obj().get("rules") or []) if role else []
            yield from (Granted(stored.namespace, rule, by) for rule in rules)

    def _role(self, reference: Obj, namespace: str) -> Stored | None:
        name = str(reference.get("name"))
        if reference.get("kind") == "Role":
            return self._store.get(f"roles.{_GROUP}", namespace, name)
        return self._store.get(f"clusterroles.{_GROUP}", "", name)

    def missing(self, user: User, namespace: str) -> str:
        """The roles that the user's bindings name and nobody made, as the end of a refusal."""
        found = [
            f'{str(reference.get("kind")).lower()}.{_GROUP} "{reference.get("name")}" not found'
            for stored, reference, _ in self._bindings(user)
            if stored.namespace in {"", namespace} and self._role(reference, stored.namespace) is None
        ]
        text = found[0] if len(found) == 1 else f"[{', '.join(found)}]"
        return f": RBAC: {text}" if found else ""

    def why(self, user: User, asked: Attributes) -> str | None:
        """Which binding allows a request, None when none does. Masters need none: nobody locks everybody out."""
        if MASTERS in user.groups:
            return ""
        for found in self.granted(user):
            if found.namespace in {"", asked.namespace} and covers(found.rule, asked):
                return f"RBAC: allowed by {found.by}"
        return None

    def demand(self, user: User, asked: Attributes) -> None:
        """Raise 403 unless allowed."""
        if self.why(user, asked) is None:
            raise refused(user, asked, self.missing(user, asked.namespace))


def _subject(binding: Obj, user: User, namespace: str) -> str:
    """The subject of a binding that is the user, empty when none is."""
    for subject in binding.get("subjects") or ():
        kind, name = subject.get("kind"), str(subject.get("name"))
        home = subject.get("namespace") or namespace
        if (kind == "User" and name == user.name) or (kind == "Group" and name in user.groups):
            return f'{kind} "{name}"'
        if kind == "ServiceAccount" and user.name == f"system:serviceaccount:{home}:{name}":
            return f'{kind} "{name}/{home}"'
    return ""


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


def refused(user: User, asked: Attributes, more: str = "") -> StatusError:
    """403 in the real server's words; ``more`` ends the message."""
    if asked.path:
        message = f'forbidden: User "{user.name}" cannot {asked.verb} path "{asked.path}"{more}'
        return StatusError(403, message, details={})
    resource = f"{asked.resource}.{asked.group}" if asked.group else asked.resource
    of = f'{resource} "{asked.name}"' if asked.name else resource
    where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    message = (
        f'{of} is forbidden: User "{user.name}" cannot {asked.verb} resource "{asked.full_resource}" '
        f'in API group "{asked.group}" {where}{more}'
    )
    return StatusError(403, message, details=details(asked.resource, asked.group, asked.name))
