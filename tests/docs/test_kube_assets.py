"""What `make kube-assets` takes from the machine and what it asks for; nothing is really built."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

BUILD = Path(__file__).resolve().parents[2] / "tools" / "kube-assets" / "build"
WORDS = [
    "sh",
    "awk",
    "sha256sum",
    "cut",
    "cat",
    "ls",
    "dirname",
    "mkdir",
    "grep",
    "sort",
    "tail",
    "head",
    "date",
    "du",
    "sed",
    "flock",
    "ln",
    "rm",
    "mv",
    "id",
]
VERSIONS = {
    "etcd": "etcd Version: 3.6.5",
    "kube-apiserver": "Kubernetes v1.34.4",
    "kube-controller-manager": "Kubernetes v1.34.4",
    "kubectl": "Client Version: v1.34.1",
    "helm": "v3.19.2+g8766e71",
}


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder for PATH with what a shell script needs and no Go."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for word in WORDS:
        found = shutil.which(word)
        assert found, f"{word} is missing on this machine"
        (folder / word).symlink_to(found)
    return folder


def program(folder: Path, name: str, says: str) -> None:
    """A program that says that version of itself."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho '{says}'\n")
    (folder / name).chmod(0o755)


def build(path: Path, *words: str, **environ: str) -> tuple[int, str, str]:
    """Exit code and output of the script with that PATH."""
    done = subprocess.run(
        [str(path / "sh"), str(BUILD), *words],
        env={"PATH": str(path), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_an_unknown_minor_names_the_known(machine: Path, tmp_path: Path) -> None:
    """A minor without a module is one line that says which there are, and nothing is made."""
    code, _, text = build(machine, str(tmp_path / "out"), "1.2")
    assert code == 1
    assert text == "make kube-assets: KUBE_MINOR=1.2: there is no module for it; say one of: 1.34 1.37\n"
    assert not (tmp_path / "out").exists()


def test_without_go_it_says_so(machine: Path, tmp_path: Path) -> None:
    """A machine without Go gets one line with the version to install and the way around it."""
    code, _, text = build(machine, str(tmp_path / "out"), "1.34")
    assert code == 1
    assert text.startswith("make kube-assets: etcd has to be built and there is no 'go' on PATH; install Go 1.24")
    assert text.endswith("or set KUBEBUILDER_ASSETS to a folder that has it\n")


@pytest.mark.parametrize("where", ["KUBEBUILDER_ASSETS", "PATH"])
def test_programs_of_the_right_version_are_used(machine: Path, tmp_path: Path, where: str) -> None:
    """What KUBEBUILDER_ASSETS or PATH has is not built again: it is linked to and named."""
    folder = tmp_path / "assets" if where == "KUBEBUILDER_ASSETS" else machine
    for name, says in VERSIONS.items():
        program(folder, name, says)
    code, text, errors = build(machine, str(tmp_path / "out"), "1.34", KUBEBUILDER_ASSETS=str(tmp_path / "assets"))
    assert (code, errors) == (0, "")
    for name in VERSIONS:
        assert f"from {folder / name}" in text
        assert (tmp_path / "out" / name).readlink() == folder / name


def test_a_program_of_another_version_is_not_used(machine: Path, tmp_path: Path) -> None:
    """A system's kubectl of another minor would test something else than it says: it is built instead."""
    for name, says in VERSIONS.items():
        program(machine, name, says.replace("v1.34.1", "v1.20.2"))
    code, text, errors = build(machine, str(tmp_path / "out"), "1.34")
    assert code == 1
    assert "kube-controller-manager" in text
    assert errors.startswith("make kube-assets: kubectl has to be built and there is no 'go' on PATH")
    assert not (tmp_path / "out" / "kubectl").exists()
