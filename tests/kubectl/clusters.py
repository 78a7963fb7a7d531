"""Two clusters that one kubectl talks to: the embedded API server, and a real control plane it should answer like."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from tests.kubectl.normal import normal
from tests.ports import free_port
from tests.real_server import kubectl_environ, run_kubectl

from podidentity.lab.pki import make_pki
from podidentity.lab.programs import Programs

Manifest = str | dict[str, object] | list[dict[str, object]]
START_SECONDS = 60
LINE_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Said:
    """A command's exit code and what it wrote."""

    code: int
    out: str
    err: str

    def normal(self) -> str:
        """All of it, with what differs between any two clusters taken out."""
        return f"exit {self.code}\n{normal(self.out)}\n--\n{normal(self.err)}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """One server and a kubectl of its own; ``pki`` has the users' certificates."""

    label: str
    programs: Programs
    url: str
    pki: Path
    kubeconfig: Path
    cache: Path

    def kubectl(self, *words: str, stdin: Manifest = "", env: dict[str, str] | None = None) -> Said:
        """What kubectl answers."""
        text = stdin if isinstance(stdin, str) else manifest(stdin)
        environ = {**kubectl_environ(self.kubeconfig, self.cache), **(env or {})}
        done = run_kubectl(self.programs, self.kubeconfig, self.cache, *words, input=text, env=environ)
        return Said(done.returncode, done.stdout, done.stderr)

    def popen(self, *words: str, **more: Any) -> subprocess.Popen[Any]:
        """A kubectl; ``more`` goes to Popen."""
        environ = kubectl_environ(self.kubeconfig, self.cache)
        return subprocess.Popen([str(self.programs.require("kubectl")), *words], env=environ, **more)

    def start(self, *words: str) -> Stream:
        """A kubectl that goes on."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return Stream(self.popen(*words, text=True, **streams))


class Stream:
    """A command that goes on: its lines as they come. A context manager that ends it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._came = threading.Condition()
        self._reader = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.terminate()
        self._reader.join()
        self.process.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with self._came:
                    self.lines.append(line)
                    self._came.notify()

    def says(self, text: str) -> bool:
        """Wait until a line has ``text`` in it; whether one has."""
        with self._came:
            return self._came.wait_for(lambda: any(text in line for line in self.lines), LINE_SECONDS)

    def arrive(self, count: int) -> list[str]:
        """Wait until ``count`` lines have come; what came."""
        with self._came:
            self._came.wait_for(lambda: len(self.lines) >= count, LINE_SECONDS)
            return list(self.lines)


@dataclass(frozen=True, slots=True)
class Rows:
    """What a command that goes on has printed at the real and at the embedded server."""

    real: Stream
    embedded: Stream

    def arrive(self, count: int, what: str = "") -> None:
        """Wait until both have printed ``count`` lines, and the same."""
        real, embedded = self.real.arrive(count), self.embedded.arrive(count)
        assert len(real) == count, (what, real)
        assert normal("".join(real)) == normal("".join(embedded)), what

    def codes(self) -> tuple[int, int]:
        """Wait until both have ended by themselves; their exit codes."""
        return self.real.process.wait(LINE_SECONDS), self.embedded.process.wait(LINE_SECONDS)


def manifest(objects: dict[str, object] | list[dict[str, object]]) -> str:
    """The text of a file with these objects."""
    return yaml.safe_dump_all(objects if isinstance(objects, list) else [objects])


