"""Becomes a node: its network, its host name, its own processes, /etc, /run and /var.

Three processes: one in the world that waits, the node's pid 1, and the kubelet. When any of them ends, everything on
the node ends with it, as when a machine loses its power.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from podidentity.lab.node.init import forward, wait_as_init
from podidentity.lab.node.namespaces import SOURCE
from podidentity.lab.node.rootfs import RootPlan, VolumeMount, enter_root
from podidentity.lab.node.syscalls import Namespace, die_with_parent, setns, unshare

PKI: Final = "/.host/pki"
POD_ROOT: Final = "/.host/pod"
_VAR: Final = ("lib", "log", "cache", "tmp")


@dataclass(frozen=True, slots=True)
class Machine:
    """A node as the world knows it; ``files`` are shown under PKI by their keys, ``etc`` is text by file name.

    ``code`` are the directories that programs of the node and of its pods need.
    """

    name: str
    network: str
    state_dir: Path
    files: Mapping[str, Path]
    etc: Mapping[str, str]
    ca_bundle: Path
    code: tuple[str, ...]


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
    """Move onto the node: returns in a new process there, this one (it has no threads yet) waits for it and exits.

    OSError, in whichever process, says what was refused.
    """
    _prepare(machine.state_dir)
    setns(machine.network, Namespace.NET)
    unshare(Namespace.MOUNT | Namespace.UTS | Namespace.PID)
    socket.sethostname(machine.name)
    die_with_parent(signal.SIGKILL)
    init = os.fork()
    if init:
        os._exit(forward(init))
    die_with_parent(signal.SIGKILL)
    _enter(machine)
    kubelet = os.fork()
    if kubelet:
        os._exit(wait_as_init(kubelet))
    die_with_parent(signal.SIGKILL)


def _enter(machine: Machine) -> None:
    state = machine.state_dir
    mounts = [
        VolumeMount(str(state / "etc-kubernetes"), "/etc/kubernetes"),
        VolumeMount(str(state / "run"), "/run"),
        VolumeMount(str(state / "var"), "/var"),
        *(VolumeMount(str(path), f"{PKI}/{name}", read_only=True) for name, path in machine.files.items()),
    ]
    plan = RootPlan(
        mount_point=str(state / "root"),
        code=machine.code,
        etc=machine.etc,
        ca_bundle=str(machine.ca_bundle),
        mounts=mounts,
        own_proc=True,
    )
    enter_root(plan)
    Path(POD_ROOT).mkdir()
