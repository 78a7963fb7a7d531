"""``kubectl podidentity``: the real kubectl finds the package's programs, hands on what is typed, and completes it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from tests.kubectl.clusters import embedded_cluster
from tests.ports import free_port
from tests.real_server import kubernetes_programs

from podidentity.lab.programs import Programs

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Kubectl:
    """The real kubectl, with the package's programs on its PATH."""

    program: Path
    environ: Mapping[str, str]

    def __call__(self, *words: str, **environ: str) -> Ended:
        """Run it."""
        done = subprocess.run(
            [self.program, *words],
            env={**self.environ, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """The programs are made as an installer makes them, from the package's own list."""
    program = kubernetes_programs("kubectl").require("kubectl")
    home = tmp_path_factory.mktemp("home")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for name, target in scripts.items():
        module, function = target.split(":")
        path = home / name
        path.write_text(f"#!{sys.executable}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n")
        path.chmod(0o755)
    path = f"{home}:{os.environ['PATH']}"
    return Kubectl(program, {"PATH": path, "HOME": str(home), "PYTHONPATH": str(ROOT / "src")})


@pytest.fixture(scope="module")
def two_contexts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A kubeconfig whose current context leads nowhere; ``alive`` has a cluster and the namespace ``shop``."""
    folder = tmp_path_factory.mktemp("api")
    with embedded_cluster(folder, Programs(())) as cluster:
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        alive = config["contexts"][0]
        alive["name"], alive["context"]["namespace"] = "alive", "shop"
        config["clusters"].append({"name": "gone", "cluster": {"server": f"http://127.0.0.1:{free_port()}"}})
        config["contexts"].append({"name": "gone", "context": {"cluster": "gone", "user": alive["context"]["user"]}})
        config["current-context"] = "gone"
        path = folder / "two.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        yield path


def test_kubectl_lists_the_plugin(kubectl: Kubectl) -> None:
    """Without a warning: it is executable and hides no command of kubectl's."""
    done = kubectl("plugin", "list")
    assert "kubectl-podidentity" in done.out
    assert "kubectl-podidentity" not in done.err


def test_it_is_the_same_program(kubectl: Kubectl) -> None:
    """Output and exit codes come through."""
    assert kubectl("podidentity", "version", "--json").out.startswith('{"version":')
    done = kubectl("podidentity", "nmmi")
    assert (done.code, done.err) == (2, 'podidentity: unknown command "nmmi"; did you mean nmi?\n')


def test_the_options_of_kubectl_count(kubectl: Kubectl, two_contexts: Path) -> None:
    """Namespace, context and kubeconfig, the last one by option or variable; the context's namespace without -n."""
    explain = ("podidentity", "explain", "web")
    hint = "use --kubeconfig to name a kubeconfig file, or one of its contexts: alive, gone"
    lines = [
        kubectl(*explain, f"--kubeconfig={two_contexts}", "--context=alive"),
        kubectl(*explain, "--context=alive", "-n", "other", KUBECONFIG=str(two_contexts)),
        kubectl(*explain, f"--kubeconfig={two_contexts}", "--context=aliev"),
        kubectl(*explain, "--context=alive"),
        kubectl("podidentity", "doctor", "--context=alive"),
    ]
    said = [line.err.partition(": ")[2].rstrip("\n") for line in lines]
    assert [line.code for line in lines] == [1, 1, 1, 1, 1]
    assert said == [
        "there is no pod web in namespace shop; name another one with --namespace",
        "there is no pod web in namespace other; name another one with --namespace",
        f"{two_contexts}: Context 'aliev' not found; {hint}",
        *["--context alive: there is no kubeconfig to take it from; use --kubeconfig to name one"] * 2,
    ]


def test_without_a_context_the_current_one_counts(kubectl: Kubectl, two_contexts: Path) -> None:
    """It leads nowhere here, and that is said."""
    done = kubectl("podidentity", "explain", "web", f"--kubeconfig={two_contexts}")
    assert done.code == 1
    assert "cannot be read" in done.err


def test_kubectl_completes_the_plugin(kubectl: Kubectl) -> None:
    """Commands, options and values, as kubectl's own completion asks for them."""
    for typed, wanted in (
        (("expl",), "explain\t"),
        (("roles", "plan", "--walk"), "--walkthrough\t"),
        (("roles", "plan", "--output", "ter"), "terraform"),
    ):
        done = kubectl("__complete", "podidentity", *typed)
        lines = done.out.splitlines()
        assert lines[0].startswith(wanted), done
        assert lines[1] == ":4"
