"""Who holds a port."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from podidentity.telemetry.ports import holder_of

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def row(address: str, state: str, inode: int) -> str:
    """Give a row of /proc/net/tcp."""
    return f"   0: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"


def process(proc: Path, pid: int, comm: str | None, inode: int) -> None:
    """Make a process with one socket and one file that is none."""
    (proc / str(pid) / "fd").mkdir(parents=True)
    (proc / str(pid) / "fd" / "3").symlink_to(f"socket:[{inode}]")
    (proc / str(pid) / "fd" / "4").write_text("not a link")
    if comm is not None:
        (proc / str(pid) / "comm").write_text(comm + "\n")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc with a listener on 8080 (0x1F90, inode 7), a connection from it and a listener on IPv6."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(
        HEADER + row("00000000:1F90", "0A", 7) + row("0100007F:1F91", "01", 8) + "short row\n"
    )
    (tmp_path / "net" / "tcp6").write_text(HEADER + row("0" * 32 + ":1F92", "0A", 9))
    (tmp_path / "self").mkdir()
    (tmp_path / "5").mkdir()
    return tmp_path


def test_the_holder_is_named_by_command_and_pid(proc: Path) -> None:
    """A listener is found on IPv4 and IPv6; a connection or a free port is nobody's."""
    process(proc, 12, "nginx", 7)
    process(proc, 100, "envoy", 9)
    assert holder_of(8080, proc) == "nginx (pid 12)"
    assert holder_of(8082, proc) == "envoy (pid 100)"
    assert holder_of(8081, proc) == holder_of(1, proc) == ""


def test_what_cannot_be_read_is_left_out(proc: Path) -> None:
    """A holder in another namespace, a process without a name, a missing table: said as far as it can be."""
    assert holder_of(8080, proc) == ""
    process(proc, 12, None, 7)
    assert holder_of(8080, proc) == "a process (pid 12)"
    (proc / "net" / "tcp").unlink()
    assert holder_of(8080, proc) == ""


def test_the_real_proc_names_this_process() -> None:
    """On a real machine the holder of a port of ours is us."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert f"(pid {os.getpid()})" in holder_of(listener.getsockname()[1])
