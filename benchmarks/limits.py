"""A CPU limit on a running process, as kubelet sets it from ``resources.limits.cpu``: a quota of its control group."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PERIOD = 100_000
"""Microseconds: kubelet's ``cpuCFSQuotaPeriod``."""
_ROOT = Path("/sys/fs/cgroup")


def can_limit() -> bool:
    """Whether this machine lets us make a control group with a CPU quota."""
    return os.access(_parent(), os.W_OK)


@contextmanager
def cpu_limit(pids: tuple[int, ...], millicores: int) -> Iterator[None]:
    """Each of ``pids`` in a group of its own with this quota while the block runs; OSError where it may not be."""
    groups = []
    try:
        for pid in pids:
            group = _parent() / f"podidentity-bench-{pid}"
            group.mkdir()
            groups.append(group)
            _quota(group, millicores * PERIOD // 1000)
            (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for group in groups:
            for member in (group / "cgroup.procs").read_text().split():
                (group.parent / "cgroup.procs").write_text(member)
            group.rmdir()


def _parent() -> Path:
    """The controller's own tree (version 1), or the one tree (version 2)."""
    return _ROOT if (_ROOT / "cgroup.controllers").exists() else _ROOT / "cpu"


def _quota(group: Path, quota: int) -> None:
    if (group / "cpu.cfs_quota_us").exists():
        (group / "cpu.cfs_period_us").write_text(str(PERIOD))
        (group / "cpu.cfs_quota_us").write_text(str(quota))
        return
    (group.parent / "cgroup.subtree_control").write_text("+cpu")
    (group / "cpu.max").write_text(f"{quota} {PERIOD}")
