"""core/v1 Pod as a kubelet needs it. Fields that the lab does not honour are not here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from podidentity.api.meta import KubeObject, Struct
from podidentity.api.resources import Resource


class NameRef(Struct, frozen=True):
    """Names a Secret or ConfigMap of the pod's namespace."""

    name: str = ""
    optional: bool = False


class KeyRef(Struct, frozen=True):
    """One key of a Secret or ConfigMap."""

    name: str = ""
    key: str = ""
    optional: bool = False


class FieldRef(Struct, frozen=True):
    """A field of the pod."""

    field_path: str = ""


class EnvSource(Struct, frozen=True):
    """``valueFrom``."""

    field_ref: FieldRef | None = None
    secret_key_ref: KeyRef | None = None
    config_map_key_ref: KeyRef | None = None


class EnvVar(Struct, frozen=True):
    """One environment variable."""

    name: str = ""
    value: str = ""
    value_from: EnvSource | None = None


class EnvFrom(Struct, frozen=True):
    """All keys of a Secret or ConfigMap as variables."""

    prefix: str = ""
    config_map_ref: NameRef | None = None
    secret_ref: NameRef | None = None


class Mounted(Struct, frozen=True):
    """``volumeMounts`` of a container."""

    name: str = ""
    mount_path: str = ""
    sub_path: str = ""
    read_only: bool = False


class HttpGet(Struct, frozen=True):
    """A probe by HTTP; ``port`` is a number or the name of a container port."""

    path: str = "/"
    port: int | str = 80
    host: str = ""
    scheme: str = "HTTP"
    http_headers: tuple[EnvVar, ...] = ()


class TcpSocket(Struct, frozen=True):
    """A probe by connecting."""

    port: int | str = 80
    host: str = ""


class ExecAction(Struct, frozen=True):
    """A probe by a command in the container."""

    command: tuple[str, ...] = ()


class Probe(Struct, frozen=True):
    """A probe; times in seconds."""

    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    exec: ExecAction | None = None
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3


class Capabilities(Struct, frozen=True):
    """Added and dropped capabilities, without ``CAP_``; ``ALL`` is all."""

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class SecurityContext(Struct, frozen=True):
    """The part of a container's security context that holds in the lab; the user is always root of the world."""

    capabilities: Capabilities = Capabilities()
    privileged: bool = False
    read_only_root_filesystem: bool = False
    allow_privilege_escalation: bool = True


class ContainerPort(Struct, frozen=True):
    """A declared port."""

    name: str = ""
    container_port: int = 0


class ContainerSpec(Struct, frozen=True):
    """One container."""

    name: str = ""
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFrom, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    volume_mounts: tuple[Mounted, ...] = ()
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    security_context: SecurityContext = SecurityContext()


class KeyToPath(Struct, frozen=True):
    """Which key becomes which file."""

    key: str = ""
    path: str = ""
    mode: int | None = None


class ConfigMapVolume(Struct, frozen=True):
    """A ConfigMap as files."""

    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int = 0o644
    optional: bool = False


class SecretVolume(Struct, frozen=True):
    """A Secret as files."""

    secret_name: str = ""
    name: str = ""
    """Used by projected sources instead of ``secret_name``."""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int = 0o644
    optional: bool = False


class DownwardFile(Struct, frozen=True):
    """A field of the pod as a file."""

    path: str = ""
    field_ref: FieldRef = FieldRef()
    mode: int | None = None


class DownwardVolume(Struct, frozen=True):
    """Fields of the pod as files."""

    items: tuple[DownwardFile, ...] = ()
    default_mode: int = 0o644


class TokenFile(Struct, frozen=True):
    """A service-account token as a file, refreshed before it expires."""

    path: str = "token"
    audience: str = ""
    expiration_seconds: int = 3600


class ProjectedSource(Struct, frozen=True):
    """One source of a projected volume."""

    service_account_token: TokenFile | None = None
    config_map: ConfigMapVolume | None = None
    secret: SecretVolume | None = None
    downward_api: DownwardVolume | None = msgspec.field(default=None, name="downwardAPI")


class ProjectedVolume(Struct, frozen=True):
    """Several sources in one directory."""

    sources: tuple[ProjectedSource, ...] = ()
    default_mode: int = 0o644


class HostPathVolume(Struct, frozen=True):
    """A path of the node; ``type`` as in Kubernetes."""

    path: str = ""
    type: str = ""


class EmptyDirVolume(Struct, frozen=True):
    """A directory that lives as long as the pod."""


class CsiVolume(Struct, frozen=True):
    """An inline CSI volume."""

    driver: str = ""
    read_only: bool = False
    volume_attributes: Mapping[str, str] = {}
    node_publish_secret_ref: NameRef | None = None


class Volume(Struct, frozen=True):
    """One volume; exactly one source is set, none for a kind the lab does not have."""

    name: str = ""
    empty_dir: EmptyDirVolume | None = None
    config_map: ConfigMapVolume | None = None
    secret: SecretVolume | None = None
    projected: ProjectedVolume | None = None
    downward_api: DownwardVolume | None = msgspec.field(default=None, name="downwardAPI")
    host_path: HostPathVolume | None = None
    csi: CsiVolume | None = None


class HostAlias(Struct, frozen=True):
    """Further lines of the hosts file."""

    ip: str = ""
    hostnames: tuple[str, ...] = ()


class FullPodSpec(Struct, frozen=True):
    """``spec`` of a pod."""

    node_name: str = ""
    host_network: bool = False
    hostname: str = ""
    service_account_name: str = ""
    restart_policy: str = "Always"
    termination_grace_period_seconds: int = 30
    active_deadline_seconds: int | None = None
    host_aliases: tuple[HostAlias, ...] = ()
    init_containers: tuple[ContainerSpec, ...] = ()
    containers: tuple[ContainerSpec, ...] = ()
    volumes: tuple[Volume, ...] = ()


class FullPodStatus(Struct, frozen=True):
    """The part of ``status`` that is read back."""

    phase: str = ""


class FullPod(KubeObject, frozen=True):
    """core/v1 Pod with all that a kubelet needs."""

    spec: FullPodSpec = FullPodSpec()
    status: FullPodStatus = FullPodStatus()

    @property
    def uid(self) -> str:
        """``metadata.uid``."""
        return self.metadata.uid


FULL_PODS: Final = Resource("", "v1", "pods", "Pod", FullPod)
