"""The kinds a real API server has and this one has not: a request for one is told where to find it (pure).

Discovery names them without a verb. kubectl then asks about them and prints the answer, instead of guessing that a
CustomResourceDefinition is missing; ``api-resources`` does not list what has no verb.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from podidentity.lab.kube.errors import StatusError, not_here
from podidentity.lab.kube.kinds import Catalogue, Kind

_ABSENT: Final[Mapping[str, str]] = {
    "v1": """
        componentstatuses:ComponentStatus:cs:cluster limitranges:LimitRange:limits
        persistentvolumeclaims:PersistentVolumeClaim:pvc persistentvolumes:PersistentVolume:pv:cluster
        podtemplates:PodTemplate replicationcontrollers:ReplicationController:rc resourcequotas:ResourceQuota:quota
    """,
    "admissionregistration.k8s.io/v1": """
        mutatingwebhookconfigurations:MutatingWebhookConfiguration::cluster
        validatingadmissionpolicies:ValidatingAdmissionPolicy::cluster
        validatingadmissionpolicybindings:ValidatingAdmissionPolicyBinding::cluster
        validatingwebhookconfigurations:ValidatingWebhookConfiguration::cluster
    """,
    "apiregistration.k8s.io/v1": "apiservices:APIService::cluster",
    "apps/v1": "controllerrevisions:ControllerRevision statefulsets:StatefulSet:sts",
    "authorization.k8s.io/v1": "localsubjectaccessreviews:LocalSubjectAccessReview",
    "autoscaling/v1": "horizontalpodautoscalers:HorizontalPodAutoscaler:hpa",
    "autoscaling/v2": "horizontalpodautoscalers:HorizontalPodAutoscaler:hpa",
    "batch/v1": "cronjobs:CronJob:cj jobs:Job",
    "certificates.k8s.io/v1": "certificatesigningrequests:CertificateSigningRequest:csr:cluster",
    "discovery.k8s.io/v1": "endpointslices:EndpointSlice",
    "events.k8s.io/v1": "events:Event:ev",
    "flowcontrol.apiserver.k8s.io/v1": """
        flowschemas:FlowSchema::cluster prioritylevelconfigurations:PriorityLevelConfiguration::cluster
    """,
    "networking.k8s.io/v1": """
        ingressclasses:IngressClass::cluster ingresses:Ingress:ing ipaddresses:IPAddress:ip:cluster
        networkpolicies:NetworkPolicy:netpol servicecidrs:ServiceCIDR::cluster
    """,
    "node.k8s.io/v1": "runtimeclasses:RuntimeClass::cluster",
    "policy/v1": "poddisruptionbudgets:PodDisruptionBudget:pdb",
    "resource.k8s.io/v1": """
        deviceclasses:DeviceClass::cluster resourceclaims:ResourceClaim
        resourceclaimtemplates:ResourceClaimTemplate resourceslices:ResourceSlice::cluster
    """,
    "scheduling.k8s.io/v1": "priorityclasses:PriorityClass:pc:cluster",
    "storage.k8s.io/v1": """
        csinodes:CSINode::cluster csistoragecapacities:CSIStorageCapacity storageclasses:StorageClass:sc:cluster
        volumeattachments:VolumeAttachment::cluster volumeattributesclasses:VolumeAttributesClass:vac:cluster
    """,
}
"""Group and version to words ``plural:Kind:short:scope``; the last two may be missing."""


def _kinds() -> Iterator[Kind]:
    for api_version, words in _ABSENT.items():
        group, _, version = api_version.rpartition("/")
        for word in words.split():
            plural, kind, short, scope = [*word.split(":"), "", ""][:4]
            shorts = (short,) if short else ()
            yield Kind(group, version, plural, kind, scope != "cluster", short_names=shorts, verbs=())


SUBRESOURCES: Final[Mapping[str, frozenset[str]]] = {
    "nodes": frozenset(["proxy"]),
    "pods": frozenset(["attach", "ephemeralcontainers", "portforward", "resize"]),
    "services": frozenset(["proxy"]),
}
"""What a real API server has below objects that are here."""

KINDS: Final = tuple(_kinds())
_RESOURCES: Final = frozenset((kind.group, kind.plural) for kind in KINDS)


def listed(catalogue: Catalogue) -> tuple[Kind, ...]:
    """Every kind served and every kind that is not, ordered by group and plural."""
    missing = [kind for kind in KINDS if catalogue.find(kind.group, kind.version, kind.plural) is None]
    return tuple(sorted((*catalogue.all(), *missing), key=lambda kind: (kind.group, kind.version, kind.plural)))


def refusal(group: str, plural: str) -> StatusError | None:
    """404 for one of these kinds, None for any other name."""
    if (group, plural) not in _RESOURCES:
        return None
    return not_here(f"{plural}.{group}" if group else plural, 404)
