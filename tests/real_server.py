"""A real control plane on loopback: etcd, kube-apiserver, kube-controller-manager, as ``make kube-assets`` built them.

One for the whole session is the fixture ``real_server``; a test that stops the API server starts one of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.ports import free_port

from podidentity.config.errors import ConfigError
from podidentity.kube.target import KubeSettings
from podidentity.lab.control_plane import ControlPlane
from podidentity.lab.pki import make_pki
from podidentity.lab.programs import Programs, programs

READY_SECONDS = 90


def kubernetes_programs(*names: str) -> Programs:
    """Where the programs are; skips the test, saying how to get one, when one of ``names`` is missing."""
    found = programs(os.environ)
    try:
        for name in names:
            found.require(name)
    except ConfigError as error:
        pytest.skip(str(error))
    return found


@dataclass
class RealServer:
    """A control plane below ``folder``; it runs between ``start`` and ``stop``, and keeps its objects in between.

    ``apiserver_args`` come after the lab's own, for what a test wants on top, such as an audit log.
    """

    folder: Path
    programs: Programs
    apiserver_args: tuple[str, ...] = ()
    plane: ControlPlane = field(init=False)
    _running: dict[str, subprocess.Popen[bytes]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("pki", "logs"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        make_pki(self.folder / "pki", (), ())
        self.plane = ControlPlane(
            self.folder / "etcd", self.folder / "pki", "127.0.0.1", free_port(), free_port(), free_port()
        )
        self.write_kubeconfig("admin")
        self.write_kubeconfig("controllers")

    @property
    def url(self) -> str:
        """Where the API is served."""
        return f"https://127.0.0.1:{self.plane.port}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.folder / "admin.kubeconfig"

    @property
    def ca(self) -> Path:
        """The certificate authority of the API."""
        return self.folder / "pki" / "ca.crt"

    def write_kubeconfig(self, user: str) -> None:
        """A kubeconfig for one of the PKI's users."""
        pki = self.folder / "pki"
        text = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "real",
            "contexts": [{"name": "real", "context": {"cluster": "real", "user": user}}],
            "clusters": [{"name": "real", "cluster": {"server": self.url, "certificate-authority": str(self.ca)}}],
            "users": [
                {
                    "name": user,
                    "user": {"client-certificate": str(pki / f"{user}.crt"), "client-key": str(pki / f"{user}.key")},
                }
            ],
        }
        (self.folder / f"{user}.kubeconfig").write_text(json.dumps(text))

    def settings(self, user: str = "admin") -> KubeSettings:
        """Client settings of one of the PKI's users."""
        pki = self.folder / "pki"
        return KubeSettings(
            server=self.url,
            ca_file=str(self.ca),
            client_cert_file=str(pki / f"{user}.crt"),
            client_key_file=str(pki / f"{user}.key"),
        )

    def start(self) -> None:
        """Start what does not run yet; returns once the API is ready."""
        self._start("etcd", self.plane.etcd(self.programs.require("etcd")))
        apiserver = self.plane.apiserver(self.programs.require("kube-apiserver"))
        self._start("kube-apiserver", (*apiserver, *self.apiserver_args))
        self._until_ready()
        program = self.programs.require("kube-controller-manager")
        self._start(
            "kube-controller-manager", self.plane.controller_manager(program, self.folder / "controllers.kubeconfig")
        )
        self._until_furnished()

    def stop(self, *names: str) -> None:
        """Stop the named programs, all of them by default, last started first."""
        for name in names or tuple(reversed(self._running)):
            process = self._running.pop(name)
            process.kill()
            process.wait()

    def process(self, name: str) -> subprocess.Popen[bytes]:
        """A running program's process, to pause or kill it."""
        return self._running[name]

    def _start(self, name: str, command: Sequence[str]) -> None:
        if name in self._running:
            return
        with (self.folder / "logs" / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while self.get("/readyz") != b"ok":
            for name, process in self._running.items():
                assert process.poll() is None, f"{name} ended: {self.log(name)[-2000:]}"
            assert time.monotonic() < deadline, f"kube-apiserver is not ready: {self.log('kube-apiserver')[-2000:]}"
            time.sleep(0.05)

    def _until_furnished(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self.get("/api/v1/namespaces/default/serviceaccounts/default"):
            assert time.monotonic() < deadline, f"no default account: {self.log('kube-controller-manager')[-2000:]}"
            time.sleep(0.05)

    def get(self, path: str) -> bytes:
        """What the administrator is answered at ``path``; empty when that is not 200."""
        context = ssl.create_default_context(cafile=str(self.ca))
        pki = self.folder / "pki"
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=context), urllib.request.ProxyHandler({})
        )
        try:
            with opener.open(f"{self.url}{path}", timeout=10) as answer:
                body: bytes = answer.read()
                return body
        except (urllib.error.URLError, OSError):
            return b""

    def log(self, name: str) -> str:
        """What a program has written so far."""
        return (self.folder / "logs" / f"{name}.log").read_text(errors="replace")

    def kubectl(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run the real kubectl as the administrator; its answer is not checked."""
        return run_kubectl(self.programs, self.kubeconfig, self.folder / "kubecache", *words, **more)


def run_kubectl(
    found: Programs, kubeconfig: Path, cache: Path, *words: str, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run the real kubectl against a cluster; ``more`` goes to subprocess.run. Its answer is not checked."""
    environ = kubectl_environ(kubeconfig, cache)
    return subprocess.run(
        [str(found.require("kubectl")), *words],
        check=False,
        **{"env": environ, "capture_output": True, "text": True, "timeout": 60, **more},
    )


def kubectl_environ(kubeconfig: Path, cache: Path) -> dict[str, str]:
    """The environment kubectl runs in: this process's, with its own cluster and cache, and no proxy."""
    quiet = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    return {**quiet, "KUBECONFIG": str(kubeconfig), "KUBECACHEDIR": str(cache)}


@contextlib.contextmanager
def running_control_plane(folder: Path, *apiserver_args: str) -> Iterator[RealServer]:
    """A started control plane of one's own; skips where its programs are missing."""
    found = kubernetes_programs("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
    server = RealServer(folder, found, apiserver_args)
    try:
        server.start()
        yield server
    finally:
        server.stop()
