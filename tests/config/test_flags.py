"""Kinds of values, the flag table and both grammars."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podidentity.config import goflag, pflag
from podidentity.config.errors import HelpRequested, UsageError
from podidentity.config.flags import (
    BOOL,
    CLIENT_IDS,
    DURATION,
    FLOAT,
    INT,
    PORT,
    SECONDS,
    TEXT,
    Flag,
    Kind,
    Table,
    nearest,
)

TABLE = Table(
    "part",
    (
        Flag("name", TEXT, "", "a name"),
        Flag("on", BOOL, default=False, help="a switch"),
        Flag("b", BOOL, default=True, help="a short switch"),
        Flag("v", INT, 0, "verbosity"),
        Flag("for", DURATION, 60.0, "how long", lambda value: "" if value > 0 else "must be above 0"),
        Flag("old", TEXT, "", ""),
    ),
)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        *((BOOL, text, True) for text in ("1", "t", "T", "TRUE", "true", "True")),
        *((BOOL, text, False) for text in ("0", "f", "F", "FALSE", "false", "False")),
        (INT, "12", 12),
        (INT, "-12", -12),
        (INT, "+1_000", 1000),
        (INT, "0x1F", 31),
        (INT, "0b11", 3),
        (INT, "0o17", 15),
        (INT, "017", 15),
        (INT, "-0_17", -15),
        (INT, "0", 0),
        (FLOAT, "5", 5.0),
        (FLOAT, ".5", 0.5),
        (FLOAT, "5.", 5.0),
        (FLOAT, "1e3", 1000.0),
        (SECONDS, "60", 60.0),
        (PORT, "1", 1),
        (PORT, "65535", 65535),
        (TEXT, "", ""),
        (CLIENT_IDS, "A-1, b-2,,", frozenset({"a-1", "b-2"})),
        (CLIENT_IDS, "", frozenset()),
    ],
)
def test_values_are_read_as_go_reads_them(kind: Kind[Any], text: str, value: object) -> None:
    """Every spelling the original took has the same meaning."""
    assert Flag("x", kind, value, "").read(text) == value


@pytest.mark.parametrize(
    ("kind", "text", "fault"),
    [
        (BOOL, "yes", "is not a boolean"),
        (BOOL, "", "is not a boolean"),
        (INT, "", "is not an integer"),
        (INT, " 1", "is not an integer"),
        (INT, "1.0", "is not an integer"),
        (INT, "1__0", "is not an integer"),
        (INT, "09", "is not an integer"),
        (INT, "٣", "is not an integer"),
        (INT, "9223372036854775808", "is out of range"),
        (FLOAT, "1_0", "is not a number"),
        (FLOAT, "nan", "is not a number"),
        (FLOAT, "1e999", "is out of range"),
        (PORT, "0", "is not a port"),
        (PORT, "65536", "is not a port"),
        (PORT, "-1", "is not a port"),
        (PORT, "99999999999999999999", "is not a port"),
        (PORT, "٨٠", "is not a port"),
        (PORT, "http", "is not a port"),
        (SECONDS, "5s", "is not an integer"),
        (DURATION, "5", "has no unit"),
    ],
)
def test_a_wrong_value_names_flag_text_and_fault(kind: Kind[Any], text: str, fault: str) -> None:
    """What is wrong is said in one line with the flag's name and what was written."""
    with pytest.raises(UsageError) as error:
        Flag("some-flag", kind, None, "").read(text)
    assert str(error.value).startswith(f'--some-flag: "{text}" {fault}')


@pytest.mark.parametrize(
    ("argv", "values", "rest"),
    [
        ([], {}, ()),
        (["-name", "x", "--on"], {"name": "x", "on": True}, ()),
        (["--name=", "-on=false"], {"name": "", "on": False}, ()),
        (["-name=a=b"], {"name": "a=b"}, ()),
        (["--name", "--on"], {"name": "--on"}, ()),
        (["-v=1", "-v", "2"], {"v": 2}, ()),
        (["--on", "false", "-v=3"], {"on": True}, ("false", "-v=3")),
        (["--on", "--", "-v=3"], {"on": True}, ("-v=3",)),
        (["-", "-v=3"], {}, ("-", "-v=3")),
        (["", "-v=3"], {}, ("", "-v=3")),
        (["--for=1m"], {"for": 60.0}, ()),
    ],
)
def test_go_flag_grammar(argv: Sequence[str], values: Mapping[str, object], rest: tuple[str, ...]) -> None:
    """One dash or two, value after = or (not for switches) as next argument, the end at the first other argument."""
    parsed = goflag.parse(argv, TABLE)
    assert (parsed.values, parsed.rest) == (values, rest)


