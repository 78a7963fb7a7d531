"""What a lab does with a directory before and after it runs."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from podidentity.config.errors import ConfigError
from podidentity.lab.layout import OWN, Layout
from podidentity.lab.outer import Wish, prepared, remove_directory, running_lab
from podidentity.lab.spec import load_spec, new_spec, save_spec


def test_what_is_not_the_labs_is_never_removed(tmp_path: Path) -> None:
    """Removing a lab leaves files that a person put beside it, and then the directory too."""
    layout = prepared(Wish(tmp_path / "lab"))
    (layout.pki / "ca.crt").write_text("x")
    (layout.root / "thesis.tex").write_text("years of work")
    remove_directory(layout)
    assert [entry.name for entry in layout.root.iterdir()] == ["thesis.tex"]


def test_removing_a_lab_leaves_nothing_of_it(tmp_path: Path) -> None:
    """Without foreign files the directory goes as well, also when its sockets are elsewhere; twice is no error."""
    for root in (tmp_path / "lab", tmp_path / ("x" * 120)):
        layout = prepared(Wish(root))
        (layout.root / "lab.json").write_text("{}")
        remove_directory(layout)
        remove_directory(layout)
        assert not layout.root.exists()
        assert not layout.run.exists()


def test_a_directory_in_use_for_something_else_is_refused(tmp_path: Path) -> None:
    """A lab is not spread between somebody's files: `--dir ~` is one line, and nothing is made there."""
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"'notes\.txt' in it is not a lab's; name a new or empty directory"):
        prepared(Wish(tmp_path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    """--dir with the name of a file says so."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="it is a file; name a directory"):
        prepared(Wish(tmp_path / "file"))


def test_an_old_lab_is_taken_up(tmp_path: Path) -> None:
    """Everything a lab makes is known as its own, and a file that somebody put beside it does not lock it up."""
    layout = prepared(Wish(tmp_path / "lab"))
    for name in OWN:
        if not (layout.root / name).exists():
            (layout.root / name).touch()
    save_spec(layout.spec, new_spec(node_count=1, network="bridge", port=1))
    assert prepared(Wish(tmp_path / "lab")) == layout
    (layout.root / "notes.txt").touch()
    assert prepared(Wish(tmp_path / "lab")) == layout


async def test_a_busy_port_leaves_nothing(tmp_path: Path) -> None:
    """A lab that could not begin leaves no directory behind, and says which port it was."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} "):
            async with running_lab(Wish(tmp_path / "lab", port=port)):
                raise AssertionError
    assert not Layout(tmp_path / "lab").root.exists()


def test_a_full_disk_keeps_the_labs_description(tmp_path: Path) -> None:
    """A resumed lab writes its description anew: when that fails, the old one is still whole."""
    path = tmp_path / "lab.json"
    save_spec(path, old := new_spec(node_count=1, network="bridge", port=1))
    (tmp_path / "lab.json.new").mkdir()  # stands for whatever makes the write fail
    with pytest.raises(OSError, match=r"lab\.json\.new"):
        save_spec(path, new_spec(node_count=2, network="bridge", port=2))
    assert load_spec(path) == old
