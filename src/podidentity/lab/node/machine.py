"""Becomes a node: its network namespace, its host name, its own /etc, /run and /var."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from podidentity.lab.node.namespaces import SOURCE
from podidentity.lab.node.rootfs import RootPlan, VolumeMount, enter_root
from podidentity.lab.node.syscalls import Namespace, setns, unshare

PKI: Final = "/.host/pki"
POD_ROOT: Final = "/.host/pod"
_VAR: Final = ("lib", "log", "cache", "tmp")


@dataclass(frozen=True, slots=True)
class Machine:
    """A node as the world knows it; ``files`` are shown under PKI by their keys, ``etc`` is text by file name."""

    name: str
    network: str
    state_dir: Path
    files: Mapping[str, Path]
    etc: Mapping[str, str]
    ca_bundle: Path


def code_paths(search: Iterable[str] = ()) -> list[str]:
    """The directories without which Python and this package do not run, and the project they are part of."""
    source = Path(SOURCE)
    project = source.parent if (source.parent / "pyproject.toml").is_file() else source
    wanted = [sys.prefix, sys.base_prefix, sys.exec_prefix, str(project), *(search or sys.path)]
    found = [path for path in wanted if path and Path(path).is_dir()]
    return sorted({*found, *(os.path.realpath(path) for path in found), str(Path(sys.executable).resolve().parents[1])})


def _prepare(state: Path) -> None:
    """The node's folders; /run starts empty, as after a boot."""
    shutil.rmtree(state / "run", ignore_errors=True)
    for name in ("etc-kubernetes", "run", "run/lock", "run/netns", *(f"var/{item}" for item in _VAR)):
        (state / name).mkdir(parents=True, exist_ok=True)
    shutil.rmtree(state / "var/lib/kubelet/pods", ignore_errors=True)
    for name, target in (("run", "/run"), ("lock", "/run/lock")):
        link = state / "var" / name
        if not link.is_symlink():
            link.symlink_to(target)
    (state / "root").mkdir(exist_ok=True)


def become(machine: Machine) -> None:
    """Move this process, which has no threads yet, onto the node. OSError says what was refused."""
    _prepare(machine.state_dir)
    setns(machine.network, Namespace.NET)
    unshare(Namespace.MOUNT | Namespace.UTS)
    socket.sethostname(machine.name)
    state = machine.state_dir
    mounts = [
        VolumeMount(str(state / "etc-kubernetes"), "/etc/kubernetes"),
        VolumeMount(str(state / "run"), "/run"),
        VolumeMount(str(state / "var"), "/var"),
        *(VolumeMount(str(path), f"{PKI}/{name}", read_only=True) for name, path in machine.files.items()),
    ]
    plan = RootPlan(
        mount_point=str(state / "root"),
        code=code_paths(),
        etc=machine.etc,
        ca_bundle=str(machine.ca_bundle),
        mounts=mounts,
    )
    enter_root(plan)
    Path(POD_ROOT).mkdir()
