"""The file system of a node or a pod: a tmpfs with the machine's programs bound in read-only. Standard library only.

Nothing of the caller's own is inside: no home, no /run, no /etc but through symlinks into a read-only bind.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from podidentity.lab.node.syscalls import Mount, bind, detach, make_read_only, mount, pivot_root

SYSTEM: Final = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix", "gnu")
"""Top-level entries that hold programs; those that exist are bound, symlinks are copied."""
_PLAIN: Final = ("etc", "proc", "sys", "dev", "run", "mnt", "srv", "home", "root", "opt", "media")
_DEEPER: Final = ("run/lock", "var/lib", "var/log", "var/cache", "etc/ssl/certs", "etc/default", "etc/kubernetes")
_OWN_ETC: Final = frozenset({"ssl", "default", "kubernetes", "hosts", "hostname", "resolv.conf", "mtab"})
_HOST_ETC: Final = ".host/etc"
_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
_OLD: Final = ".old"
CA_BUNDLE: Final = "etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """Bind ``source`` (a path before the change of root) to ``target`` (a path after it)."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class RootPlan:
    """How to build a root: ``code`` are directories outside SYSTEM that programs need, ``etc`` files by name.

    ``own_proc``: a new /proc, for the first process of a pid namespace.
    """

    mount_point: str
    code: Sequence[str] = ()
    etc: Mapping[str, str] = field(default_factory=dict)
    ca_bundle: str = ""
    mounts: Sequence[VolumeMount] = ()
    read_only: bool = False
    own_proc: bool = False


def minimal(paths: Iterable[str]) -> list[str]:
    """The absolute paths without those below another, without those that SYSTEM covers, and without ``/``."""
    kept: list[str] = []
    for path in sorted({os.path.normpath(path) for path in paths if path.startswith("/")}):
        top = path.split("/")[1]
        covered = top in SYSTEM or any(path.startswith(f"{other}/") for other in kept)
        if path != "/" and not covered:
            kept.append(path)
    return kept


def _system(root: Path) -> None:
    for name in SYSTEM:
        source, target = Path("/", name), root / name
        if source.is_symlink():
            target.symlink_to(source.readlink())
        elif source.is_dir():
            target.mkdir()
            bind(str(source), str(target), read_only=True)


def _skeleton(root: Path) -> None:
    for name in (*_PLAIN, *_DEEPER, _HOST_ETC, _OLD):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (root / name).mkdir()
        (root / name).chmod(0o1777)
    (root / "var/run").symlink_to("/run")
    (root / "var/lock").symlink_to("/run/lock")


def _link_all(source: Path, shown: str, target: Path, skip: frozenset[str] = frozenset()) -> None:
    """Show every entry of directory ``source`` in ``target``, as symlinks to ``shown``."""
    for entry in source.iterdir():
        if entry.name not in skip:
            link = entry.readlink() if entry.is_symlink() else Path(shown, entry.name)
            (target / entry.name).symlink_to(link)


def _etc(root: Path, plan: RootPlan) -> None:
    own = Path("/", _HOST_ETC)
    host = own if own.is_dir() else Path("/etc")  # a pod's is its node's
    bind(str(host), str(root / _HOST_ETC), read_only=True)
    etc = root / "etc"
    _link_all(host, str(own), etc, _OWN_ETC)
    for name, skip in (("ssl", "certs"), ("default", "kubelet")):
        if (host / name).is_dir():
            _link_all(host / name, str(own / name), etc / name, frozenset({skip}))
    (etc / "mtab").symlink_to("/proc/self/mounts")
    for name, text in plan.etc.items():
        (etc / name).write_text(text)
    if plan.ca_bundle:
        (root / CA_BUNDLE).write_bytes(Path(plan.ca_bundle).read_bytes())


def _kernel(root: Path, *, own_proc: bool) -> None:
    if own_proc:
        mount("proc", str(root / "proc"), fstype="proc", flags=Mount.NOSUID | Mount.NODEV | Mount.NOEXEC)
    else:
        bind("/proc", str(root / "proc"))
    bind("/sys", str(root / "sys"), read_only=True)
    dev = root / "dev"
    mount("tmpfs", str(dev), fstype="tmpfs", flags=Mount.NOSUID | Mount.NOEXEC, data="mode=755,size=64m")
    for name in _DEVICES:
        (dev / name).touch()
        bind(f"/dev/{name}", str(dev / name))
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        (dev / name).symlink_to(f"/proc/self/fd{target}")
    for name in ("shm", "pts"):
        (dev / name).mkdir()
    (dev / "shm").chmod(0o1777)
    mount("devpts", str(dev / "pts"), fstype="devpts", data="newinstance,ptmxmode=0666,mode=620")
    (dev / "ptmx").symlink_to("pts/ptmx")


def _mount_volume(volume: VolumeMount) -> None:
    """Bind one volume, in the new root; makes the mount point."""
    source, target = Path(f"/{_OLD}{volume.source}"), Path(volume.target)
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    bind(str(source), str(target), read_only=volume.read_only)


def enter_root(plan: RootPlan) -> None:
    """Build the root and make it this process's; needs a mount namespace of its own.

    Mounts are made in the order of their targets' depth, so that one may lie in another. Sources are resolved while
    the old root is in place: ``/var/run`` is a symlink to ``/run``. OSError names the path.
    """
    mount("", "/", flags=Mount.REC | Mount.PRIVATE)
    root = Path(plan.mount_point)
    mount("tmpfs", str(root), fstype="tmpfs", flags=Mount.NOSUID | Mount.NODEV, data="mode=755")
    _system(root)
    _skeleton(root)
    for path in minimal(plan.code):
        inside = root / path.lstrip("/")
        inside.mkdir(parents=True, exist_ok=True)
        bind(path, str(inside), read_only=True)
    _etc(root, plan)
    _kernel(root, own_proc=plan.own_proc)
    volumes = [replace(volume, source=os.path.realpath(volume.source)) for volume in plan.mounts]
    pivot_root(str(root), str(root / _OLD))
    os.chdir("/")
    for volume in sorted(volumes, key=lambda item: item.target.rstrip("/").count("/")):
        _mount_volume(volume)
    detach(f"/{_OLD}")
    Path("/", _OLD).rmdir()
    if plan.read_only:
        make_read_only("/", recursive=False)
