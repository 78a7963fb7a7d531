"""The Secrets Store CSI driver's part: asks the provider over its Unix socket, writes the files, rotates them.

Each mounted volume is shown as a SecretProviderClassPodStatus, as the driver does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from podidentity.api.meta import Struct
from podidentity.api.resources import SECRETS
from podidentity.csi.proto import provider_pb2
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import AlreadyExists, KubeError, NotFound
from podidentity.lab.node.atomic import Files, path_problem, write_directory
from podidentity.lab.node.expand import UnresolvedError
from podidentity.lab.node.objects import CsiVolume, FullPod
from podidentity.lab.node.tokens import TokenKeeper

DRIVER: Final = "secrets-store.csi.k8s.io"
SOCKETS: Final = (Path("/var/run/secrets-store-csi-providers"), Path("/etc/kubernetes/secrets-store-csi-providers"))
_GROUP: Final = "/apis/secrets-store.csi.x-k8s.io"
_PERMISSION: Final = "420"
_ATTEMPTS: Final = 3
_RECEIVE_LIMIT: Final = 4 * 1024 * 1024
_TOKEN_LIFE: Final = 3600
_WORKLOAD_AUDIENCE: Final = "api://AzureADTokenExchange"


class ClassSpec(Struct, frozen=True):
    """``spec`` of a SecretProviderClass."""

    provider: str = ""
    parameters: Mapping[str, str] = {}


class ProviderClass(Struct, frozen=True):
    """A SecretProviderClass of either version."""

    api_version: str = ""
    spec: ClassSpec = ClassSpec()


@dataclass(frozen=True, slots=True)
class Mounted:
    """What a provider answered: the files to write and the version of each object."""

    files: Files
    versions: Mapping[str, str]


@dataclass(slots=True)
class _Published:
    volume: CsiVolume
    target: Path
    versions: Mapping[str, str]


def attributes(pod: FullPod, volume: CsiVolume, parameters: Mapping[str, str], tokens: str) -> dict[str, str]:
    """The provider's attributes: the class's parameters overlaid by the volume context. Pure."""
    context = {
        "csi.storage.k8s.io/pod.name": pod.name,
        "csi.storage.k8s.io/pod.namespace": pod.namespace,
        "csi.storage.k8s.io/pod.uid": pod.uid,
        "csi.storage.k8s.io/serviceAccount.name": pod.spec.service_account_name or "default",
        "csi.storage.k8s.io/ephemeral": "true",
    }
    if tokens:
        context["csi.storage.k8s.io/serviceAccount.tokens"] = tokens
    return {**parameters, **volume.volume_attributes, **context}


def mounted(response: provider_pb2.MountResponse) -> Mounted:
    """Check a provider's answer as the driver does. Pure; UnresolvedError says what is wrong with it."""
    if response.HasField("error") and response.error.code:
        raise UnresolvedError(f"mount request failed with provider error code {response.error.code}")
    if not response.object_version:
        raise UnresolvedError("missing object versions")
    files = {}
    for item in response.files:
        problem = path_problem(item.path)
        if problem:
            raise UnresolvedError(f"invalid file path {item.path!r} of the provider: {problem}")
        files[item.path] = (item.contents, item.mode)
    return Mounted(files, {item.id: item.version for item in response.object_version})


