"""Go's durations."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podidentity.config.duration import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("-0", 0),
        ("5s", 5),
        ("+5s", 5),
        ("-1.5h", -5400),
        ("1h2m3.5s", 3723.5),
        ("100ms", 0.1),
        ("7us", 7e-6),
        ("7µs", 7e-6),
        ("7μs", 7e-6),
        ("9ns", 9e-9),
        (".5s", 0.5),
        ("1.s", 1),
        ("3m3m", 360),
    ],
)
def test_reads_what_go_reads(text: str, seconds: float) -> None:
    """Durations in manifests of the original mean the same here."""
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is not a duration"),
        ("-", "is not a duration"),
        ("s", "is not a duration"),
        (".", "is not a duration"),
        ("abc", "is not a duration"),
        ("5s ", "unknown unit"),
        ("5", "has no unit, write for example 5s"),
        ("1m30", "has no unit, write for example 30s"),
        ("5d", 'has the unknown unit "d"'),
        ("5S", "unknown unit"),
        ("--5s", "is not a duration"),
        ("1..5s", "has no unit"),
        ("٣s", "is not a duration"),
        ("9999999999h", "is too long"),
    ],
)
def test_refuses_what_go_refuses(text: str, fault: str) -> None:
    """A wrong duration is an error that says how to write it, never a guess."""
    with pytest.raises(ValueError, match=fault):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (3600, "1h0m0s"),
        (180, "3m0s"),
        (1.5, "1.5s"),
        (0.1, "100ms"),
        (0.0000015, "1.5µs"),
        (9e-9, "9ns"),
        (-90, "-1m30s"),
        (1e-12, "0s"),
    ],
)
def test_writes_as_go_does(seconds: float, text: str) -> None:
    """Defaults in the usage text look as in the original's."""
    assert format_duration(seconds) == text


@given(st.integers(-(2**52), 2**52))
def test_what_is_written_reads_back(nanoseconds: int) -> None:
    """Writing and reading a duration loses nothing that a float can hold."""
    seconds = nanoseconds / 1e9
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-9)


@given(st.text(alphabet="0123456789.hmsuµn+-x", max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text does anything but give seconds or a ValueError."""
    with contextlib.suppress(ValueError):
        assert abs(parse_duration(text)) < 2**63 / 1e9 + 1
