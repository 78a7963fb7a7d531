"""Where a lab keeps its files. One directory is one lab."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOCKET_PATH_LIMIT = 100
"""A Unix socket's path holds at most 107 bytes (unix(7)); a little less, to be safe."""

FOLDERS = ("pki", "run", "log", "nodes", "kube", "cloud", "manifests")
FILES = ("cloud-seed.json", "lab.json", "lab.json.new", "lab.lock", "kubeconfig", "kubeconfig.new", "hosts")
OWN = frozenset((*FOLDERS, *FILES))
"""Everything a lab makes directly in its directory; nothing else there is ever touched."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths under the directory ``root`` of one lab (absolute)."""

    root: Path

    @property
    def pki(self) -> Path:
        """Certificates and keys, made anew for each lab."""
        return self.root / "pki"

    @property
    def run(self) -> Path:
        """Sockets and ready files; elsewhere when the directory's own path is too long for a socket."""
        inside = self.root / "run"
        if len(os.fsencode(inside / "cloud-admin.sock")) <= SOCKET_PATH_LIMIT:
            return inside
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"podidentity-{os.getuid()}-{digest}"

    @property
    def logs(self) -> Path:
        """One log file a process of the lab."""
        return self.root / "log"

    @property
    def nodes(self) -> Path:
        """What each node sees as its own /etc/kubernetes, /run and /var."""
        return self.root / "nodes"

    @property
    def kube_data(self) -> Path:
        """The embedded API's database."""
        return self.root / "kube"

    @property
    def cloud_data(self) -> Path:
        """The simulated Azure's state."""
        return self.root / "cloud"

    @property
    def seed(self) -> Path:
        """What the simulated Azure starts from."""
        return self.root / "cloud-seed.json"

    @property
    def spec(self) -> Path:
        """What the lab was created as: nodes, network, names; a later ``lab up`` resumes it."""
        return self.root / "lab.json"

    @property
    def lock(self) -> Path:
        """Held by the lab's first process for as long as it lives; its text is the process id."""
        return self.root / "lab.lock"

    @property
    def kubeconfig(self) -> Path:
        """For kubectl on the caller's machine."""
        return self.root / "kubeconfig"

    @property
    def api_socket(self) -> Path:
        """The embedded API's Unix socket (TLS)."""
        return self.run / "api.sock"

    @property
    def cloud_socket(self) -> Path:
        """The simulated Azure's admin socket."""
        return self.run / "cloud-admin.sock"

    @property
    def status(self) -> Path:
        """What the world says of itself: JSON, written atomically."""
        return self.run / "status.json"

    @property
    def hosts(self) -> Path:
        """The hosts file of every pod."""
        return self.root / "hosts"

    @property
    def ca_bundle(self) -> Path:
        """What pods trust: the lab's own CA and nothing else."""
        return self.pki / "ca.crt"

    def foreign(self) -> str:
        """Name of something in the directory that no lab made; empty when there is nothing of the kind."""
        if not self.root.is_dir():
            return ""
        return min((entry.name for entry in self.root.iterdir() if entry.name not in OWN), default="")

    def make(self) -> None:
        """Create the folders."""
        for folder in (self.root, self.pki, self.run, self.logs, self.nodes, self.kube_data, self.cloud_data):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_atomically(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace ``path`` so that a reader sees the old text or the new one, never half of it."""
    fresh = path.with_name(path.name + ".new")
    fresh.touch(mode=mode)
    fresh.write_text(text)
    fresh.replace(path)
