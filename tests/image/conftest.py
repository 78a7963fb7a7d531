"""The image's files, made once by the Dockerfile's own step, and the release's, made once from the last commit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.image.container import Container
from tests.image.dockerfile import ROOT

NO_NETWORK = "could not be installed"


def build_root(folder: Path, *words: str) -> Path:
    """Run the Dockerfile's step into a directory; skips the test where packages cannot be fetched."""
    done = subprocess.run(
        ["sh", ROOT / "tools/image/build-root", sys.executable, folder, *words],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    if NO_NETWORK in done.stderr:
        pytest.skip(done.stderr)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.fixture(scope="session")
def container(tmp_path_factory: pytest.TempPathFactory) -> Container:
    """The image's files, to be started as its manifests start them."""
    return Container(build_root(tmp_path_factory.mktemp("image")))


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``make dist`` leaves."""
    folder = tmp_path_factory.mktemp("release") / "dist"
    done = subprocess.run(
        ["sh", ROOT / "tools/dist", sys.prefix, folder], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder
