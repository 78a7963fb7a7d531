"""Directories that change at once, container logs, volumes' own rules."""

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podidentity.lab.node.atomic import path_problem, write_directory
from podidentity.lab.node.expand import UnresolvedError
from podidentity.lab.node.logs import MAX_LINE, LogFile, LogQuery, joined, parse, seconds
from podidentity.lab.node.objects import HostPathVolume, KeyToPath
from podidentity.lab.node.server import log_query
from podidentity.lab.node.volumes import chosen, prepare_host_path


def shown(directory: Path) -> dict[str, bytes]:
    """What a pod sees of a volume: no name that starts with two dots."""
    names = sorted(item.name for item in directory.iterdir() if not item.name.startswith(".."))
    found = {}
    for name in names:
        top = directory / name
        for path in sorted(top.resolve().rglob("*")) if top.is_dir() else [top]:
            if path.is_file():
                inside = name if path == top else f"{name}/{path.relative_to(top.resolve())}"
                found[inside] = path.read_bytes()
    return found


def test_a_directory_changes_at_once_and_only_when_it_must(tmp_path: Path) -> None:
    """Protects readers of rotated secrets: names stay, contents change behind one rename, leftovers go."""
    assert write_directory(tmp_path, {"a": (b"1", 0o600), "sub/b": (b"2", 0o644)})
    before = (tmp_path / "..data").readlink()
    assert shown(tmp_path) == {"a": b"1", "sub/b": b"2"}
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert not write_directory(tmp_path, {"a": (b"1", 0o600), "sub/b": (b"2", 0o644)})
    assert (tmp_path / "..data").readlink() == before
    with (tmp_path / "a").open("rb") as old:
        assert write_directory(tmp_path, {"a": (b"3", 0o600), "c": (b"4", 0o644)})
        assert old.read() == b"1"
    assert shown(tmp_path) == {"a": b"3", "c": b"4"}
    assert write_directory(tmp_path, {"a": (b"3", 0o640), "c": (b"4", 0o644)})
    assert len(list(tmp_path.glob("..*"))) == 2
    assert write_directory(tmp_path, {})
    assert shown(tmp_path) == {}


@given(st.text(min_size=1, max_size=40))
def test_no_path_leaves_its_directory(path: str) -> None:
    """Protects the node from a Secret's key or a provider's file name."""
    if not path_problem(path):
        parts = path.split("/")
        assert ".." not in parts
        assert "" not in parts
        assert not path.startswith("..")


def test_a_bad_path_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    """Protects against half a volume."""
    write_directory(tmp_path, {"a": (b"1", 0o600)})
    with pytest.raises(ValueError, match="must not contain"):
        write_directory(tmp_path, {"a": (b"2", 0o600), "../x": (b"", 0o600)})
    assert shown(tmp_path) == {"a": b"1"}


def test_items_choose_keys() -> None:
    """Protects ``items``: names, modes, and a key that is not there."""
    data = {"a": b"1", "b": b"2"}
    items = (KeyToPath(key="a", path="x/y"), KeyToPath(key="b", path="z", mode=0))
    assert chosen(data, (), 0o644, optional=False) == {"a": (b"1", 0o644), "b": (b"2", 0o644)}
    assert chosen(data, items, 0o400, optional=False) == {"x/y": (b"1", 0o400), "z": (b"2", 0)}
    missing = (KeyToPath(key="no", path="x"),)
    assert chosen(data, missing, 0o400, optional=True) == {}
    with pytest.raises(UnresolvedError, match="references non-existent key: no"):
        chosen(data, missing, 0o400, optional=False)


