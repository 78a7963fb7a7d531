"""Linux capabilities by the names that pods use. Pure."""

from __future__ import annotations

from typing import Final

from podidentity.lab.node.objects import SecurityContext

_NAMES: Final = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
    SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
    MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
""".split()  # noqa: SIM905 - in the kernel's order, readable
NUMBERS: Final = {name: number for number, name in enumerate(_NAMES)}
DEFAULT: Final = frozenset(
    """
    CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL
    AUDIT_WRITE
    """.split()  # noqa: SIM905 - readable
)
"""What container runtimes leave to a container that asks for nothing."""


def granted(context: SecurityContext) -> tuple[int, ...]:
    """The numbers of the capabilities a container has; unknown names are ignored."""
    if context.privileged:
        return tuple(NUMBERS.values())

    def names(items: tuple[str, ...]) -> set[str]:
        wanted = {item.upper().removeprefix("CAP_") for item in items}
        return set(NUMBERS) if "ALL" in wanted else wanted

    kept = (DEFAULT - names(context.capabilities.drop)) | names(context.capabilities.add)
    return tuple(sorted(NUMBERS[name] for name in kept if name in NUMBERS))
