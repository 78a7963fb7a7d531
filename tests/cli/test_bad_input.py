"""Wrong input as a person gives it, to whole processes: one line that names it, the right exit code, no trace."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest
import yaml

MIC = {"MIC_POD_NAMESPACE": "default"}
MISSPELLED = {"cloud": "AzurePublicCloud", "SubscriptionID": "s", "useManagedIdentityExtension": True}
AZURE = {"cloud": "AzurePublicCloud", "subscriptionId": "s", "useManagedIdentityExtension": True}


@dataclass(frozen=True)
class Ended:
    """How a command ended; ``last`` is the last line it wrote to stderr."""

    code: int
    output: str
    errors: str

    @property
    def last(self) -> str:
        """The line a person reads."""
        return self.errors.splitlines()[-1]


def podidentity(*argv: str, cwd: Path | None = None, environ: Mapping[str, str] = MappingProxyType({})) -> Ended:
    """Run ``podidentity ARGV`` with nothing in its environment but what is given."""
    done = subprocess.run(
        [sys.executable, "-m", "podidentity", *argv],
        env={"PATH": os.environ["PATH"], **environ},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return Ended(done.returncode, done.stdout, done.stderr)


def kubeconfig(folder: Path, port: int = 1, *, context: bool = True) -> Path:
    """A kubeconfig for an API that does not answer."""
    path = folder / "kubeconfig"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"https://127.0.0.1:{port}"}}],
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    path.write_text(yaml.safe_dump(document | ({"current-context": "one"} if context else {})))
    return path


SERVERS = "'kind' is not one of 'embedded', 'real'"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["mic", "--sync-retry=5s"], "mic: unknown flag --sync-retry; did you mean --syncRetryDuration?"),
        (["nmi", "--nod=x"], "nmi: unknown flag --nod; did you mean --node?"),
        (["csi-provider", "--endpont=x"], "csi-provider: unknown flag --endpont; did you mean --endpoint?"),
        (["lab", "upp"], "lab: No such command 'upp'. Did you mean 'up'?"),
        (["lab", "up", "--node", "2"], "lab: up: No such option: --node (Possible options: --nodes)"),
        (["mic", "--leader-election-duration=15"], 'mic: --leader-election-duration: "15" has no unit'),
        (["mic", "--syncRetryDuration=1d"], 'mic: --syncRetryDuration: "1d" has the unknown unit "d"'),
        (["mic", "--identity-removal-linger=-1s"], "mic: --identity-removal-linger: "),
        (["nmi", "--node="], "nmi: --node is empty; give the node's name"),
        (["nmi", "--node=$(NODE_NAME)"], "nmi: --node: $(NODE_NAME) was not replaced"),
        (["nmi", "--node=n", "--nmi-port=99999"], "nmi: --nmi-port: "),
        (["lab", "up", "--nodes", "0"], "lab: up: Invalid value for '--nodes'"),
        (["lab", "demo", "--nodes", "0"], "lab: demo: Invalid value for '--nodes'"),
        (["lab", "up", "--api-server=kind"], f"lab: up: Invalid value for '--api-server': {SERVERS}"),
        (["lab", "demo", "--api-server=kind"], f"lab: demo: Invalid value for '--api-server': {SERVERS}"),
        (["lab", "demo", "--network=mesh"], "lab: demo: Invalid value for '--network'"),
    ],
)
def test_wrong_usage(argv: Sequence[str], words: str, tmp_path: Path) -> None:
    """A flag or value nobody knows is exit 2 and one line with the nearest known one, and nothing is made."""
    done = podidentity(*argv, cwd=tmp_path, environ={**MIC, "HOME": str(tmp_path)})
    assert (done.code, done.output) == (2, "")
    assert done.errors.startswith(f"podidentity {words}")
    assert done.errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["up", "demo"])
def test_a_real_api_server_that_is_not_there(command: str, tmp_path: Path) -> None:
    """Without Kubernetes' programs, one line says which one is missing and both ways to get it; nothing is made."""
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    done = podidentity("lab", command, "--api-server=real", cwd=tmp_path, environ=home)
    assert (done.code, done.output) == (1, "")
    assert done.errors.startswith("podidentity lab: etcd is not on this machine; `make kube-assets` in a checkout ")
    assert "KUBEBUILDER_ASSETS" in done.errors
    assert done.errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "azure.json: cannot be read (No such file or directory); check --cloudconfig"),
        ("", "azure.json: must be an object with named fields"),
        ('{"cloud": "AzurePublicCloud",', "azure.json: line 1: "),
        (json.dumps(AZURE | {"subscriptionId": ""}), '"subscriptionId" is missing; add it or set SUBSCRIPTION_ID'),
        (json.dumps(AZURE | {"subscriptionId": ["s"]}), '"subscriptionId" is not text; put it in quotes'),
        (json.dumps(MISSPELLED), '"subscriptionId" is missing; it is spelled "SubscriptionID" there'),
        (json.dumps(AZURE | {"cloud": "AzurePublic"}), '"cloud": cloud "AzurePublic" is not known; use one of Azure'),
        (json.dumps(AZURE | {"useManagedIdentityExtension": False}), '"aadClientId" is missing (needed because '),
        (json.dumps(AZURE | {"useManagedIdentityExtension": "maybe"}), '"useManagedIdentityExtension" is neither true'),
    ],
)
def test_azure_json(content: str | None, words: str, tmp_path: Path) -> None:
    """A missing, broken or incomplete azure.json is named with its field, before the cluster is asked anything."""
    path = tmp_path / "azure.json"
    if content is not None:
        path.write_text(content)
    done = podidentity("mic", f"--kubeconfig={kubeconfig(tmp_path)}", f"--cloudconfig={path}", environ=MIC)
    assert done.code == 1
    assert done.last.startswith("podidentity mic: ")
    assert words in done.last
    assert "Kubernetes server version" not in done.errors


