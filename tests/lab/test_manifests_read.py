"""What ``podidentity lab apply`` takes as a manifest, and in which words it refuses the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from podidentity.config.errors import ConfigError
from podidentity.lab.access import MAX_MANIFEST, read_documents


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a" * (MAX_MANIFEST + 1), "larger than 4 MiB"),
        (b"a: &x [1]\nb: [*x, *x]\n", "aliases"),
        (b"\xff\xfe\x00binary", "not YAML"),
        (b"a: [1\n", "not YAML"),
        (b"kind: Pod\n", "object 1 has no apiVersion, kind or metadata.name"),
        (b"- 1\n", "object 1 has no"),
    ],
    ids=["huge", "aliases", "binary", "broken", "half", "list"],
)
def test_what_is_no_manifest_is_refused_in_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    """A wrong file costs neither memory nor a traceback."""
    path = tmp_path / "manifest.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        read_documents(path)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["missing.yaml", ""])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    """Missing files and directories are told by the system's own words."""
    with pytest.raises(ConfigError, match=str(tmp_path)):
        read_documents(tmp_path / name)
