"""A pod's volumes on its node: made before its containers start, refreshed while they run, removed with the pod."""

from __future__ import annotations

import asyncio
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from podidentity.api.resources import CONFIG_MAPS, SECRETS
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import KubeError, NotFound
from podidentity.lab.node.atomic import Files, write_directory
from podidentity.lab.node.expand import Kind, PodFacts, UnresolvedError, field_value
from podidentity.lab.node.objects import (
    ConfigMapVolume,
    DownwardVolume,
    FullPod,
    HostPathVolume,
    KeyToPath,
    ProjectedSource,
    SecretVolume,
    Volume,
)
from podidentity.lab.node.secrets_store import DRIVER, SecretsStore
from podidentity.lab.node.syscalls import Mount, detach, mount
from podidentity.lab.node.tokens import TokenKeeper

PODS: Final = Path("/var/lib/kubelet/pods")
_KINDS: Final = {
    "": lambda _mode: True,
    "Directory": stat.S_ISDIR,
    "DirectoryOrCreate": stat.S_ISDIR,
    "File": stat.S_ISREG,
    "FileOrCreate": stat.S_ISREG,
    "Socket": stat.S_ISSOCK,
    "CharDevice": stat.S_ISCHR,
    "BlockDevice": stat.S_ISBLK,
}


class VolumeError(Exception):
    """A volume cannot be set up yet; the text is the FailedMount event's."""

    def __init__(self, volume: str, why: str) -> None:
        super().__init__(f'MountVolume.SetUp failed for volume "{volume}" : {why}')


async def fetch(client: KubeClient, kind: Kind, namespace: str, name: str) -> Mapping[str, bytes] | None:
    """What a Secret or ConfigMap holds, None when there is none. Raises KubeError."""
    try:
        if kind == "secret":
            return (await client.get(SECRETS, name, namespace)).data
        config = await client.get(CONFIG_MAPS, name, namespace)
    except NotFound:
        return None
    return {key: value.encode() for key, value in config.data.items()}


def chosen(data: Mapping[str, bytes], items: Iterable[KeyToPath], mode: int, *, optional: bool) -> Files:
    """The files of a Secret or ConfigMap: all keys, or those ``items`` names. UnresolvedError: a key is missing."""
    wanted = tuple(items)
    if not wanted:
        return {key: (value, mode) for key, value in data.items()}
    files = {}
    for item in wanted:
        if item.key in data:
            files[item.path] = (data[item.key], mode if item.mode is None else item.mode)
        elif not optional:
            raise UnresolvedError(f"references non-existent key: {item.key}")
    return files


def prepare_host_path(volume: HostPathVolume) -> None:
    """Check, and for the ``OrCreate`` types make, a hostPath. UnresolvedError says what is wrong with it."""
    path, check = Path(volume.path), _KINDS.get(volume.type)
    if check is None:
        raise UnresolvedError(f"hostPath type {volume.type!r} is unknown")
    if not path.exists():
        if volume.type == "FileOrCreate" and path.parent.is_dir():
            path.touch()
        elif volume.type in {"DirectoryOrCreate", ""}:
            path.mkdir(parents=True, exist_ok=True)
        else:
            raise UnresolvedError(f"hostPath type check failed: {volume.path} is not a {volume.type or 'path'}")
    if not check(path.stat().st_mode):
        raise UnresolvedError(
            f"hostPath type check failed: {volume.path} is not a {volume.type.removesuffix('OrCreate')}"
        )


