"""The commands that README and docs print are typed here, as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """Every page a person reads."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def commands(page: Path) -> list[str]:
    """The lines after ``$`` in a page's console blocks, without their trailing remarks."""
    lines = [line for block in BLOCK.findall(page.read_text()) for line in block.splitlines()]
    return [re.sub(r"\s+#\s.*", "", line[2:]) for line in lines if line.startswith("$ ")]


def documented() -> list[object]:
    """Pages that have commands; those that need a cluster are typed in ``tests/deploy``."""
    found = [page for page in pages() if commands(page) and not needs_cluster(page)]
    return [pytest.param(page, id=str(page.relative_to(ROOT)), marks=pytest.mark.e2e) for page in found]


def needs_cluster(page: Path) -> bool:
    """Whether a page talks to a cluster that is there already: it has kubectl commands and starts no lab."""
    typed = commands(page)
    lab = any("podidentity lab" in command or command.startswith("make demo") for command in typed)
    return not lab and any(command.startswith("kubectl ") for command in typed)


def test_readme_opens_with_the_two_commands() -> None:
    """A newcomer finds `make demo` and `make test` before anything else."""
    assert commands(ROOT / "README.md")[:2] == ["make demo", "make test"]
    assert (ROOT / "README.md").read_text().index("make demo") < 200


@pytest.mark.parametrize("page", documented())
def test_a_pages_commands_work_in_their_order(page: Path, tmp_path: Path) -> None:
    """What a page tells people to type succeeds, in one shell, from top to bottom; `make` goals must exist."""
    script = ["set -e", *(re.sub(r"^make ", "make -n ", command) for command in commands(page))]
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "XDG_STATE_HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT / "src"),
    }
    try:
        done = subprocess.run(
            ["bash", "-c", "\n".join(script)],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
    finally:
        subprocess.run(
            [sys.executable, "-m", "podidentity", "lab", "down"],
            env=environ,
            capture_output=True,
            timeout=30,
            check=False,
        )
    if "refuses" in done.stderr or "`make kube-assets` in a checkout builds it" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr + done.stdout


def test_links_between_pages_lead_somewhere() -> None:
    """No page links to a file that is not there."""
    for page in pages():
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
