"""The steps of the Dockerfile, run into a directory, and each image's program started from it as a manifest does."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.image.conftest import build_root
from tests.image.container import Container
from tests.image.dockerfile import ROOT, entry_point, search_path, user
from tests.image.test_dockerfile import containers

import podidentity

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
MACHINES = {"amd64": 0x3E, "arm64": 0xB7}
"""Architecture to the machine number in an ELF header."""


def manifest(file: str, target: str) -> tuple[list[str], list[str]]:
    """The arguments and the added capabilities of the target's container in that manifest."""
    (one,) = [one for where, one in containers(target) if where == file]
    return list(one["args"]), list(one["securityContext"]["capabilities"].get("add", []))


@pytest.mark.parametrize("target", ["mic", "nmi"])
def test_the_version_as_anybody(container: Container, target: str) -> None:
    """The image's own user, with no capability and nothing to write to, can start the program."""
    number = int(user(target).partition(":")[0])
    code, out, err = container.run([*entry_point(target), "--version"], user=number)
    assert (code, err) == (0, "")
    assert f"{target.upper()} Version: {podidentity.__version__} " in out


def test_mic_takes_its_manifests_arguments(container: Container) -> None:
    """Started outside a cluster it gets as far as looking for one, and says so in one line, without a trace."""
    (one,) = [one for where, one in containers("mic") if where == "deployment-rbac.yaml"]
    code, _, err = container.run([*entry_point("mic"), *list(one["args"])])
    assert code == 1
    assert err.splitlines()[-1].startswith("podidentity mic: not in a cluster: ")
    assert "Traceback" not in err


def test_csi_provider_serves_without_a_capability(container: Container) -> None:
    """Root in a read-only root: it makes its socket in the mounted folder, answers the probe and ends well."""
    args, capabilities = manifest("csi-provider.yaml", "csi-provider")
    assert capabilities == []
    code, out, err = container.run([*entry_point("csi-provider"), *args], url="http://127.0.0.1:8989/healthz")
    assert out.splitlines() == ["answered 200", "azure.sock"], err
    assert code == 0


def test_nmi_clears_a_node_with_the_manifests_capabilities(container: Container) -> None:
    """The three capabilities are enough for the real packet filter, and the probe's path answers."""
    if not shutil.which("nft", path=search_path()):
        pytest.skip("needs nft where the image has it: install nftables")
    args, capabilities = manifest("nmi-cleanup.yaml", "nmi")
    words = [*entry_point("nmi"), *args]
    code, out, err = container.run(words, capabilities=capabilities, url="http://127.0.0.1:8085/removed")
    assert out.splitlines()[0] == "answered 200", err
    assert code == 0


def test_exec_probes_find_the_module(container: Container) -> None:
    """The probe that deploy/nmi-surge-patch.yaml runs is one of the image's python3, isolated as it is."""
    patch = yaml.safe_load((ROOT / "deploy/nmi-surge-patch.yaml").read_text())
    (one,) = patch["spec"]["template"]["spec"]["containers"]
    python, *words = one["livenessProbe"]["exec"]["command"]
    code, out, err = container.run([f"/opt/podidentity/bin/{python}", *words])
    assert (code, err) == (1, "")
    assert out == "/tmp/nmi-probe.sock: [Errno 2] No such file or directory\n"


def test_the_other_architecture(tmp_path: Path) -> None:
    """Every package has a wheel for it under the lock's hashes, and nothing of another machine gets in."""
    architecture = "arm64" if platform.machine() == "x86_64" else "amd64"
    build_root(tmp_path, architecture)
    programs = list(tmp_path.rglob("*.so"))
    assert len(programs) > 20
    for path in programs:
        with path.open("rb") as file:
            header = file.read(20)
        assert int.from_bytes(header[18:20], "little") == MACHINES[architecture], path


def test_the_same_steps_give_the_same_files(container: Container, tmp_path: Path) -> None:
    """The wheel, the packages and what is compiled do not depend on when and where an image is built."""
    again = build_root(tmp_path / "elsewhere")
    done = subprocess.run(["diff", "-r", container.files, again], capture_output=True, text=True, check=False)
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "usage: build-root PYTHON ROOT [amd64|arm64]"),
        (
            ("python3", "/nonexistent/x", "s390x"),
            2,
            "build-root: 's390x' is no architecture of the images; say amd64 or arm64",
        ),
    ],
)
def test_wrong_words(words: tuple[str, ...], code: int, said: str) -> None:
    """One line, and nothing is made."""
    done = subprocess.run(["sh", ROOT / "tools/image/build-root", *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, f"{said}\n")
