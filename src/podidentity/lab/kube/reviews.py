"""Questions about identity and rights: token requests, token, access and rules reviews."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from podidentity.lab.kube.errors import Cause, StatusError, bad_request, conflict, invalid, not_found
from podidentity.lab.kube.kinds import Kind
from podidentity.lab.kube.objects import Obj, dig, go_value, json_name, meta, rfc3339
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
        head = {"kind": kind.kind, "apiVersion": kind.api_version}
        if kind.plural == "selfsubjectreviews":
            return {**head, "metadata": {"creationTimestamp": rfc3339(self._signer.now())}, "status": status}
        shown = {} if kind.plural == "selfsubjectrulesreviews" else spec
        return {**head, "metadata": {}, "spec": shown, "status": status}

    def _decide(self, spec: Obj, user: User) -> Obj:
        resource, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
        if resource is not None and other is not None:
            text = f"Invalid value: {go_value(other)}: cannot be specified in combination with resourceAttributes"
            raise _invalid_access("spec.nonResourceAttributes", text)
        if resource is None and other is None:
            text = "Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified"
            raise _invalid_access("spec.resourceAttributes", text)
        asked = _attributes(spec)
        if (why := self._authorizer.why(user, asked)) is not None:
            return {"allowed": True, **({"reason": why} if why else {})}
        missing = self._authorizer.missing(user, asked.namespace).removeprefix(": ")
        return {"allowed": False, **({"reason": missing} if missing else {})}

    def _self_access(self, spec: Obj, user: User) -> Obj:
        return self._decide(spec, user)

    def _access(self, spec: Obj, _user: User) -> Obj:
        name, groups = str(spec.get("user") or ""), tuple(spec.get("groups") or ())
        if not (name or groups):
            raise _invalid_access("spec.user", 'Invalid value: "": at least one of user or group must be specified')
        return self._decide(spec, User(name, groups))

    def _rules(self, spec: Obj, user: User) -> Obj:
        namespace = spec.get("namespace")
        if not namespace:
            raise bad_request("no namespace on request")
        rules = [found.rule for found in self._authorizer.granted(user) if found.namespace in {"", namespace}]
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
        token, audiences = str(spec.get("token") or ""), tuple(spec.get("audiences") or (ISSUER,))
        if not token:
            raise bad_request("token is required for TokenReview in authentication")
        user, meant = self._authenticator.bearer(token, audiences)
        if user is None:
            return {"user": {}, "error": self._authenticator.refusal(token, audiences)}
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
        seconds = _seconds(spec)
        audiences = [str(audience) for audience in spec.get("audiences") or (ISSUER,)]
        now = self._signer.now()
        claims = account_claims(
            namespace,
            found.obj(),
            audiences=audiences,
            seconds=seconds,
            now=now,
            bound=self._bound(namespace, name, spec.get("boundObjectRef") or {}),
        )
        reference = spec.get("boundObjectRef")
        full = {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": reference}
        status = {"token": self._signer.sign(claims), "expirationTimestamp": rfc3339(claims["exp"])}
        metadata = {"name": name, "namespace": namespace, "uid": claims["jti"], "creationTimestamp": rfc3339(now)}
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": metadata,
            "spec": full,
            "status": status,
        }

    def _bound(self, namespace: str, account: str, reference: Obj) -> dict[str, Obj]:
        if not reference:
            return {}
        kind, name = str(reference.get("kind")), str(reference.get("name"))
        if kind not in _BINDABLE:
            raise bad_request(f"cannot bind token to object of type /{reference.get('apiVersion')}, Kind={kind}")
        plural = _BINDABLE[kind]
        found = self._store.get(plural, "" if kind == "Node" else namespace, name)
        if found is None:
            raise not_found(plural, "", name)
        obj = found.obj()
        if kind == "Pod" and dig(obj, "spec", "serviceAccountName") != account:
            other = "to pod running with different serviceaccount name."
            raise bad_request(f'cannot bind token for serviceaccount "{account}" {other}')
        if reference.get("uid") and reference["uid"] != meta(obj).get("uid"):
            why = (
                f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record. "
                "The object might have been deleted and then recreated"
            )
            raise conflict(kind, "", name, why)
        return {kind.lower(): obj}


def _seconds(spec: Obj) -> int:
    """How long a token is to live; 400 or 422 when that is no such number."""
    found = spec.get("expirationSeconds")
    seconds = _USUAL if found is None else found
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        why = (
            f"json: cannot unmarshal {json_name(seconds)} into Go struct field TokenRequestSpec.spec.expirationSeconds"
        )
        raise bad_request(f'TokenRequest in version "v1" cannot be handled as a TokenRequest: {why} of type int64')
    if not _SHORTEST <= seconds <= _LONGEST:
        limit = "less than 10 minutes" if seconds < _SHORTEST else "larger than 2^32 seconds"
        text = f"Invalid value: {seconds}: may not specify a duration {limit}"
        cause = Cause("FieldValueInvalid", text, "spec.expirationSeconds")
        raise invalid("TokenRequest", "authentication.k8s.io", "", [cause])
    return seconds


def _invalid_access(field: str, text: str) -> StatusError:
    return invalid("", "authorization.k8s.io", "", [Cause("FieldValueInvalid", text, field)])


def _attributes(spec: Mapping[str, Any]) -> Attributes:
    if other := spec.get("nonResourceAttributes"):
        return Attributes(str(other.get("verb") or ""), path=str(other.get("path") or ""))
    asked = spec.get("resourceAttributes") or {}
    names = ("verb", "group", "resource", "subresource", "namespace", "name")
    return replace(Attributes(""), **{name: str(asked.get(name) or "") for name in names})