class SecretsStore:
    """The driver of one node. Raises UnresolvedError with the text a FailedMount event shows."""

    def __init__(
        self, client: KubeClient, tokens: TokenKeeper, node: str, *, sockets: tuple[Path, ...] = SOCKETS
    ) -> None:
        self._client = client
        self._tokens = tokens
        self._node = node
        self._sockets = sockets
        self._published: dict[str, dict[str, _Published]] = {}

    async def publish(self, pod: FullPod, volume: CsiVolume, target: Path) -> None:
        """Fill a pod's volume at ``target``, a directory that exists."""
        name = volume.volume_attributes.get("secretProviderClass", "")
        try:
            result = await self._mount(pod, volume, target, {})
        except UnresolvedError as error:
            where = f"failed to mount secrets store objects for pod {pod.namespace}/{pod.name}"
            raise UnresolvedError(f"rpc error: code = Unknown desc = {where}, err: {error}") from error
        await self._write(target, result)
        await self._show(pod, name, target, result.versions)
        self._published.setdefault(pod.uid, {})[str(target)] = _Published(volume, target, result.versions)

    async def rotate(self, pod: FullPod) -> bool:
        """Ask again for all of a pod's volumes; True when something changed."""
        changed = False
        for entry in list(self._published.get(pod.uid, {}).values()):
            result = await self._mount(pod, entry.volume, entry.target, entry.versions)
            changed |= await self._write(entry.target, result)
            if dict(result.versions) != dict(entry.versions):
                entry.versions = result.versions
                name = entry.volume.volume_attributes.get("secretProviderClass", "")
                await self._show(pod, name, entry.target, result.versions)
        return changed

    async def unpublish(self, pod: FullPod) -> None:
        """Forget a pod's volumes and take their status objects away."""
        for entry in self._published.pop(pod.uid, {}).values():
            name = entry.volume.volume_attributes.get("secretProviderClass", "")
            with suppress(KubeError):
                await self._client.raw("DELETE", f"{self._status_path(pod)}/{_status_name(pod, name)}")

    async def _write(self, target: Path, result: Mounted) -> bool:
        try:
            return await asyncio.to_thread(write_directory, target, result.files)
        except OSError as error:
            raise UnresolvedError(f"failed to write {target}: {error}") from error

    async def _class(self, namespace: str, name: str) -> ProviderClass:
        for version in ("v1", "v1alpha1"):
            path = f"{_GROUP}/{version}/namespaces/{namespace}/secretproviderclasses/{name}"
            with suppress(NotFound):
                return msgspec.json.decode(await self._client.raw("GET", path), type=ProviderClass)
        raise UnresolvedError(
            f"failed to get secretproviderclass {namespace}/{name}, error: "
            f'SecretProviderClass.secrets-store.csi.x-k8s.io "{name}" not found'
        )

    async def _mount(self, pod: FullPod, volume: CsiVolume, target: Path, current: Mapping[str, str]) -> Mounted:
        name = volume.volume_attributes.get("secretProviderClass", "")
        if not name:
            raise UnresolvedError("secretProviderClass is not set")
        found = await self._class(pod.namespace, name)
        if not found.spec.provider:
            raise UnresolvedError("provider not found in the SecretProviderClass")
        tokens = await self._workload_tokens(pod) if found.spec.parameters.get("clientID", "").strip() else ""
        given = json.dumps(attributes(pod, volume, found.spec.parameters, tokens))
        secrets = json.dumps(await self._publish_secret(pod, volume))
        message = provider_pb2.MountRequest(
            attributes=given, secrets=secrets, target_path=str(target), permission=_PERMISSION
        )
        for key, version in current.items():
            message.current_object_version.add(id=key, version=version)
        return mounted(await self._call(found.spec.provider, message))

    async def _workload_tokens(self, pod: FullPod) -> str:
        issued = await self._tokens.issued(pod, _WORKLOAD_AUDIENCE, _TOKEN_LIFE)
        return json.dumps({_WORKLOAD_AUDIENCE: {"token": issued.token, "expirationTimestamp": issued.expires}})

    async def _publish_secret(self, pod: FullPod, volume: CsiVolume) -> dict[str, str]:
        reference = volume.node_publish_secret_ref
        if reference is None:
            return {}
        try:
            secret = await self._client.get(SECRETS, reference.name, pod.namespace)
        except NotFound:
            raise UnresolvedError(f'secret "{reference.name}" not found') from None
        return {key: value.decode() for key, value in secret.data.items()}

    def _socket(self, provider: str) -> Path:
        for folder in self._sockets:
            path = folder / f"{provider}.sock"
            if path.is_socket():
                return path
        folders = " or ".join(str(folder) for folder in self._sockets)
        raise UnresolvedError(f"error connecting to provider {provider!r}: provider not found: no socket in {folders}")

    async def _call(self, provider: str, message: provider_pb2.MountRequest) -> provider_pb2.MountResponse:
        import grpc  # noqa: PLC0415 - a fifth of a second, and most pods have no such volume

        options = [("grpc.max_receive_message_length", _RECEIVE_LIMIT), ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"unix://{self._socket(provider)}", options=options) as channel:
            mount = channel.unary_unary(
                "/v1alpha1.CSIDriverProvider/Mount",
                request_serializer=provider_pb2.MountRequest.SerializeToString,
                response_deserializer=provider_pb2.MountResponse.FromString,
            )
            for attempt in range(_ATTEMPTS):
                try:
                    response: provider_pb2.MountResponse = await mount(message, timeout=60)
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE or attempt == _ATTEMPTS - 1:
                        code = "".join(word.capitalize() for word in error.code().name.split("_"))
                        raise UnresolvedError(f"rpc error: code = {code} desc = {error.details()}") from error
                    await asyncio.sleep(0.1 * 2**attempt)
                else:
                    return response
        raise AssertionError  # the last attempt returns or raises

    def _status_path(self, pod: FullPod) -> str:
        return f"{_GROUP}/v1/namespaces/{pod.namespace}/secretproviderclasspodstatuses"

    async def _show(self, pod: FullPod, name: str, target: Path, versions: Mapping[str, str]) -> None:
        """Write the SecretProviderClassPodStatus; a cluster without that kind has none."""
        status = {
            "podName": pod.name,
            "secretProviderClassName": name,
            "targetPath": str(target),
            "mounted": True,
            "objects": [{"id": key, "version": version} for key, version in sorted(versions.items())],
        }
        owner = {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid}
        meta = {
            "name": _status_name(pod, name),
            "namespace": pod.namespace,
            "labels": {"internal.secrets-store.csi.k8s.io/node-name": self._node},
            "ownerReferences": [owner],
        }
        kind = {"apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClassPodStatus"}
        path = self._status_path(pod)
        with suppress(NotFound):
            try:
                await self._client.raw("POST", path, body={**kind, "metadata": meta, "status": status})
            except AlreadyExists:
                await self._client.raw(
                    "PATCH",
                    f"{path}/{meta['name']}",
                    body={"status": status},
                    content_type="application/merge-patch+json",
                )


def _status_name(pod: FullPod, name: str) -> str:
    return f"{pod.name}-{pod.namespace}-{name}"
