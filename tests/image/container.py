"""Starts an image's program as a container runtime would: a read-only root, the manifest's user and capabilities."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.image.dockerfile import search_path

SCRIPT = """
set -e
files=$1 capabilities=$2 user=$3 url=$4; shift 4
ip link set lo up
root=$(mktemp -d)
mount -t tmpfs -o mode=755 tmpfs "$root"
for each in /usr /bin /sbin /lib /lib64 /etc /dev /proc $PYTHON_PREFIX; do
  [ -e "$each" ] && [ ! -e "$root$each" ] || continue
  if [ -h "$each" ]; then cp -d "$each" "$root$each"; else mkdir -p "$root$each"; mount --rbind "$each" "$root$each"; fi
done
mkdir -p "$root/opt/podidentity" "$root/provider" "$root/run"
mount --bind "$files/opt/podidentity" "$root/opt/podidentity"
mount -o remount,bind,ro "$root/opt/podidentity"
mount -t tmpfs tmpfs "$root/provider"
touch "$root/run/xtables.lock" "$root/provider/lock"
mount --bind "$root/provider/lock" "$root/run/xtables.lock"
rm "$root/provider/lock"
mount -o remount,ro "$root"
set -- setpriv --bounding-set="-all$capabilities" --inh-caps=-all --no-new-privs $user "$@"
set -- env -i "PATH=$IMAGE_PATH" MIC_POD_NAMESPACE=default chroot "$root" "$@"
[ -n "$url" ] || exec "$@"
"$@" &
ask="import sys, time, urllib.request as u
for attempt in range(150):
    try: print('answered', u.urlopen(sys.argv[1], timeout=5).status); break
    except OSError as error: said = error; time.sleep(0.1)
else: print('no answer:', said)"
chroot "$root" /opt/podidentity/bin/python3 -I -c "$ask" "$url"
ls "$root/provider"
kill -TERM $!
wait $! || echo "ended with $?"
"""


@dataclass(frozen=True)
class Container:
    """What starts the programs of ``files``, a directory that the Dockerfile's step made."""

    files: Path

    def run(
        self, words: Sequence[str], *, capabilities: Sequence[str] = (), user: int = 0, url: str = ""
    ) -> tuple[int, str, str]:
        """Run ``words`` in its own network; with ``url``, ask it, list ``/provider``, and end the program with SIGTERM.

        Skips the test where the system refuses namespaces, and for a ``user`` that only root may become.
        """
        root = os.geteuid() == 0
        if user and not root:
            pytest.skip("only root may run a program as another user")
        allowed = "".join(f",+{name.lower()}" for name in capabilities)
        person = f"--reuid={user} --regid={user} --clear-groups" if user else ""
        namespaces = ("unshare", *(() if root else ("-r",)), "-nm")
        environ = {
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
            "PYTHON_PREFIX": sys.base_prefix,
            "IMAGE_PATH": search_path(),
        }
        done = subprocess.run(
            [*namespaces, "sh", "-c", SCRIPT, "sh", self.files, allowed, person, url, *words],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if "unshare:" in done.stderr:
            pytest.skip(f"this system refuses namespaces: {done.stderr}")
        return done.returncode, done.stdout, done.stderr
