"""The four custom resources of ``aadpodidentity.k8s.io/v1``."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from podidentity.api.constants import BEHAVIOR_ANNOTATION, BEHAVIOR_NAMESPACED
from podidentity.api.meta import KubeObject, Struct


class SecretReference(Struct, frozen=True):
    """``clientPassword``: names a Secret."""

    name: str = ""
    namespace: str = ""


class AzureIdentitySpec(Struct, frozen=True):
    """``type`` 0 user-assigned identity, 1 service principal with secret, 2 with certificate."""

    type: int = 0
    resource_id: str = msgspec.field(default="", name="resourceID")
    client_id: str = msgspec.field(default="", name="clientID")
    client_password: SecretReference = SecretReference()
    tenant_id: str = msgspec.field(default="", name="tenantID")
    auxiliary_tenant_ids: tuple[str, ...] | None = msgspec.field(default=None, name="auxiliaryTenantIDs")
    ad_resource_id: str = msgspec.field(default="", name="adResourceID")
    ad_endpoint: str = ""


class AzureIdentity(KubeObject, frozen=True):
    """An Azure identity, declared in Kubernetes."""

    spec: AzureIdentitySpec = AzureIdentitySpec()

    @property
    def namespaced(self) -> bool:
        """Whether the annotation limits this identity to pods and bindings of its own namespace."""
        return self.metadata.annotations.get(BEHAVIOR_ANNOTATION) == BEHAVIOR_NAMESPACED


class AzureIdentityBindingSpec(Struct, frozen=True):
    """``azure_identity`` names an AzureIdentity of the binding's own namespace."""

    azure_identity: str = ""
    selector: str = ""


class AzureIdentityBinding(KubeObject, frozen=True):
    """Binds the pods whose label equals ``spec.selector`` to an AzureIdentity."""

    spec: AzureIdentityBindingSpec = AzureIdentityBindingSpec()


class AzureAssignedIdentitySpec(Struct, frozen=True):
    """Full copies of identity and binding, and the pod they are for."""

    azure_identity_ref: AzureIdentity = AzureIdentity()
    azure_binding_ref: AzureIdentityBinding = AzureIdentityBinding()
    pod: str = ""
    pod_namespace: str = ""
    node_name: str = msgspec.field(default="", name="nodename")


class AzureAssignedIdentityStatus(Struct, frozen=True):
    """``status`` is Created, Assigned, Unassigned or (objects of old versions) empty."""

    status: str = ""
    available_replicas: int = 0


class AzureAssignedIdentity(KubeObject, frozen=True):
    """The durable record: this pod shall have, or has, this identity on its node."""

    spec: AzureAssignedIdentitySpec = AzureAssignedIdentitySpec()
    status: AzureAssignedIdentityStatus = AzureAssignedIdentityStatus()


class AzurePodIdentityExceptionSpec(Struct, frozen=True):
    """A pod that carries any one of these labels keeps the node's own metadata endpoint."""

    pod_labels: Mapping[str, str] = {}


class AzurePodIdentityException(KubeObject, frozen=True):
    """Pods of its namespace that nmi passes through."""

    spec: AzurePodIdentityExceptionSpec = AzurePodIdentityExceptionSpec()