def write_kubeconfig(path: Path, url: str, pki: Path, user: str = "admin") -> Path:
    """A kubeconfig for one of the PKI's users."""
    client = {"client-certificate": str(pki / f"{user}.crt"), "client-key": str(pki / f"{user}.key")}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": user}}],
        "clusters": [{"name": "c", "cluster": {"server": url, "certificate-authority": str(pki / "ca.crt")}}],
        "users": [{"name": user, "user": client}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


@contextlib.contextmanager
def embedded_cluster(folder: Path, programs: Programs, port: int = 0) -> Iterator[Cluster]:
    """The embedded API server as the lab starts it, without controllers; its objects stay in ``folder``."""
    pki, port, ready = folder / "pki", port or free_port(), folder / "ready"
    pki.mkdir(exist_ok=True)
    ready.unlink(missing_ok=True)
    make_pki(pki, (), ())
    files = {
        "data-dir": folder / "data",
        "tls-cert": pki / "apiserver.crt",
        "tls-key": pki / "apiserver.key",
        "client-ca": pki / "ca.crt",
        "sa-key": pki / "sa.key",
        "listen": f"127.0.0.1:{port}",
        "ready-file": ready,
    }
    command = [sys.executable, "-m", "podidentity.lab.kube", *(f"--{name}={value}" for name, value in files.items())]
    url = f"https://127.0.0.1:{port}"
    with (folder / "api.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            deadline = time.monotonic() + START_SECONDS
            while not ready.exists():
                assert process.poll() is None, (folder / "api.log").read_text()
                assert time.monotonic() < deadline, "the embedded API server did not start"
                time.sleep(0.02)
            kubeconfig = write_kubeconfig(folder / "admin.kubeconfig", url, pki)
            yield Cluster("embedded", programs, url, pki, kubeconfig, folder / "cache")
        finally:
            process.terminate()
    assert "Traceback" not in (folder / "api.log").read_text()


@dataclass(frozen=True, slots=True)
class Step:
    """One command: typed at both servers, answered alike, at the real one with this exit code and these words.

    ``alike`` says what is compared: all of it, the ``first`` line (what follows is a dump of Go structures), or whether
    all the embedded server says is ``among`` what the real one says (it serves fewer kinds), or ``nothing`` but that
    both have this exit code and these words. ``within`` seconds it is typed again while the answers are wrong: the real
    server publishes what a definition says a moment after it is established.
    """

    command: str
    stdin: Manifest = ""
    code: int = 0
    says: str = ""
    editor: str = ""
    alike: Literal["all", "first", "among", "nothing"] = "all"
    within: float = 0

    def complaint(self, real: Said, embedded: Said) -> str:
        """What is wrong with the answers; empty when nothing is."""
        if real.code != self.code or self.says not in real.out + real.err:
            return f"expected exit {self.code} and {self.says!r}, the real server says: {real}"
        left, right = real.normal().splitlines(), embedded.normal().splitlines()
        match self.alike:
            case "first":
                good = [line for line in left if line][:3] == [line for line in right if line][:3]
            case "among":
                good = set(right) <= set(left) and len(right) > self.code + 2
            case "nothing":
                good = (self.code, self.says in embedded.out + embedded.err) == (embedded.code, True)
            case "all":
                good = left == right
        return "" if good else "\n".join(unified_diff(left, right, "real", "embedded", lineterm="", n=2))


class Pair:
    """Both clusters; every command goes to both at once."""

    def __init__(self, real: Cluster, embedded: Cluster) -> None:
        self.real = real
        self.embedded = embedded
        self._pool = ThreadPoolExecutor(2)

    def close(self) -> None:
        """End the helper threads."""
        self._pool.shutdown()

    def say(self, *words: str, stdin: Manifest = "", env: dict[str, str] | None = None) -> tuple[Said, Said]:
        """The real server's answer and the embedded one's."""
        futures = [self._pool.submit(one.kubectl, *words, stdin=stdin, env=env) for one in (self.real, self.embedded)]
        real, embedded = (future.result() for future in futures)
        return real, embedded

    def differences(self, namespace: str, story: Sequence[Step]) -> list[str]:
        """Play a story in a namespace; every answer that was wrong."""
        found: list[str] = []
        for step in story:
            env = {"KUBE_EDITOR": step.editor} if step.editor else None
            words = [f"--namespace={namespace}", *shlex.split(step.command)]
            ends = time.monotonic() + step.within
            complaint = step.complaint(*self.say(*words, stdin=step.stdin, env=env))
            while complaint and time.monotonic() < ends:
                complaint = step.complaint(*self.say(*words, stdin=step.stdin, env=env))
            if complaint:
                found.append(f"$ kubectl {step.command}\n{complaint}")
        return found

    @contextlib.contextmanager
    def watching(self, namespace: str, *words: str) -> Iterator[Rows]:
        """A command that goes on, typed at both in a namespace; it is ended with the context."""
        with contextlib.ExitStack() as stack:
            streams = [one.start(f"--namespace={namespace}", *words) for one in (self.real, self.embedded)]
            yield Rows(*(stack.enter_context(stream) for stream in streams))

    @contextlib.contextmanager
    def namespace(self, name: str) -> Iterator[str]:
        """A namespace on both, furnished as the controller manager does it."""
        real, embedded = self.say("create", "namespace", name)
        assert (real.code, embedded.code) == (0, 0), (real, embedded)
        self.embedded.kubectl("create", "serviceaccount", "default", "-n", name)
        self.embedded.kubectl("create", "configmap", "kube-root-ca.crt", "--from-literal=ca.crt=CA", "-n", name)
        self.real.kubectl("wait", "--for=create", "-n", name, "sa/default", "configmap/kube-root-ca.crt")
        try:
            yield name
        finally:
            self.say("delete", "namespace", name, "--wait=false")
