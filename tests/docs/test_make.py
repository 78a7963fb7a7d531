"""What `make` answers when something is not as it expects; no environment is really set up."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def make(*words: str, **environ: str) -> tuple[int, str]:
    """Exit code of `make WORDS` and what it wrote to stderr."""
    done = subprocess.run(
        ["make", *words],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def not_a_python(folder: Path) -> str:
    """A program that is no Python."""
    path = folder / "python"
    path.write_text("#!/bin/sh\nexit 1\n")
    path.chmod(0o755)
    return str(path)


def test_a_cache_path_with_spaces_is_refused(tmp_path: Path) -> None:
    """Make splits such a path: nothing is set up, and above all nothing removed, in the half of it."""
    victim = tmp_path / "Jane"
    victim.mkdir()
    (victim / "thesis.tex").touch()
    for environ in ({"XDG_CACHE_HOME": f"{victim} Doe"}, {"HOME": f"{victim} Doe"}):
        code, text = make("demo", **environ)
        assert code == 2
        assert "set XDG_CACHE_HOME to a path without" in text
    assert [entry.name for entry in victim.iterdir()] == ["thesis.tex"]


def test_a_wrong_python_is_named(tmp_path: Path) -> None:
    """PYTHON that is missing or no Python is one line, is not replaced by another, and leaves nothing."""
    cache = tmp_path / "cache"
    wrong = not_a_python(tmp_path)
    code, text = make("demo", f"PYTHON={wrong}", XDG_CACHE_HOME=str(cache))
    assert (code, text.splitlines()[0][:30]) == (2, f"make: '{wrong}' is not Python 3.11"[:30])
    code, text = make("demo", "PYTHON=nonexistent", XDG_CACHE_HOME=str(cache))
    assert code == 2
    assert text.startswith("make: there is no 'nonexistent' on PATH; ")
    assert not cache.exists()


@pytest.mark.parametrize("place", ["relative/run-1", "/", "/tmp", "/tmp/other"])
def test_an_environment_is_only_made_where_make_puts_them(place: str) -> None:
    """The script removes the directory it fills: it takes only names that are an environment's."""
    done = subprocess.run(
        ["sh", "tools/make-env", "python3", place, "requirements.lock"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"make: '{place}' is no place for an environment")


def test_what_is_no_environment_is_not_replaced(tmp_path: Path) -> None:
    """A directory of that name that make did not fill stays as it is."""
    place = tmp_path / "run-1"
    place.mkdir()
    (place / "precious").touch()
    python = shutil.which("python3.11") or "python3"
    done = subprocess.run(
        ["sh", "tools/make-env", python, str(place), "requirements.lock"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"make: {place} exists and is no environment; remove it"
    assert (place / "precious").exists()


def test_clean_removes_this_checkouts_environments_only(tmp_path: Path) -> None:
    """Two clones share a cache folder: cleaning one leaves the other's and everything else."""
    done = subprocess.run(
        ["make", "-n", "clean"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    removed = [word for word in done.stdout.splitlines()[0].split() if str(tmp_path) in word]
    assert removed
    assert all(f"'{tmp_path}/podidentity'/" in word and ("/run-*-" in word or "/dev-*-" in word) for word in removed)