class Volumes:
    """The volumes of the pods of one node. ``sources`` are where containers find them, by volume name."""

    def __init__(self, client: KubeClient, tokens: TokenKeeper, store: SecretsStore, root: Path = PODS) -> None:
        self._client = client
        self._tokens = tokens
        self._store = store
        self._root = root

    def source(self, pod: FullPod, volume: Volume) -> Path:
        """Where the volume is on the node."""
        if volume.host_path:
            return Path(volume.host_path.path)
        kind = next(
            (word for word, given in (("csi", volume.csi), ("empty-dir", volume.empty_dir)) if given), "projected"
        )
        base = self._root / pod.uid / "volumes" / f"kubernetes.io~{kind}" / volume.name
        return base / "mount" if volume.csi else base

    async def set_up(self, pod: FullPod, facts: PodFacts) -> None:
        """Make all volumes of a pod. Raises VolumeError: try again later."""
        for volume in pod.spec.volumes:
            try:
                await self._set_up(pod, volume, facts)
            except (UnresolvedError, KubeError, ValueError, OSError) as error:
                raise VolumeError(volume.name, str(error)) from error

    async def _set_up(self, pod: FullPod, volume: Volume, facts: PodFacts) -> None:
        source = self.source(pod, volume)
        if volume.host_path:
            prepare_host_path(volume.host_path)
        elif volume.empty_dir:
            source.mkdir(parents=True, exist_ok=True)
            source.chmod(0o777)
        elif volume.csi:
            if volume.csi.driver != DRIVER:
                why = f"driver name {volume.csi.driver} not found in the list of registered CSI drivers"
                raise UnresolvedError(f"kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: {why}")
            _memory(source)
            await self._store.publish(pod, volume.csi, source)
        else:
            files = await self._files(pod, volume, facts)
            _memory(source)
            await asyncio.to_thread(write_directory, source, files)

    async def refresh(self, pod: FullPod, facts: PodFacts) -> None:
        """Bring what comes from the API up to date; CSI volumes are rotated apart. Raises VolumeError."""
        for volume in pod.spec.volumes:
            if not (volume.host_path or volume.empty_dir or volume.csi):
                try:
                    files = await self._files(pod, volume, facts)
                    await asyncio.to_thread(write_directory, self.source(pod, volume), files)
                except (UnresolvedError, KubeError, ValueError, OSError) as error:
                    raise VolumeError(volume.name, str(error)) from error

    async def _files(self, pod: FullPod, volume: Volume, facts: PodFacts) -> Files:
        if volume.config_map:
            return await self._config_map(pod, volume.config_map, volume.config_map.default_mode)
        if volume.secret:
            return await self._secret(pod, volume.secret, volume.secret.default_mode)
        if volume.downward_api:
            return _downward(pod, volume.downward_api, volume.downward_api.default_mode, facts)
        if volume.projected:
            files: dict[str, tuple[bytes, int]] = {}
            for source in volume.projected.sources:
                files.update(await self._projected(pod, source, volume.projected.default_mode, facts))
            return files
        raise UnresolvedError("the lab has no volumes of this kind")

    async def _projected(self, pod: FullPod, source: ProjectedSource, mode: int, facts: PodFacts) -> Files:
        if source.service_account_token:
            token = await self._tokens.token(pod, source.service_account_token)
            return {source.service_account_token.path: (token.encode(), mode)}
        if source.config_map:
            return await self._config_map(pod, source.config_map, mode)
        if source.secret:
            return await self._secret(pod, source.secret, mode)
        return _downward(pod, source.downward_api or DownwardVolume(), mode, facts)

    async def _config_map(self, pod: FullPod, volume: ConfigMapVolume, mode: int) -> Files:
        data = await fetch(self._client, "configmap", pod.namespace, volume.name)
        if data is None and not volume.optional:
            raise UnresolvedError(f'configmap "{volume.name}" not found')
        return chosen(data or {}, volume.items, mode, optional=volume.optional)

    async def _secret(self, pod: FullPod, volume: SecretVolume, mode: int) -> Files:
        name = volume.secret_name or volume.name
        data = await fetch(self._client, "secret", pod.namespace, name)
        if data is None and not volume.optional:
            raise UnresolvedError(f'secret "{name}" not found')
        return chosen(data or {}, volume.items, mode, optional=volume.optional)

    async def tear_down(self, pod: FullPod) -> None:
        """Remove everything the pod had on the node but its logs."""
        await self._store.unpublish(pod)
        self._tokens.forget(pod)
        await asyncio.to_thread(self._remove, pod)

    def _remove(self, pod: FullPod) -> None:
        for volume in pod.spec.volumes:
            source = self.source(pod, volume)
            if not volume.host_path and source.is_mount():
                detach(str(source))
        shutil.rmtree(self._root / pod.uid, ignore_errors=True)


def _memory(directory: Path) -> None:
    """A tmpfs at ``directory``, kept when it is there already."""
    directory.mkdir(parents=True, exist_ok=True)
    if not directory.is_mount():
        mount("tmpfs", str(directory), fstype="tmpfs", flags=Mount.NOSUID | Mount.NODEV | Mount.NOEXEC, data="mode=755")


def _downward(pod: FullPod, volume: DownwardVolume, mode: int, facts: PodFacts) -> Files:
    return {
        item.path: (
            field_value(pod, item.field_ref.field_path, facts).encode(),
            mode if item.mode is None else item.mode,
        )
        for item in volume.items
    }
