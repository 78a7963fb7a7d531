"""One log line as text and as JSON."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podidentity.config.redact import SecretText
from podidentity.telemetry.render import Line, json_line, text_line


def line(message: str = "started", severity: str = "info", stack: str = "", **context: object) -> Line:
    """Give a line of a fixed moment and place."""
    return Line(severity, 0, 1612664554.336491, 1, "/x/mic/mic.py", 400, message, context, stack)


def test_text_is_klogs_format() -> None:
    """Severity, local date and time to the microsecond, pid in seven places, file and line: as grep expects them."""
    stamp = time.strftime("%m%d %H:%M:%S", time.localtime(1612664554))
    assert text_line(line()) == f"I{stamp}.336491       1 mic.py:400] started\n"


@pytest.mark.parametrize(("severity", "letter"), [("info", "I"), ("warning", "W"), ("error", "E"), ("fatal", "F")])
def test_severities_are_the_first_letter(severity: str, letter: str) -> None:
    """``grep ^E`` finds the errors and nothing else."""
    assert text_line(line(severity=severity))[0] == letter


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("word", "word"),
        ("default/pod-1", "default/pod-1"),
        ("two words", '"two words"'),
        ("", '""'),
        ("a=b", '"a=b"'),
        ('say "x"', r'"say \"x\""'),
        ("a\nE1123 forged", r'"a\nE1123 forged"'),
        ("a\x1b[31m", r'"a\u001b[31m"'),
        ("a\u2028b", r'"a\u2028b"'),
        ("a\ud800", r'"a\ud800"'),
        ("grün", "grün"),
        (5, "5"),
        (0.5, "0.5"),
        (True, "true"),
        (None, "null"),
        (["a"], "['a']"),
        (ValueError("it broke"), '"it broke"'),
        (ValueError(), "ValueError"),
        (SecretText("hunter2"), '"##### REDACTED #####"'),
        ({"deep": SecretText("hunter2")}, "\"{'deep': ##### REDACTED #####}\""),
    ],
)
def test_text_values(value: object, text: str) -> None:
    """Words are bare, all else is quoted and escaped, errors say their message, secrets nothing."""
    assert text_line(line(k=value)).endswith(f"] started k={text}\n")


def test_json_has_the_originals_keys_in_order() -> None:
    """Ts in milliseconds, caller with its folder, msg with its newline, v, then the context."""
    written = json_line(line(pod="a/b", n=1, why=None))
    assert written.endswith("}\n")
    assert list(json.loads(written).items()) == [
        ("ts", 1612664554336.491),
        ("caller", "mic/mic.py:400"),
        ("msg", "started\n"),
        ("v", 0),
        ("pod", "a/b"),
        ("n", 1),
        ("why", None),
    ]


@pytest.mark.parametrize(("severity", "has_v"), [("info", True), ("warning", True), ("error", False), ("fatal", False)])
def test_errors_have_no_v(severity: str, has_v: bool) -> None:
    """Readers of the original's JSON tell errors by the missing v."""
    assert ("v" in json.loads(json_line(line(severity=severity)))) is has_v


def test_context_never_replaces_a_key_of_the_line() -> None:
    """A value bound as v, ts or caller moves aside."""
    found = json.loads(json_line(line(v="x", ts="y", caller="z")))
    assert (found["v"], found["v_"], found["ts_"], found["caller_"]) == (0, "x", "y", "z")


def test_json_values_that_json_cannot_hold() -> None:
    """Secrets, errors, huge numbers, odd keys and broken text still give one JSON line."""
    found = json.loads(json_line(line(s=SecretText("hunter2"), e=ValueError("broke"), deep=[SecretText("hunter2")])))
    assert (found["s"], found["e"], found["deep"]) == ("##### REDACTED #####", "broke", ["##### REDACTED #####"])
    found = json.loads(json_line(line(big=2**80, odd={(1, 2): SecretText("hunter2")}, bad="\ud800", none=None)))
    assert found["bad"] == "\ud800"
    assert found["v"] == 0
    assert "hunter2" not in str(found)


def test_a_stack_follows_the_line() -> None:
    """In text a traceback stands below its line and cannot pass for a line; in JSON it has a key of its own."""
    forged = "Traceback\nE1123 \x1b[31m\n"
    assert text_line(line(stack=forged)).endswith("started\n    Traceback\n    E1123 \\x1b[31m\n")
    assert json.loads(json_line(line(stack="Traceback\n")))["stacktrace"] == "Traceback\n"


@given(
    st.text(st.characters()), st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.text(st.characters()))
)
def test_whatever_is_logged_is_one_encodable_line(message: str, context: dict[str, str]) -> None:
    """No message and no value breaks a line, a terminal, the encoding or the JSON."""
    moment = Line("info", 0, 1.5, 1, "f.py", 1, message, context)
    text = text_line(moment)
    text.encode()
    assert re.fullmatch(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]*\n", text)
    written = json_line(moment)
    written.encode()
    assert written.count("\n") == 1
    assert json.loads(written)["msg"] == message + "\n"
