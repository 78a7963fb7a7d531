"""The log of a process."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator

import pytest

from podidentity.aio.clock import Clock
from podidentity.telemetry.logging import configure_logging, get_logger

EARLY = get_logger(part="early")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Text at verbosity 2 into memory; the default again afterwards."""
    written = io.StringIO()
    configure_logging(log_format="text", verbosity=2, stream=written, clock=Clock(wall=lambda: 0.25))
    yield written
    configure_logging(log_format="text", verbosity=0)


def test_the_caller_is_the_calling_file_and_line(stream: io.StringIO) -> None:
    """Each method names the line that called it, also through bind and v."""
    log = get_logger()
    log.info("a"), log.warning("b"), log.error("c"), log.fatal("d"), log.v(1).info("e"), log.bind(k=1).info("f")
    lines = stream.getvalue().splitlines()
    here = test_the_caller_is_the_calling_file_and_line.__code__.co_firstlineno + 3
    assert [line[0] for line in lines] == list("IWEFII")
    assert all(f" {os.getpid():7d} test_logging.py:{here}] " in line for line in lines)
    assert lines[-1].endswith("] f k=1")


def test_context_is_bound_once(stream: io.StringIO) -> None:
    """Bound values follow every line, later ones win, and the logger bound from keeps its own."""
    log = get_logger(pod="a/b", n=1)
    log.bind(n=2).v(1).bind(m=3).info("x", m=4)
    log.info("y")
    assert re.findall(r"\] (.*)", stream.getvalue()) == ["x pod=a/b n=2 m=4", "y pod=a/b n=1"]


def test_verbosity_drops_lines(stream: io.StringIO) -> None:
    """Lines above the configured verbosity are dropped, errors never, and a logger can say so beforehand."""
    log = get_logger()
    log.v(2).info("in"), log.v(3).info("out"), log.v(3).warning("out"), log.v(3).error("in"), log.v(3).fatal("in")
    assert re.findall(r"\] (.*)", stream.getvalue()) == ["in", "in", "in"]
    assert (log.v(2).enabled, log.v(3).enabled, log.v(3).bind(a=1).enabled) == (True, False, False)


def test_a_logger_made_before_the_configuration_follows_it(stream: io.StringIO) -> None:
    """A module's own logger, made on import, writes as configured later."""
    EARLY.info("x")
    assert stream.getvalue().endswith("] x part=early\n")


def test_any_word_may_be_a_key(stream: io.StringIO) -> None:
    """No name of a value clashes with what the log is made of."""
    get_logger(event=1, method_name=2).info("x", name=3, logger=4)
    assert stream.getvalue().endswith("] x event=1 method_name=2 name=3 logger=4\n")


def test_json_and_an_exception() -> None:
    """The JSON format has the verbosity of the line and the traceback of an exception."""
    stream = io.StringIO()
    configure_logging(log_format="json", verbosity=5, stream=stream)
    get_logger().v(4).info("x", exc_info=LookupError("gone"))
    configure_logging(log_format="text", verbosity=0)
    found = json.loads(stream.getvalue())
    assert found["v"] == 4
    assert found["caller"].startswith("telemetry/test_logging.py:")
    assert found["stacktrace"].endswith("LookupError: gone\n")


def test_a_stream_that_is_gone_stops_nothing() -> None:
    """Neither a closed stream nor a reader that went away is an error for who logs."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as broken:
        configure_logging(log_format="text", verbosity=0, stream=broken)
        get_logger().info("x")
        with pytest.raises(BrokenPipeError):
            broken.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)
    get_logger().info("x")
    configure_logging(log_format="text", verbosity=0)


def test_without_a_stream_it_is_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Logs go to stderr, so that a command's answer on stdout stays clean."""
    get_logger().info("x")
    captured = capsys.readouterr()
    assert captured.err.endswith("] x\n")
    assert captured.out == ""


def test_an_unknown_format_is_refused() -> None:
    """A format that does not exist is an error, not a silent default."""
    with pytest.raises(ValueError, match="neither text nor json"):
        configure_logging(log_format="xml", verbosity=0)
