"""Entering and leaving a world."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from podidentity.lab.node.namespaces import HostFacts, enter_world, explain_end, explain_refusal

REFUSED_INSIDE = """
import pathlib, sys
from podidentity.config.errors import ConfigError
from podidentity.lab.node.namespaces import enter_world
pathlib.Path("/proc/sys/user/max_user_namespaces").write_text("0")
try:
    enter_world(["true"])
except ConfigError as error:
    sys.exit(0 if "user.max_user_namespaces=10000" in str(error) else f"wrong: {error}")
sys.exit("not refused")
"""
KEEPS_PATHS = """
import os, sys
from podidentity.lab.node.namespaces import enter_world
os.makedirs("/run/user/7")
open("/run/user/7/kept", "w").close()
open("/run/other", "w").close()
with enter_world(["sh", "-c", "ls /run /run/user/7 > " + sys.argv[1]], keep_paths=["/run/user/7"]) as world:
    sys.exit(world.wait(20))
"""
HOLDER = """
import fcntl, subprocess, sys
from podidentity.lab.node.namespaces import enter_world
inside = "import fcntl, os, sys, signal; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print('held', flush=True)"
detached = inside + "; os.setsid(); signal.pause()"
world = enter_world([sys.executable, "-c",
    "import subprocess, sys, signal; p = subprocess.Popen([sys.executable, '-c', sys.argv[2], sys.argv[1]]); p.wait()",
    sys.argv[1], detached])
world.wait()
"""


@pytest.mark.e2e
def test_the_command_is_root_of_a_world_of_its_own_and_its_exit_code_comes_back(tmp_path: Path) -> None:
    """Protects that the mapping, the fresh /proc and the empty /run are there, and that exit codes pass."""
    output = tmp_path / "out"
    script = f"(id -u; ls /run | wc -l; ls -d /proc/[0-9]* | wc -l; ls /sys/class/net | wc -l) > {output}; exit 7"
    with enter_world(["sh", "-c", script]) as world:
        assert world.wait(20) == 7
    uid, run, processes = output.read_text().split()[:3]
    assert (uid, run) == ("0", "0")
    assert int(processes) < 8


@pytest.mark.e2e
def test_sigterm_reaches_the_command(tmp_path: Path) -> None:
    """Protects the orderly end: 128 + 15, as a shell would say."""
    ready = tmp_path / "ready"
    with enter_world(["sh", "-c", f"touch {ready}; exec sleep 60"]) as world:
        deadline = time.monotonic() + 10
        while not ready.exists():
            assert time.monotonic() < deadline
        world.terminate()
        assert world.wait(20) == 128 + signal.SIGTERM


@pytest.mark.e2e
def test_killing_the_outer_process_ends_everything_inside(tmp_path: Path) -> None:
    """Protects that SIGKILL leaves nothing behind, a daemon in a session of its own included."""
    lock = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as outer:
        assert outer.stdout is not None
        assert outer.stdout.readline() == "held\n"
        outer.kill()
    with lock.open() as stream, subprocess.Popen(["flock", str(lock), "true"]) as waiting:
        assert waiting.wait(10) == 0
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.e2e
def test_a_refusal_is_one_line() -> None:
    """Protects the error where the limit is zero, with the kernel itself refusing."""
    with enter_world([sys.executable, "-c", REFUSED_INSIDE], env=dict(os.environ)) as world:
        assert world.wait(20) == 0


@pytest.mark.e2e
def test_a_directory_below_run_can_be_kept(tmp_path: Path) -> None:
    """Protects labs whose state is in the caller's runtime directory; the rest of /run stays out of sight."""
    output = tmp_path / "out"
    with enter_world([sys.executable, "-c", KEEPS_PATHS, str(output)], env=dict(os.environ)) as world:
        assert world.wait(20) == 0
    assert output.read_text().split() == ["/run:", "user", "/run/user/7:", "kept"]


@pytest.mark.e2e
def test_a_missing_command_is_127() -> None:
    """Protects against a hang when the command does not exist."""
    with enter_world(["/nowhere/command"]) as world:
        assert world.wait(20) == 127


@pytest.mark.parametrize(
    ("step", "code", "facts", "words"),
    [
        ("user", errno.EPERM, {"userns_clone": "0"}, "kernel.unprivileged_userns_clone=1"),
        ("map", errno.EPERM, {"apparmor_restricts": "1"}, "apparmor_restrict_unprivileged_userns=0"),
        ("user", errno.EPERM, {"in_container": True}, "seccomp=unconfined"),
        ("proc", errno.EPERM, {"in_container": True}, "a fresh /proc (EPERM); start the container with"),
        ("user", errno.ENOSPC, {"limits": {"user/max_net_namespaces": "0"}}, "sysctl -w user.max_net_namespaces=10000"),
        ("user", errno.ENOSPC, {}, "raise the limits"),
        ("user", errno.EINVAL, {}, "CONFIG_USER_NS"),
        ("user", errno.EPERM, {}, "seccomp filter"),
    ],
)
def test_each_refusal_says_what_to_allow(step: str, code: int, facts: dict[str, object], words: str) -> None:
    """Protects the one line: what was refused, what to type."""
    given = {"in_container": False, "apparmor_restricts": None, "userns_clone": None, "limits": {}} | facts
    text = explain_refusal(step, code, HostFacts(**given))  # type: ignore[arg-type] # built from the table above
    assert words in text
    assert "\n" not in text


def test_facts_are_read_from_the_system(tmp_path: Path) -> None:
    """Protects the names of the switches under /proc/sys and the marks of containers."""
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/user").mkdir()
    (tmp_path / "proc/sys/kernel/unprivileged_userns_clone").write_text("0\n")
    (tmp_path / "proc/sys/user/max_net_namespaces").write_text("5\n")
    (tmp_path / ".dockerenv").touch()
    facts = HostFacts.read(tmp_path)
    assert facts == HostFacts(
        in_container=True, apparmor_restricts=None, userns_clone="0", limits={"user/max_net_namespaces": "5"}
    )


def test_a_first_process_that_says_nothing_is_no_refusal() -> None:
    """Protects from advice on security modules where the process was killed."""
    facts = HostFacts(in_container=True, apparmor_restricts=None, userns_clone=None, limits={})
    assert explain_end({}, -9, facts) == (
        "the process that enters the lab's namespaces ended with code -9 and said nothing; try again"
    )
    assert "refuses a fresh /proc (EPERM)" in explain_end({"step": "proc", "errno": errno.EPERM}, 1, facts)
