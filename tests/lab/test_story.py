"""How the demo's story looks."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from podidentity.lab.story import Story, with_time


@pytest.mark.parametrize("width", [30, 40, 80, 200])
def test_time_stands_at_the_right_edge(width: int) -> None:
    """However wide the terminal is, no line is wider, and the time ends the last one."""
    lines = with_time("Each node is a network namespace of its own; no route leads out.", "2.5 s", width)
    assert max(map(len, lines)) == len(lines[-1]) == width
    assert lines[-1].endswith("  2.5 s")
    assert all(line.startswith("   ") for line in lines)


def test_a_sentence_without_room_keeps_its_time() -> None:
    """A terminal too narrow for anything still gets sentence and time."""
    lines = with_time("short enough sentence", "12.0 s", 5)
    assert lines == ["   short enough sentence  12.0 s"]


def told(width: int = 40) -> str:
    """Everything a story prints, as a pipe gets it."""
    stream = io.StringIO()
    story = Story(Console(file=stream, width=width, force_terminal=False))
    story.step("A title that is much longer than forty columns are wide, [not markup]")
    with story.waiting("something that is not shown"):
        story.typed("kubectl get pods [-A] --with-many-words-that-are-longer-than-the-line")
    story.answered("line 1\nline 2\nline 3\n", limit=2)
    story.claim("one holds", holds=True, evidence="[x]")
    story.claim("one does not", holds=False)
    story.summary()
    return stream.getvalue()


def test_what_is_there_to_be_copied_is_not_broken() -> None:
    """Titles, commands and answers are one line each, in any width, and brackets in them are no markup."""
    lines = told().splitlines()
    assert "1. A title that is much longer than forty columns are wide, [not markup]" in lines
    assert "   $ kubectl get pods [-A] --with-many-words-that-are-longer-than-the-line" in lines
    assert "     ... 1 more lines" in lines
    assert "not shown" not in told()


def test_the_last_lines_say_what_held() -> None:
    """Each claim has its mark and its evidence; a false one is never summed up as success."""
    text = told()
    assert "   yes  one holds ([x])\n   NO   one does not\n" in text
    assert "All of it" not in text


def test_a_silent_story_remembers() -> None:
    """Without a console nothing is printed and the claims are kept."""
    story = Story(None)
    story.step("x")
    story.why("y")
    story.claim("holds", holds=True)
    assert story.proved
    assert not Story(None).proved