def test_no_azure_configuration_at_all(tmp_path: Path) -> None:
    """Without --cloudconfig the first variable that is missing is named, and the flag that would do instead."""
    done = podidentity("mic", f"--kubeconfig={kubeconfig(tmp_path)}", environ=MIC)
    assert done.code == 1
    assert done.last == "podidentity mic: CLOUD is not set; set it or pass --cloudconfig=<azure.json>"


def test_mic_without_its_namespace(tmp_path: Path) -> None:
    """MIC_POD_NAMESPACE is asked for by name."""
    done = podidentity("mic", f"--kubeconfig={kubeconfig(tmp_path)}")
    assert (done.code, done.errors.count("\n")) == (1, 1)
    assert done.errors.startswith("podidentity mic: MIC_POD_NAMESPACE is not set; ")


def test_a_cloud_nobody_knows() -> None:
    """csi-provider names the clouds there are."""
    done = podidentity("csi-provider", "--cloud-name=Nowhere")
    assert done.code == 1
    assert done.last.startswith('podidentity csi-provider: cloud "Nowhere" is not known; use one of AzureCloud, ')


@pytest.mark.parametrize(
    ("argv", "variable", "words"),
    [
        (["mic", "--kubeconfig=none"], "", "mic: none: Configuration file none not found; use --kubeconfig to name a"),
        (["nmi", "--node=n"], "none", "nmi: none: Configuration file none not found; use KUBECONFIG to name a"),
        (["nmi", "--node=n"], "", "nmi: not in a cluster: KUBERNETES_SERVICE_HOST is not set; use KUBECONFIG to name"),
        (["mic"], "", "mic: not in a cluster: KUBERNETES_SERVICE_HOST is not set; use --kubeconfig to name"),
    ],
)
def test_no_cluster(argv: Sequence[str], variable: str, words: str, tmp_path: Path) -> None:
    """A kubeconfig that is not there, or none at all, is told with the way this component is given one."""
    environ = {**MIC, "HOST_IP": "127.0.0.1", **({"KUBECONFIG": variable} if variable else {})}
    done = podidentity(*argv, environ=environ, cwd=tmp_path)
    assert done.code == 1
    assert done.last.startswith(f"podidentity {words}")


def test_a_kubeconfig_without_a_current_context(tmp_path: Path) -> None:
    """The contexts there are named, with the command that chooses one."""
    path = kubeconfig(tmp_path, context=False)
    done = podidentity("mic", f"--kubeconfig={path}", environ=MIC)
    assert done.code == 1
    assert "no current-context (contexts there: one); choose one with `kubectl --kubeconfig " in done.last


def test_mics_port_is_in_use(tmp_path: Path) -> None:
    """The port, and the process that has it, are named, though the API does not answer."""
    path = tmp_path / "azure.json"
    path.write_text(json.dumps(AZURE))
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        flags = (f"--kubeconfig={kubeconfig(tmp_path)}", f"--cloudconfig={path}", f"--http-probe-port={port}")
        done = podidentity("mic", *flags, environ=MIC)
    assert done.code == 1
    assert done.last.startswith(f"podidentity mic: port {port} is in use by ")
    assert f"(pid {os.getpid()})" in done.last


def test_the_labs_port_is_in_use(tmp_path: Path) -> None:
    """A port that is taken ends `lab up` at once, with who holds it and what to say instead; nothing is left."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = podidentity("lab", "up", "--dir", str(tmp_path / "lab"), "--port", str(port))
    assert (done.code, done.errors.count("\n")) == (1, 1)
    assert done.errors.startswith(f"podidentity lab: port {port} ")
    assert f"(pid {os.getpid()})" in done.errors
    assert "--port" in done.errors


def test_a_directory_that_cannot_be_written() -> None:
    """`lab up` says so in one line; root, for whom mode bits mean nothing, is refused by /proc too."""
    done = podidentity("lab", "up", "--dir", "/proc/lab")
    assert (done.code, done.errors.count("\n")) == (1, 1)
    assert done.errors.startswith("podidentity lab: --dir /proc/lab: cannot write there (")


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    """--dir of a file is one line that says which."""
    (tmp_path / "file").write_text("")
    done = podidentity("lab", "up", "--dir", str(tmp_path / "file"))
    assert (done.code, done.errors.count("\n")) == (1, 1)
    assert str(tmp_path / "file") in done.errors


@pytest.mark.parametrize("content", ["{}", "not json", '{"version": 1}'])
def test_a_directory_that_is_not_a_labs(content: str, tmp_path: Path) -> None:
    """A lab.json nobody can read is named, and left as it is."""
    (tmp_path / "lab.json").write_text(content)
    done = podidentity("lab", "up", "--dir", str(tmp_path))
    assert (done.code, done.errors.count("\n")) == (1, 1)
    assert f"{tmp_path}/lab.json: not a lab's description" in done.errors
    assert (tmp_path / "lab.json").read_text() == content
