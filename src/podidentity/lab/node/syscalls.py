"""The few system calls of Linux that Python 3.11 does not offer. Standard library only; OSError on failure."""

from __future__ import annotations

import ctypes
import os
from enum import IntFlag
from typing import Final

_libc = ctypes.CDLL(None, use_errno=True)

_SYS_CAPSET: Final = 126 if os.uname().machine == "x86_64" else 91
_SYS_PIVOT_ROOT: Final = 155 if os.uname().machine == "x86_64" else 41
_SYS_MOUNT_SETATTR: Final = 442
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_MOUNT_ATTR_RDONLY: Final = 1
_CAPABILITY_VERSION_3: Final = 0x20080522
_PR_SET_PDEATHSIG: Final = 1
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4


class Namespace(IntFlag):
    """Kinds of namespaces, as ``unshare`` and ``setns`` take them."""

    MOUNT = 0x00020000
    UTS = 0x04000000
    USER = 0x10000000
    PID = 0x20000000
    NET = 0x40000000


class Mount(IntFlag):
    """Flags of ``mount``."""

    NOSUID = 2
    NODEV = 4
    NOEXEC = 8
    BIND = 4096
    REC = 16384
    PRIVATE = 1 << 18


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
    return result


def unshare(kinds: Namespace) -> None:
    """Move the calling thread into new namespaces."""
    _check(_libc.unshare(int(kinds)), "unshare")


def setns(path: str, kind: Namespace) -> None:
    """Move the calling thread into the namespace that ``path`` names."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(fd, int(kind)), path)
    finally:
        os.close(fd)


def mount(source: str, target: str, *, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """``mount(2)``; empty strings are passed as such, the kernel ignores what does not apply."""
    result = _libc.mount(
        source.encode(), target.encode(), fstype.encode() or None, ctypes.c_ulong(flags), data.encode() or None
    )
    _check(result, target)


def bind(source: str, target: str, *, read_only: bool = False) -> None:
    """Bind ``source`` with everything mounted below it to ``target``."""
    mount(source, target, flags=Mount.BIND | Mount.REC)
    if read_only:
        make_read_only(target, recursive=True)


def make_read_only(target: str, *, recursive: bool) -> None:
    """Make the mount at ``target`` read-only, with all below it when ``recursive``."""
    attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY, 0, 0, 0)
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        target.encode(),
        ctypes.c_uint(_AT_RECURSIVE if recursive else 0),
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )
    _check(result, target)


def detach(target: str) -> None:
    """Unmount ``target`` and what is below it, lazily."""
    _check(_libc.umount2(target.encode(), 2), target)


def pivot_root(new_root: str, put_old: str) -> None:
    """``pivot_root(2)``."""
    _check(_libc.syscall(ctypes.c_long(_SYS_PIVOT_ROOT), new_root.encode(), put_old.encode()), new_root)


def _prctl(option: int, argument: int, what: str) -> int:
    zero = ctypes.c_ulong(0)
    return _check(_libc.prctl(option, ctypes.c_ulong(argument), zero, zero, zero), what)


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send ``signal_number`` to this process when the thread that started it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal_number, "PR_SET_PDEATHSIG")


def no_new_privileges() -> None:
    """Set-user-ID files and file capabilities give nothing to this process and its children any more."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, "PR_SET_NO_NEW_PRIVS")


def keep_capabilities(numbers: frozenset[int], last: int) -> None:
    """Keep only these capabilities, in the bounding set too; ``last`` is the highest number the kernel knows."""
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, "PR_CAP_AMBIENT")
    for number in range(last + 1):
        if number not in numbers:
            _prctl(_PR_CAPBSET_DROP, number, "PR_CAPBSET_DROP")
    mask = sum(1 << number for number in numbers)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    _check(_libc.syscall(ctypes.c_long(_SYS_CAPSET), ctypes.byref(header), ctypes.byref(data)), "capset")
