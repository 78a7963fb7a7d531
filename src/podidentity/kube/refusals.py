"""What a person has to mend before the API serves us: a right, a CRD, a version. Pure text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from podidentity.api.constants import GROUP

if TYPE_CHECKING:
    from podidentity.api.resources import Resource

OLDEST: Final = (1, 16)
"""The first Kubernetes that serves ``apiextensions.k8s.io/v1``, in which our CRDs are written."""

_FORBIDDEN: Final = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)" in API group "[^"]*"'
    r'(?P<scope> at the cluster scope| in the namespace "[^"]*")'
)
_NAMED: Final = re.compile(r'^\S+ "(?P<name>[^"]*)" is forbidden: ')
_ACCOUNT: Final = "system:serviceaccount:"
_SUFFIX: Final = "-service-account"
_VERSION: Final = re.compile(r"v(\d+)\.(\d+)")


def missing_right(message: str) -> str:
    """Say which right the API's 403 ``message`` is about and who needs it; empty when it is about something else."""
    found = _FORBIDDEN.search(message)
    if found is None:
        return ""
    named = _NAMED.search(message)
    resource = f"{found['resource']} {named['name']}" if named else found["resource"]
    return f"may not {found['verb']} {resource}{found['scope']}; {_remedy(found['resource'], found['user'])}"


def _remedy(resource: str, user: str) -> str:
    if resource == "secrets":
        return f"give {_grantee(user)[0]} the Role aad-pod-id-nmi-secrets there (docs/howto/restrict-secrets.md)"
    if resource == "tokenreviews":
        return f"apply deploy/nmi-token-review.yaml, which grants it to {_grantee(user)[0]}"
    return f"grant it to {' '.join(_grantee(user)).strip()}"


def _grantee(user: str) -> tuple[str, str]:
    """Who, and in which role of the manifests or the chart, whose accounts and roles are named alike."""
    if not user.startswith(_ACCOUNT):
        return f"user {user}", ""
    namespace, _, name = user.removeprefix(_ACCOUNT).partition(":")
    role = f"{name.removesuffix(_SUFFIX)}-role" if name.endswith(_SUFFIX) else name
    return f"ServiceAccount {namespace}/{name}", f"(ClusterRole {role} in deploy/)"


def missing_kind(resource: Resource[Any]) -> str:
    """Say what is not served."""
    if resource.group != GROUP:
        return f"this Kubernetes does not serve {resource.plural} in {resource.api_version}"
    crd = f"{resource.plural}.{resource.group}"
    return f"CRD {crd} is not installed in version {resource.version}; apply deploy/deployment-rbac.yaml"


def too_old(version: str) -> str:
    """Say that an API server of ``version`` (``v1.34.4``) cannot hold our CRDs; empty when it can."""
    found = _VERSION.match(version)
    if found is None or (int(found[1]), int(found[2])) >= OLDEST:
        return ""
    oldest = ".".join(map(str, OLDEST))
    return f"Kubernetes {version} is too old: it has no CRDs in apiextensions.k8s.io/v1; upgrade to v{oldest} or later"
