"""The judge of the agent's fault table finds what it is there for."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults.nmi.judge import judge
from tests.faults.nmi.load import Heard, Reader


def heard(at: float, gap: float = 0.1, last: float = 0, **tokens: int) -> Heard:
    """A line of a pod."""
    return Heard(at - 0.2, at, tokens, {}, gap, last or at)


@pytest.mark.parametrize(
    ("right", "tokens", "wrong"),
    [("a", {"a": 3}, 0), ("a", {"a": 3, "b": 2}, 2), ("", {"a": 3}, 3), ("a", {"expired": 1}, 1), ("", {}, 0)],
)
def test_a_token_of_another_identity_is_wrong(right: str, tokens: dict[str, int], wrong: int) -> None:
    """Another's token, any token of a pod without right, and one that is over are wrong."""
    found = judge({"p": [heard(10, **tokens)]}, {"p": right}, 9, 10)
    assert sum(found.wrong.values()) == wrong
    assert found.tokens == sum(tokens.values())


def test_a_gap_is_seen_when_it_ends_and_while_it_lasts() -> None:
    """The longest time without a token counts within the window only, and up to its end."""
    lines = [heard(10, gap=8, last=10, a=1), heard(15, gap=3, last=15, a=1)]
    assert judge({"p": lines}, {"p": "a"}, 9, 15).gap == 3
    assert judge({"p": lines}, {"p": "a"}, 9, 22).gap == 7
    assert judge({"p": []}, {"p": "a"}, 9, 22).gap == 13
    assert judge({"p": []}, {"p": ""}, 9, 22).gap == 0


def test_lines_are_read_once_and_whole(tmp_path: Path) -> None:
    """A line that is being written is read when it is whole."""
    path = tmp_path / "heard"
    reader = Reader(path)
    assert reader.read() == []
    line = b'{"since":1,"at":2,"tokens":{"a":1},"other":{"503":2},"gap":0.5,"last":2}\n'
    path.write_bytes(line + line[:20])
    assert [one.tokens for one in reader.read()] == [{"a": 1}]
    path.write_bytes(line * 2)
    assert [one.other for one in reader.read()] == [{"503": 2}]
    assert reader.read() == []
