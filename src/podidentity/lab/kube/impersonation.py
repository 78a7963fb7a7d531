"""Acting as somebody else: ``kubectl --as``, ``--as-group`` and ``--as-uid``, for those who may impersonate (pure)."""

from __future__ import annotations

from typing import Final

from multidict import CIMultiDictProxy

from podidentity.lab.kube.errors import bad_request, not_here
from podidentity.lab.kube.rbac import Attributes, Authorizer
from podidentity.lab.kube.users import ANONYMOUS, AUTHENTICATED, User

_USER: Final = "Impersonate-User"
_GROUP: Final = "Impersonate-Group"
_UID: Final = "Impersonate-Uid"
_EXTRA: Final = "impersonate-extra-"
_ACCOUNT: Final = "system:serviceaccount:"
_PARTS: Final = 4


def impersonated(user: User, headers: CIMultiDictProxy[str], authorizer: Authorizer) -> User:
    """The user the headers name, or ``user`` when they name none; 403 when ``user`` may not."""
    name, groups = headers.get(_USER, ""), tuple(headers.getall(_GROUP, []))
    if not name:
        if groups or _UID in headers or any(key.lower().startswith(_EXTRA) for key in headers):
            raise bad_request("requested groups, uid or extra without impersonating a user")
        return user
    if any(key.lower().startswith(_EXTRA) for key in headers):
        raise not_here("impersonation with extra fields")
    authorizer.demand(user, _asked(name))
    for group in groups:
        authorizer.demand(user, Attributes("impersonate", resource="groups", name=group))
    uid = headers.get(_UID, "")
    if uid:
        authorizer.demand(user, Attributes("impersonate", "authentication.k8s.io", "uids", name=uid))
    if name == ANONYMOUS.name:
        return ANONYMOUS
    return User(name, tuple(dict.fromkeys((*(groups or _groups_of(name)), AUTHENTICATED))), uid)


def _account(name: str) -> tuple[str, str] | None:
    """Namespace and name of a ServiceAccount's user name."""
    parts = name.split(":")
    return (parts[2], parts[3]) if name.startswith(_ACCOUNT) and len(parts) == _PARTS else None


def _asked(name: str) -> Attributes:
    if account := _account(name):
        return Attributes("impersonate", resource="serviceaccounts", namespace=account[0], name=account[1])
    return Attributes("impersonate", resource="users", name=name)


def _groups_of(name: str) -> tuple[str, ...]:
    account = _account(name)
    return ("system:serviceaccounts", f"system:serviceaccounts:{account[0]}") if account else ()
