"""What operators read when the API refuses: which right, which CRD, which version."""

from __future__ import annotations

import pytest

from podidentity.api.resources import AZURE_IDENTITIES, LEASES
from podidentity.kube.errors import Forbidden
from podidentity.kube.refusals import missing_kind, missing_right, too_old

MIC = "system:serviceaccount:default:aad-pod-id-mic-service-account"
NMI = "system:serviceaccount:default:aad-pod-id-nmi-service-account"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            f'pods is forbidden: User "{MIC}" cannot list resource "pods" in API group "" at the cluster scope',
            (
                "may not list pods at the cluster scope; grant it to ServiceAccount "
                "default/aad-pod-id-mic-service-account (ClusterRole aad-pod-id-mic-role in deploy/)"
            ),
        ),
        (
            (
                'leases.coordination.k8s.io "x" is forbidden: User "system:serviceaccount:infra:aad-pod-identity-mic" '
                'cannot update resource "leases" in API group "coordination.k8s.io" in the namespace "infra"'
            ),
            (
                'may not update leases x in the namespace "infra"; grant it to ServiceAccount '
                "infra/aad-pod-identity-mic (ClusterRole aad-pod-identity-mic in deploy/)"
            ),
        ),
        (
            (
                f'secrets "sp" is forbidden: User "{NMI}" cannot get resource "secrets" in API group "" in the '
                'namespace "team": RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found'
            ),
            (
                'may not get secrets sp in the namespace "team"; give ServiceAccount '
                "default/aad-pod-id-nmi-service-account the Role aad-pod-id-nmi-secrets there "
                "(docs/howto/restrict-secrets.md)"
            ),
        ),
        (
            'nodes is forbidden: User "jane" cannot watch resource "nodes" in API group "" at the cluster scope',
            "may not watch nodes at the cluster scope; grant it to user jane",
        ),
        ("pods is forbidden: exceeded quota", ""),
    ],
)
def test_a_missing_right(message: str, said: str) -> None:
    """A 403 is told as the right to grant, and to whom; any other 403 keeps the API's words."""
    assert missing_right(message) == said
    assert str(Forbidden(403, "Forbidden", message)) == (said or f"{message} (403 Forbidden)")


def test_what_is_not_served() -> None:
    """A 404 of a whole kind names the CRD to apply, or the built-in kind an old server lacks."""
    assert missing_kind(AZURE_IDENTITIES) == (
        "CRD azureidentities.aadpodidentity.k8s.io is not installed in version v1; apply deploy/deployment-rbac.yaml"
    )
    assert missing_kind(LEASES) == "this Kubernetes does not serve leases in coordination.k8s.io/v1"


@pytest.mark.parametrize(
    ("version", "old"), [("v1.15.12", True), ("v1.16.0", False), ("v1.34.4", False), ("v2.0.0", False), ("odd", False)]
)
def test_an_old_server(version: str, old: bool) -> None:
    """A Kubernetes without our CRDs' API version is named with its version; an unknown version is no complaint."""
    assert bool(too_old(version)) == old
    assert not old or too_old(version).startswith(f"Kubernetes {version} is too old: ")
