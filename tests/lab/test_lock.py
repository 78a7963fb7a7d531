"""Who holds a lab's directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podidentity.config.errors import ConfigError
from podidentity.lab.lock import exclusive, holder


def test_the_holder_is_known_while_it_holds(tmp_path: Path) -> None:
    """`lab down` and `lab status` find the process of a lab, and none where none runs."""
    lock = tmp_path / "lab.lock"
    assert holder(lock) is None
    with exclusive(lock, tmp_path):
        assert holder(lock) == os.getpid()
        with pytest.raises(ConfigError, match=rf"a lab runs there already \(process {os.getpid()}\); "):
            exclusive(lock, tmp_path).__enter__()
    assert holder(lock) is None


def test_somebody_elses_lab_is_not_called_absent() -> None:
    """A lock that may not be opened (here a file that the kernel opens for nobody to write) is told of."""
    lock = Path("/sys/kernel/notes")
    with pytest.raises(ConfigError, match=rf"{lock}: cannot be read \(.*\); name a directory you own"):
        holder(lock)