def test_host_paths_are_checked_by_their_type(tmp_path: Path) -> None:
    """Protects each hostPath type: what it makes, what it refuses."""
    folder, file = tmp_path / "d/e", tmp_path / "f"
    prepare_host_path(HostPathVolume(path=str(folder), type="DirectoryOrCreate"))
    prepare_host_path(HostPathVolume(path=str(file), type="FileOrCreate"))
    prepare_host_path(HostPathVolume(path=str(file), type="File"))
    prepare_host_path(HostPathVolume(path=str(file)))
    assert folder.is_dir()
    assert file.is_file()
    refused = [
        (str(file), "Directory"),
        (str(folder), "FileOrCreate"),
        (str(folder), "Socket"),
        (str(tmp_path / "no"), "File"),
        (str(tmp_path / "no/no"), "FileOrCreate"),
    ]
    for path, kind in refused:
        with pytest.raises(UnresolvedError, match="hostPath type check failed"):
            prepare_host_path(HostPathVolume(path=path, type=kind))
    with pytest.raises(UnresolvedError, match="unknown"):
        prepare_host_path(HostPathVolume(path=str(file), type="Odd"))


async def collect(chunks: AsyncIterator[bytes]) -> bytes:
    """All of a log."""
    return b"".join([chunk async for chunk in chunks])


async def test_a_log_is_written_and_read_back(tmp_path: Path) -> None:
    """Protects long lines, the last line without an end, both streams, and what is asked for."""
    now = 1_000_000.25
    log = LogFile(tmp_path / "x/0.log", lambda: now)
    reader = asyncio.StreamReader(limit=MAX_LINE)
    long = b"x" * (3 * MAX_LINE + 5)
    reader.feed_data(b"first\n" + long + b"\nno end")
    reader.feed_eof()
    await log.pump("stdout", reader)
    log.write("stderr", b"err")
    assert await collect(log.read(LogQuery())) == b"first\n" + long + b"\nno end\nerr\n"
    assert await collect(log.read(LogQuery(tail=1, timestamps=True))) == b"1970-01-12T13:46:40.250000000Z err\n"
    assert await collect(log.read(LogQuery(since=now + 1))) == b""
    assert await collect(log.read(LogQuery(limit_bytes=3))) == b"fir"
    assert await collect(log.read(LogQuery(tail=0))) == b""
    log.close()
    log.write("stdout", b"after the end")
    assert await collect(log.read(LogQuery(follow=True, tail=1))) == b"err\n"


async def test_a_follower_gets_lines_as_they_come_and_the_end(tmp_path: Path) -> None:
    """Protects ``kubectl logs -f``: nothing twice, nothing lost, an end when the container ends."""
    log = LogFile(tmp_path / "0.log", lambda: 0.0)
    log.write("stdout", b"1")
    follower = asyncio.create_task(collect(log.read(LogQuery(follow=True))))
    for n in range(2, 50):
        log.write("stdout", str(n).encode())
        await asyncio.sleep(0)
    log.close()
    async with asyncio.timeout(2):
        assert (await follower).split() == [str(n).encode() for n in range(1, 50)]


@given(st.binary(max_size=60).filter(lambda line: b"\n" not in line))
def test_no_line_breaks_the_parser(line: bytes) -> None:
    """Protects against a log file that was cut by a crash."""
    record = parse(line)
    assert record is None or line.endswith(record.text)


def test_partial_records_make_one_line() -> None:
    """Protects the joining of records, and a partial one at the end."""
    records = [parse(text) for text in (b"T1 stdout P ab", b"T2 stdout F cd", b"T3 stdout P e")]
    assert list(joined(item for item in records if item)) == [("T1", b"abcd\n"), ("T3", b"e")]


def test_times_are_read() -> None:
    """Protects --since-time: with and without a fraction; nonsense is the beginning of time."""
    assert seconds("1970-01-01T00:00:01Z") == 1
    assert seconds("1970-01-01T00:00:01.500000000Z") == 1.5
    assert seconds("yesterday") == 0


def test_log_options_are_read() -> None:
    """Protects the query of the API server, its own words and refusals."""
    from multidict import MultiDict  # noqa: PLC0415 - for this test only

    asked = log_query(MultiDict(tailLines="5", sinceSeconds="10", follow="true", timestamps="1"), 100.0)
    assert asked == LogQuery(tail=5, since=90.0, timestamps=True, follow=True)
    assert log_query(MultiDict(sinceTime="1970-01-01T00:00:01Z", limitBytes="3"), 0).since == 1
    for bad in ({"tailLines": "-1"}, {"limitBytes": "x"}):
        with pytest.raises(ValueError, match=r"negative|invalid literal"):
            log_query(MultiDict(bad), 0)
