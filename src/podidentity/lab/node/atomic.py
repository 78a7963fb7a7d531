"""Directories of files that change all at once, laid out as kubelet does: names lead through ``..data``."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

_DATA: Final = "..data"
_MAX_COMPONENT: Final = 255
_MAX_PATH: Final = 4096

Files = Mapping[str, tuple[bytes, int]]
"""Contents and mode by relative path."""


def path_problem(path: str) -> str:
    """Why ``path`` must not be written below a volume, empty when it may."""
    parts = path.split("/")
    rules = (
        (not path, "file path must not be empty"),
        (path.startswith("/"), "file path must be relative"),
        (len(path) > _MAX_PATH, f"file path must not be longer than {_MAX_PATH} characters"),
        (".." in parts or path.startswith(".."), "file path must not contain '..'"),
        (any(part in {"", "."} for part in parts), "file path must be clean"),
        (any(len(part) > _MAX_COMPONENT for part in parts), f"file name must not be longer than {_MAX_COMPONENT}"),
        ("\0" in path, "file path must not contain a NUL"),
    )
    return next((text for broken, text in rules if broken), "")


def _current(directory: Path) -> dict[str, tuple[bytes, int]]:
    data = directory / _DATA
    found = {}
    for item in data.rglob("*") if data.is_dir() else ():
        if item.is_file():
            found[item.relative_to(data).as_posix()] = (item.read_bytes(), item.stat().st_mode & 0o7777)
    return found


def write_directory(directory: Path, files: Files) -> bool:
    """Make ``directory`` hold exactly ``files``; a reader sees the old set or the new one. False: nothing changed.

    Raises ValueError for a path that leaves the directory, OSError when it cannot be written.
    """
    for path in files:
        problem = path_problem(path)
        if problem:
            raise ValueError(f"{path!r}: {problem}")
    link = directory / _DATA
    if link.is_symlink() and _current(directory) == dict(files):
        return False
    fresh = Path(tempfile.mkdtemp(prefix="..", dir=directory))
    fresh.chmod(0o755)
    for path, (contents, mode) in files.items():
        target = fresh / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(contents)
        target.chmod(mode)
    old = directory / link.readlink() if link.is_symlink() else None
    staged = directory / "..data_tmp"
    staged.unlink(missing_ok=True)
    staged.symlink_to(fresh.name)
    staged.rename(link)
    _show(directory, {PurePosixPath(path).parts[0] for path in files})
    if old is not None:
        shutil.rmtree(old)
    return True


def _show(directory: Path, names: set[str]) -> None:
    """Top-level names as links through ``..data``; those no longer wanted go."""
    present = {entry.name for entry in os.scandir(directory) if not entry.name.startswith("..")}
    for name in names - present:
        (directory / name).symlink_to(f"{_DATA}/{name}")
    for name in present - names:
        (directory / name).unlink()
