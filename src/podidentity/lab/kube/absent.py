"""The kinds a real API server has and this one has not: a request for one is told where to find it (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from podidentity.lab.kube.errors import StatusError, not_here, qualified

_ABSENT: Final[Mapping[str, str]] = {
    "": (
        "componentstatuses limitranges persistentvolumeclaims persistentvolumes podtemplates replicationcontrollers "
        "resourcequotas"
    ),
    "admissionregistration.k8s.io": (
        "mutatingwebhookconfigurations validatingadmissionpolicies validatingadmissionpolicybindings "
        "validatingwebhookconfigurations"
    ),
    "apiregistration.k8s.io": "apiservices",
    "apps": "controllerrevisions statefulsets",
    "authorization.k8s.io": "localsubjectaccessreviews",
    "autoscaling": "horizontalpodautoscalers",
    "batch": "cronjobs jobs",
    "certificates.k8s.io": "certificatesigningrequests",
    "discovery.k8s.io": "endpointslices",
    "events.k8s.io": "events",
    "flowcontrol.apiserver.k8s.io": "flowschemas prioritylevelconfigurations",
    "networking.k8s.io": "ingressclasses ingresses ipaddresses networkpolicies servicecidrs",
    "node.k8s.io": "runtimeclasses",
    "policy": "poddisruptionbudgets",
    "resource.k8s.io": "deviceclasses resourceclaims resourceclaimtemplates resourceslices",
    "scheduling.k8s.io": "priorityclasses",
    "storage.k8s.io": ("csinodes csistoragecapacities storageclasses volumeattachments volumeattributesclasses"),
}


def refusal(group: str, plural: str) -> StatusError | None:
    """404 for one of these kinds, None for any other name."""
    if plural not in _ABSENT.get(group, "").split():
        return None
    return not_here(qualified(plural, group), 404)
