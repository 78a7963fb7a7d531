"""What the first process of a pid namespace does. Standard library only."""

from __future__ import annotations

import os
import select
import signal


def exit_code(status: int) -> int:
    """The exit code of a wait status, 128 + n for signal n."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _reap(main: int) -> int | None:
    """Wait for every child that has ended; the exit code of ``main`` when it was among them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == main:
            code = exit_code(status)


def wait_as_init(main: int, lifeline: int = -1) -> int:
    """Reap orphans until ``main`` ends or the descriptor ``lifeline`` does; forwards SIGTERM to ``main``."""
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(main, signal.SIGTERM))
    poll = select.poll()
    poll.register(wake_read, select.POLLIN)
    if lifeline >= 0:
        poll.register(lifeline, select.POLLIN)
    while True:
        code = _reap(main)
        if code is not None:
            return code
        for fd, _event in poll.poll():
            if fd == lifeline:
                return 128 + signal.SIGKILL
            os.read(wake_read, 512)


def forward(pid: int) -> int:
    """Wait for the child ``pid``, passing SIGTERM on to it; its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
    _pid, status = os.waitpid(pid, 0)
    return exit_code(status)
