"""Where each kind lives in the API: group, version, plural, scope, struct."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from podidentity.api import core, identity
from podidentity.api.constants import GROUP, VERSION
from podidentity.api.meta import KubeObject

T = TypeVar("T", bound=KubeObject)


@dataclass(frozen=True, slots=True)
class Resource(Generic[T]):
    """One kind of object: ``group`` is empty for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    type: type[T]
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """``group/version``, or ``version`` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of a collection or, with ``name``, of an object."""
        base = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        parts = [base + scope, self.plural, name, subresource]
        return "/".join(part for part in parts if part)


PODS: Final = Resource("", "v1", "pods", "Pod", core.Pod)
NODES: Final = Resource("", "v1", "nodes", "Node", core.Node, namespaced=False)
SECRETS: Final = Resource("", "v1", "secrets", "Secret", core.Secret)
CONFIG_MAPS: Final = Resource("", "v1", "configmaps", "ConfigMap", core.ConfigMap)
ENDPOINTS: Final = Resource("", "v1", "endpoints", "Endpoints", core.Endpoints)
EVENTS: Final = Resource("", "v1", "events", "Event", core.Event)
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease", core.Lease)

AZURE_IDENTITIES: Final = Resource(GROUP, VERSION, "azureidentities", "AzureIdentity", identity.AzureIdentity)
AZURE_IDENTITY_BINDINGS: Final = Resource(
    GROUP, VERSION, "azureidentitybindings", "AzureIdentityBinding", identity.AzureIdentityBinding
)
AZURE_ASSIGNED_IDENTITIES: Final = Resource(
    GROUP, VERSION, "azureassignedidentities", "AzureAssignedIdentity", identity.AzureAssignedIdentity
)
AZURE_POD_IDENTITY_EXCEPTIONS: Final = Resource(
    GROUP, VERSION, "azurepodidentityexceptions", "AzurePodIdentityException", identity.AzurePodIdentityException
)
