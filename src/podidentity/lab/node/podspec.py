"""From a pod's spec to what the shim starts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from podidentity.lab.node import images, kits
from podidentity.lab.node.capabilities import granted
from podidentity.lab.node.expand import PodFacts, Sources, UnresolvedError, environment, expand
from podidentity.lab.node.objects import ContainerSpec, FullPod, Volume
from podidentity.lab.node.rootfs import CA_BUNDLE, RootPlan, VolumeMount
from podidentity.lab.node.shim import Container, Program

_HOSTNAME_LIMIT: Final = 63


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What all pods of a node have in common. ``code`` are directories that programs need, ``environ`` variables.

    ``ca_bundle`` is the path of what pods trust, ``hosts`` the text of the lab's own hosts file, ``mount_point`` an
    empty directory, ``kits`` the folders of the kits that are installed.
    """

    name: str
    ip: str
    hosts: str
    ca_bundle: str
    code: tuple[str, ...]
    environ: Mapping[str, str]
    mount_point: str
    kits: Mapping[str, str] = field(default_factory=dict)


def hostname_of(pod: FullPod, node: NodeFacts) -> str:
    """The host name a pod sees."""
    if pod.spec.host_network:
        return node.name
    return (pod.spec.hostname or pod.name)[:_HOSTNAME_LIMIT].rstrip("-.")


def hosts_of(pod: FullPod, node: NodeFacts, pod_ip: str) -> str:
    """The hosts file of a pod."""
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost", node.hosts.strip()]
    lines.append(f"{pod_ip}\t{hostname_of(pod, node)}")
    lines += [f"{alias.ip}\t{' '.join(alias.hostnames)}" for alias in pod.spec.host_aliases]
    return "\n".join(lines) + "\n"


def base_environment(pod: FullPod, node: NodeFacts, kit: str = "") -> dict[str, str]:
    """Variables a container has before its own; ``kit`` names what its image runs that is installed apart."""
    bundle = f"/{CA_BUNDLE}"
    found = {
        "HOME": "/root",
        "HOSTNAME": hostname_of(pod, node),
        "SSL_CERT_FILE": bundle,
        "REQUESTS_CA_BUNDLE": bundle,
        "NODE_EXTRA_CA_CERTS": bundle,
        **node.environ,
    }
    return found | kits.environment_of(node.kits[kit], found["PATH"]) if kit else found


def _sub_path(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        raise UnresolvedError(f"subPath {path!r} must be relative and without '..'")
    return str(pure)


def mounts_of(pod: FullPod, spec: ContainerSpec, source: Callable[[Volume], str]) -> tuple[VolumeMount, ...]:
    """A container's mounts; ``source`` says where a volume is on the node. UnresolvedError for an unknown volume."""
    volumes = {volume.name: volume for volume in pod.spec.volumes}
    mounts = []
    for item in spec.volume_mounts:
        volume = volumes.get(item.name)
        if volume is None:
            raise UnresolvedError(f'volume "{item.name}" of container "{spec.name}" is not declared')
        base = source(volume)
        place = f"{base}/{_sub_path(item.sub_path)}" if item.sub_path else base
        read_only = item.read_only or bool(volume.csi and volume.csi.read_only)
        mounts.append(VolumeMount(place, item.mount_path, read_only))
    return tuple(mounts)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A container to be started: its pod, its spec, what it refers to, and its network namespace's path."""

    pod: FullPod
    spec: ContainerSpec
    sources: Sources
    facts: PodFacts
    network: str


def container_of(wanted: Wanted, node: NodeFacts, image: images.Image, source: Callable[[Volume], str]) -> Container:
    """What the shim shall start. Raises UnresolvedError for what the spec leaves open."""
    pod, spec = wanted.pod, wanted.spec
    env = environment(pod, spec, base_environment(pod, node, image.kit), wanted.sources, wanted.facts)
    argv = [expand(word, env) for word in images.command_line(image, spec.command, spec.args)]
    if not argv:
        raise UnresolvedError(f'no command specified: image "{spec.image}" has none, set "command"')
    context = spec.security_context
    program = Program(
        argv=tuple(argv),
        env=env,
        cwd=spec.working_dir or "/",
        capabilities=granted(context),
        no_new_privileges=not context.allow_privilege_escalation,
    )
    root = RootPlan(
        mount_point=node.mount_point,
        code=node.code,
        etc={
            "hosts": hosts_of(pod, node, wanted.facts.pod_ip),
            "hostname": hostname_of(pod, node) + "\n",
            "resolv.conf": "# The lab has no DNS: names are in /etc/hosts.\noptions timeout:1 attempts:1\n",
        },
        ca_bundle=node.ca_bundle,
        mounts=mounts_of(pod, spec, source),
        read_only=context.read_only_root_filesystem,
    )
    return Container(program, root, hostname_of(pod, node), wanted.network)
