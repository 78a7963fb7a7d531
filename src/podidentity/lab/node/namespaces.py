"""A world of its own: new user, network, mount and pid namespaces, for root and for an ordinary user alike.

:func:`enter_world` is what the outer process calls. Where the system refuses, the error is one line that says what
to allow.
"""

from __future__ import annotations

import errno
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import podidentity
from podidentity.config.errors import ConfigError

SOURCE: Final = str(Path(podidentity.__file__).parent.parent)
"""The directory that ``import podidentity`` finds the package in."""

_CONTAINER_FLAGS: Final = (
    "--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined"
)


def bare_python(module: str) -> list[str]:
    """The command that runs ``module.main()`` on the standard library alone: starts in 15 ms, reads no environment."""
    code = f"import sys; sys.path.insert(0, {SOURCE!r}); from {module} import main; main()"
    return [sys.executable, "-I", "-S", "-c", code]


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What decides whether namespaces are allowed; ``None`` where the system has no such switch."""

    in_container: bool
    apparmor_restricts: str | None
    userns_clone: str | None
    limits: Mapping[str, str]

    @classmethod
    def read(cls, root: Path = Path("/")) -> HostFacts:
        """The facts of the system mounted at ``root``."""

        def value(name: str) -> str | None:
            try:
                return (root / "proc/sys" / name).read_text().strip()
            except OSError:
                return None

        names = [f"user/max_{kind}_namespaces" for kind in ("user", "mnt", "net", "pid")]
        marks = (root / ".dockerenv", root / "run/.containerenv", root / "var/run/secrets/kubernetes.io")
        return cls(
            in_container=any(mark.exists() for mark in marks),
            apparmor_restricts=value("kernel/apparmor_restrict_unprivileged_userns"),
            userns_clone=value("kernel/unprivileged_userns_clone"),
            limits={name: found for name in names if (found := value(name)) is not None},
        )


def explain_refusal(step: str, code: int, facts: HostFacts) -> str:
    """One line: what was refused and what to allow. ``step`` is one of enter.py's, ``code`` its errno."""
    wanted = "a fresh /proc" if step == "proc" else "user, network, mount and pid namespaces"
    return f"this system refuses {wanted} ({errno.errorcode.get(code, code)}); {_advice(code, facts)}"


def explain_end(status: Mapping[str, object], ended: int, facts: HostFacts) -> str:
    """One line: why enter.py, which reported ``status`` and ended with the code ``ended``, has not entered."""
    if not status:
        return f"the process that enters the lab's namespaces ended with code {ended} and said nothing; try again"
    code = status.get("errno")
    return explain_refusal(str(status.get("step")), code if isinstance(code, int) else 0, facts)


def _advice(code: int, facts: HostFacts) -> str:
    exhausted = [name.replace("/", ".") for name, limit in facts.limits.items() if limit == "0"]
    rules = (
        (bool(exhausted), f"allow them: sudo sysctl -w {' '.join(f'{name}=10000' for name in exhausted)}"),
        (
            code in {errno.ENOSPC, errno.EUSERS},
            "raise the limits user.max_user_namespaces, .max_mnt_, .max_net_ and .max_pid_namespaces",
        ),
        (
            code in {errno.ENOSYS, errno.EINVAL},
            "use a Linux kernel built with CONFIG_USER_NS, CONFIG_NET_NS and CONFIG_PID_NS",
        ),
        (facts.userns_clone == "0", "allow them: sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            facts.apparmor_restricts == "1",
            "allow them: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (facts.in_container, f"start the container with {_CONTAINER_FLAGS} (or --privileged)"),
        (True, "a seccomp filter, a chroot or a security module forbids it here: run outside of it, or allow it"),
    )
    return next(text for holds, text in rules if holds)


class World:
    """A running world, seen from outside. Leaving the context kills it, as does the end of this process."""

    def __init__(self, process: subprocess.Popen[bytes], lifeline: int) -> None:
        self.process = process
        self._lifeline = lifeline

    @property
    def pid(self) -> int:
        """The outer process of the world; SIGTERM to it reaches the command inside."""
        return self.process.pid

    def terminate(self) -> None:
        """Ask the command inside to end (SIGTERM)."""
        self.process.terminate()

    def wait(self, timeout: float | None = None) -> int:
        """The exit code of the command, 128 + n when signal n ended it. Raises subprocess.TimeoutExpired."""
        return self.process.wait(timeout)

    def kill(self) -> None:
        """End everything inside at once."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def _read_status(fd: int, seconds: float) -> Mapping[str, object]:
    """The first report of enter.py; empty when it ended without one."""
    with os.fdopen(fd, "rb") as stream:
        ready, _, _ = select.select([stream], [], [], seconds)
        data = os.read(fd, 4096) if ready else b""
    decoded: Mapping[str, object] = json.loads(data) if data else {}
    return decoded


def enter_world(
    argv: Sequence[str],
    *,
    keep_fds: Iterable[int] = (),
    keep_paths: Iterable[str] = (),
    env: Mapping[str, str] | None = None,
    facts: HostFacts | None = None,
) -> World:
    """Run ``argv`` in new namespaces, as root of them; returns once it runs.

    ``keep_fds`` stay open in the command, ``keep_paths`` (directories under /run) stay visible although /run is new.
    The thread that calls this has to live as long as the world. Raises ConfigError when the system refuses.
    """
    status_read, status_write = os.pipe()
    lifeline_read, lifeline_write = os.pipe()
    entry = {
        "status": status_write,
        "lifeline": lifeline_read,
        "parent": os.getpid(),
        "keep_paths": [os.path.realpath(path) for path in keep_paths],
    }
    process = subprocess.Popen(  # noqa: S603 - the command is ours
        [*bare_python("podidentity.lab.node.enter"), json.dumps(entry), *argv],
        pass_fds=(status_write, lifeline_read, *keep_fds),
        env=env,
        start_new_session=True,  # a Ctrl-C is for the caller alone, from the first instruction on
    )
    os.close(status_write)
    os.close(lifeline_read)
    world = World(process, lifeline_write)
    status = _read_status(status_read, seconds=30)
    if status.get("step") == "":
        return world
    world.kill()
    raise ConfigError(explain_end(status, process.returncode, facts or HostFacts.read()))