@pytest.mark.parametrize(
    ("argv", "values", "rest"),
    [
        ([], {}, ()),
        (["--name", "x", "--on"], {"name": "x", "on": True}, ()),
        (["--name=", "--on=false"], {"name": "", "on": False}, ()),
        (["--on", "false", "-v", "3"], {"on": True, "v": 3}, ("false",)),
        (["-v5"], {"v": 5}, ()),
        (["-v=5"], {"v": 5}, ()),
        (["--v=5"], {"v": 5}, ()),
        (["-bv", "5"], {"b": True, "v": 5}, ()),
        (["-b=0"], {"b": False}, ()),
        (["-bv=5"], {"b": True, "v": 5}, ()),
        (["x", "--on", "--", "-v", "3"], {"on": True}, ("x", "-v", "3")),
        (["-", "", "--on"], {"on": True}, ("-", "")),
        (["--name", "--on"], {"name": "--on"}, ()),
    ],
)
def test_pflag_grammar(argv: Sequence[str], values: Mapping[str, object], rest: tuple[str, ...]) -> None:
    """Long flags with two dashes, short ones may be joined, other arguments may stand between."""
    parsed = pflag.parse(argv, TABLE)
    assert (parsed.values, parsed.rest) == (values, rest)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--nam=x"], "unknown flag --nam; did you mean --name?"),
        (["-NAME=x"], "unknown flag -NAME; did you mean --name?"),
        (["--zzz"], "unknown flag --zzz; see --help"),
        (["--name"], "--name needs a value, write --name=..."),
        (["---name"], '"---name" is not a flag; write --name or --name=value'),
        (["--=x"], '"--=x" is not a flag; write --name or --name=value'),
        (["-=x"], '"-=x" is not a flag; write --name or --name=value'),
        (["--v=x", "--v=1"], '--v: "x" is not an integer'),
        (["--for=-1s"], '--for: "-1s" must be above 0'),
    ],
)
def test_go_flag_faults(argv: Sequence[str], words: str) -> None:
    """A wrong command line is one line that names the fault and, for an unknown flag, the nearest known one."""
    with pytest.raises(UsageError) as error:
        goflag.parse(argv, TABLE)
    assert str(error.value) == words


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--nam=x"], "unknown flag --nam; did you mean --name?"),
        (["-name=x"], "unknown flag -name; did you mean --name?"),
        (["-name"], "unknown flag -name; did you mean --name?"),
        (["-bz"], "unknown flag -z in -bz; see --help"),
        (["-nane", "x"], "unknown flag -nane; did you mean --name?"),
        (["-V"], "unknown flag -V; did you mean -v?"),
        (["-z"], "unknown flag -z; see --help"),
        (["-v"], "-v needs a value, write -v=..."),
        (["--name"], "--name needs a value, write --name=..."),
        (["---name"], '"---name" is not a flag; write --name or --name=value'),
        (["--=x"], '"--=x" is not a flag; write --name or --name=value'),
        (["-vx"], '--v: "x" is not an integer'),
        (["-v="], '--v: "" is not an integer'),
    ],
)
def test_pflag_faults(argv: Sequence[str], words: str) -> None:
    """As for the other grammar; and one dash before a long name is understood well enough to say so."""
    with pytest.raises(UsageError) as error:
        pflag.parse(argv, TABLE)
    assert str(error.value) == words


@pytest.mark.parametrize("argv", [["-h"], ["--help"], ["--on", "-h", "--zzz"]])
def test_help_gives_the_usage_text(argv: Sequence[str]) -> None:
    """Help is a list of the flags with defaults; those without effect come together at its end."""
    for parse in (goflag.parse, pflag.parse):
        with pytest.raises(HelpRequested) as request:
            parse(argv, TABLE)
    text = request.value.text
    assert text.startswith(
        "usage: podidentity part [flags]\n\n  -b\n        a short switch (default true)\n  --for duration\n"
    )
    assert "        how long (default 1m0s)" in text
    assert text.endswith("accepted without effect: --old")


def test_usage_without_silent_flags() -> None:
    """A table whose flags all do something has no such line."""
    assert Table("part", (Flag("on", BOOL, default=False, help="it"),)).usage().endswith("  --on\n        it")


def test_help_may_be_a_flag_of_its_own() -> None:
    """A component that defines -h gets it, not the help."""
    assert goflag.parse(["-h"], Table("part", (Flag("h", BOOL, default=False, help="x"),))).values == {"h": True}


def test_nearest_ignores_case_and_gives_up() -> None:
    """The nearest name is found in any case; a word like none of them has none."""
    assert nearest("forcenamespace", ["forceNamespaced", "node"]) == "forceNamespaced"
    assert nearest("qqq", ["forceNamespaced", "node"]) == ""


WORDS = st.lists(
    st.one_of(
        st.sampled_from(["--", "-", "", "--on", "-b", "-v", "--v=1", "--name", "-h", "--for=1s", "-bv3", "--on=f"]),
        st.text(alphabet="-=abvon1", max_size=6),
    ),
    max_size=6,
)


@given(WORDS)
def test_any_command_line_is_read_or_refused(argv: list[str]) -> None:
    """No arguments make a grammar do anything but give values, ask for help or raise a UsageError."""
    for parse in (goflag.parse, pflag.parse):
        with contextlib.suppress(HelpRequested, UsageError):
            assert set(parse(argv, TABLE).values) <= set(TABLE.flags)
