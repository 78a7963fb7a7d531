"""Names that are contracts: labels, annotations, finalizers, states, object names."""

from __future__ import annotations

from typing import Final

GROUP: Final = "aadpodidentity.k8s.io"
VERSION: Final = "v1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

POD_LABEL: Final = "aadpodidbinding"
"""Label of a pod; its value is compared for equality with a binding's ``spec.selector``."""

NODE_LABEL: Final = "nodename"
"""Label of an AzureAssignedIdentity: the node whose nmi watches it."""

FINALIZER: Final = "azureassignedidentity.finalizers.aadpodidentity.k8s.io"

BEHAVIOR_ANNOTATION: Final = "aadpodidentity.k8s.io/Behavior"
BEHAVIOR_NAMESPACED: Final = "namespaced"

POD_UID_ANNOTATION: Final = "aadpodidentity.k8s.io/pod-uid"
"""UID of the pod an AzureAssignedIdentity was made for; absent on the original's objects."""

PRESENT_BEFORE_ANNOTATION: Final = "aadpodidentity.k8s.io/present-before"
"""``true`` when the identity was on the host before the first PATCH: it is never removed.

``unknown`` until the host could be read; absent: it was not there, or the object is the original's.
"""

HOST_ANNOTATION: Final = "aadpodidentity.k8s.io/host"
"""ARM id of the machine or scale set under the node, so that it is cleaned even after its last node is gone."""

STATE_CREATED: Final = "Created"
STATE_ASSIGNED: Final = "Assigned"
STATE_UNASSIGNED: Final = "Unassigned"

TYPE_USER_ASSIGNED: Final = 0
TYPE_SERVICE_PRINCIPAL: Final = 1
TYPE_SERVICE_PRINCIPAL_CERTIFICATE: Final = 2

ASSIGNED_IDENTITY_NAMESPACE: Final = "default"
"""Namespace of assigned identities unless the namespaced mode moves them."""

EVENT_SOURCE: Final = "aadpodidentity.k8s.io"
