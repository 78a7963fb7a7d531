"""Questions about identity and rights: token requests, token, access and rules reviews."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from podidentity.lab.kube.errors import Cause, bad_request, invalid, not_found
from podidentity.lab.kube.kinds import Kind
from podidentity.lab.kube.objects import Obj, meta, rfc3339
from podidentity.lab.kube.rbac import Attributes, Authorizer
from podidentity.lab.kube.store import Store
from podidentity.lab.kube.users import ISSUER, Authenticator, TokenSigner, User, account_claims

_SHORTEST, _LONGEST, _USUAL = 600, 2**32, 3600
_BINDABLE: Final = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}


class Reviews:
    """Answers to the kinds that are only ever created."""

    def __init__(self, store: Store, authenticator: Authenticator, authorizer: Authorizer, signer: TokenSigner) -> None:
        self._store = store
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._signer = signer
        self._answers: Mapping[str, Callable[[Obj, User], Obj]] = {
            "selfsubjectaccessreviews": self._self_access,
            "subjectaccessreviews": self._access,
            "selfsubjectrulesreviews": self._rules,
            "tokenreviews": self._token,
            "selfsubjectreviews": self._self,
        }

    def answers(self, kind: Kind) -> bool:
        """Whether the kind is one of these."""
        return kind.plural in self._answers and not kind.custom

    def answer(self, kind: Kind, body: Obj, user: User) -> Obj:
        """The review with its status."""
        spec = body.get("spec") or {}
        if not isinstance(spec, dict):
            raise bad_request("spec is not an object")
        status = self._answers[kind.plural](spec, user)
        made = rfc3339(self._signer.now()) if kind.plural == "selfsubjectreviews" else None
        metadata = {"creationTimestamp": made}
        return {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata, "spec": spec, "status": status}

    def _decide(self, spec: Obj, user: User) -> Obj:
        allowed = self._authorizer.allows(user, _attributes(spec))
        return {"allowed": allowed, "reason": "RBAC: allowed by a rule" if allowed else ""}

    def _self_access(self, spec: Obj, user: User) -> Obj:
        return self._decide(spec, user)

    def _access(self, spec: Obj, _user: User) -> Obj:
        return self._decide(spec, User(str(spec.get("user") or ""), tuple(spec.get("groups") or ())))

    def _rules(self, spec: Obj, user: User) -> Obj:
        namespace = spec.get("namespace") or ""
        rules = [rule for home, rule in self._authorizer.granted(user) if home in {"", namespace}]
        names = ("verbs", "apiGroups", "resources", "resourceNames")
        return {
            "resourceRules": [
                {key: rule[key] for key in names if rule.get(key)} for rule in rules if rule.get("resources")
            ],
            "nonResourceRules": [
                {key: rule[key] for key in ("verbs", "nonResourceURLs")}
                for rule in rules
                if rule.get("nonResourceURLs")
            ],
            "incomplete": False,
        }

    def _token(self, spec: Obj, _user: User) -> Obj:
        audiences = tuple(spec.get("audiences") or (ISSUER,))
        user, meant = self._authenticator.bearer(str(spec.get("token") or ""), audiences)
        if user is None:
            return {"user": {}, "error": "the token is not valid for this audience or was not issued by this cluster"}
        return {"authenticated": True, "user": user.info(), "audiences": list(meant)}

    @staticmethod
    def _self(_spec: Obj, user: User) -> Obj:
        return {"userInfo": user.info()}

    def token_request(self, namespace: str, name: str, body: Obj) -> Obj:
        """A new token of a ServiceAccount; 404 when it or the object the token is bound to does not exist."""
        found = self._store.get("serviceaccounts", namespace, name)
        if found is None:
            raise not_found("serviceaccounts", "", name)
        spec = body.get("spec") or {}
        seconds = int(spec.get("expirationSeconds") or _USUAL)
        if not _SHORTEST <= seconds <= _LONGEST:
            text = f"Invalid value: {seconds}: may not specify a duration less than 10 minutes"
            cause = Cause("FieldValueInvalid", text, "spec.expirationSeconds")
            raise invalid("TokenRequest", "authentication.k8s.io", "", [cause])
        audiences = [str(audience) for audience in spec.get("audiences") or (ISSUER,)]
        now = self._signer.now()
        claims = account_claims(
            namespace,
            found.obj(),
            audiences=audiences,
            seconds=seconds,
            now=now,
            bound=self._bound(namespace, spec.get("boundObjectRef") or {}),
        )
        full = {**spec, "audiences": audiences, "expirationSeconds": seconds}
        status = {"token": self._signer.sign(claims), "expirationTimestamp": rfc3339(claims["exp"])}
        metadata = {"name": name, "namespace": namespace, "uid": claims["jti"], "creationTimestamp": rfc3339(now)}
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": metadata,
            "spec": full,
            "status": status,
        }

    def _bound(self, namespace: str, reference: Obj) -> dict[str, Obj]:
        if not reference:
            return {}
        kind, name = str(reference.get("kind")), str(reference.get("name"))
        if kind not in _BINDABLE:
            raise bad_request(f"cannot bind token for serviceaccount to object of type {kind}")
        plural = _BINDABLE[kind]
        found = self._store.get(plural, "" if kind == "Node" else namespace, name)
        if found is None:
            raise not_found(plural, "", name)
        uid = meta(found.obj()).get("uid")
        if reference.get("uid") and reference["uid"] != uid:
            message = (
                f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record ({uid})"
            )
            raise bad_request(message)
        return {kind.lower(): found.obj()}


def _attributes(spec: Mapping[str, Any]) -> Attributes:
    if other := spec.get("nonResourceAttributes"):
        return Attributes(str(other.get("verb") or ""), path=str(other.get("path") or ""))
    asked = spec.get("resourceAttributes") or {}
    names = ("verb", "group", "resource", "subresource", "namespace", "name")
    return replace(Attributes(""), **{name: str(asked.get(name) or "") for name in names})
