"""The token a mount asks the vault with: from nmi, the node's metadata service or Entra ID, as the class says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Protocol

from podidentity.azure.errors import AzureError
from podidentity.config.redact import SecretText
from podidentity.csi.errors import MountError
from podidentity.csi.parameters import Mount, PodIdentity, VmIdentity, WorkloadIdentity
from podidentity.csi.retry import retried

if TYPE_CHECKING:
    from podidentity.azure.cloud import Cloud
    from podidentity.azure.entra import EntraClient
    from podidentity.azure.imds import ImdsClient, ImdsToken

_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ADFS: Final = "adfs"


class PodTokens(Protocol):
    """Gives a pod's token."""

    async def token(self, resource: str, *, pod_namespace: str, pod_name: str) -> SecretText:
        """Get the token. Raises MountError."""


class SignIns:
    """All ways to sign in."""

    def __init__(self, pods: PodTokens, imds: ImdsClient, entra: EntraClient) -> None:
        self._pods = pods
        self._imds = imds
        self._entra = entra

    async def token(self, mount: Mount, cloud: Cloud) -> SecretText:
        """The vault's token for a mount. Raises MountError that names the way it was tried."""
        resource = cloud.key_vault_resource
        if isinstance(mount.sign_in, PodIdentity):
            return await self._pods.token(resource, pod_namespace=mount.pod_namespace, pod_name=mount.pod_name)
        try:
            found = await retried(lambda: self._ask(mount, cloud, resource))
        except AzureError as error:
            raise MountError(f"failed to get a token as {_title(mount)}: {error}") from error
        return SecretText(found.access_token)

    async def _ask(self, mount: Mount, cloud: Cloud, resource: str) -> ImdsToken:
        sign_in = mount.sign_in
        if isinstance(sign_in, VmIdentity):
            return await self._imds.token(resource, client_id=sign_in.client_id)
        if isinstance(sign_in, WorkloadIdentity):
            proof = {"client_assertion_type": _ASSERTION_TYPE, "client_assertion": sign_in.assertion.reveal()}
        elif isinstance(sign_in, PodIdentity):
            raise TypeError("a pod's token comes from nmi")
        else:
            proof = {"client_secret": sign_in.secret.reveal()}
        form = {"client_id": sign_in.client_id, "grant_type": "client_credentials", **proof}
        version: Literal["v1", "v2"] = "v1" if mount.tenant_id.casefold() == _ADFS else "v2"
        return await self._entra.grant(cloud.active_directory, mount.tenant_id, form, resource, version=version)


def _title(mount: Mount) -> str:
    sign_in = mount.sign_in
    if isinstance(sign_in, VmIdentity):
        return f"the node's identity {sign_in.client_id[:80]}" if sign_in.client_id else "the node's own identity"
    if isinstance(sign_in, WorkloadIdentity):
        return f"workload identity {sign_in.client_id[:80]}"
    return "the service principal of nodePublishSecretRef"
