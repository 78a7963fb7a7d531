"""The one log of a process: klog's text lines or JSON lines, on stderr.

``get_logger`` may be called before ``configure_logging`` (a module's own logger): a logger looks at the configuration
when it is used. Context is bound once (``log.bind(pod="ns/name")``) and follows every line of that logger. There is no
logging library behind it: loading structlog would cost every component 11 MB and 0.16 s of CPU.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING, Final

from podidentity.aio.clock import Clock
from podidentity.telemetry.render import Line, json_line, text_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType
    from typing import TextIO

_RENDERERS: Final[Mapping[str, Callable[[Line], str]]] = {"text": text_line, "json": json_line}


class _Output:
    """Where lines go and how they look: one for the process."""

    def __init__(self) -> None:
        self.render: Callable[[Line], str] = text_line
        self.verbosity = 0
        self.stream: TextIO | None = None
        self.clock = Clock()

    def write(self, text: str) -> None:
        """Write whole lines at once; a log nobody can read any more stops nothing."""
        stream = self.stream or sys.stderr
        try:
            stream.write(text)
            stream.flush()
        except (OSError, ValueError):
            return


_OUTPUT: Final = _Output()


def configure_logging(
    *,
    log_format: str,
    verbosity: int,
    stream: TextIO | None = None,
    clock: Clock = Clock(),  # noqa: B008 - frozen value
) -> None:
    """Set what every logger of the process does from now on.

    ``log_format``: ``text`` or ``json``, else ValueError. ``verbosity``: lines of ``v(n)`` with n above it are dropped.
    ``stream``: None is stderr, as it is when a line is written.
    """
    if log_format not in _RENDERERS:
        raise ValueError(f"log format {log_format!r} is neither text nor json")
    _OUTPUT.render = _RENDERERS[log_format]
    _OUTPUT.verbosity = verbosity
    _OUTPUT.stream = stream
    _OUTPUT.clock = clock


class Logger:
    """Writes lines with the bound context; made by ``get_logger``, ``bind`` and ``v`` only.

    Every method takes the message and any number of keyword values. ``exc_info`` adds an exception's traceback.
    Values of type SecretText are never shown; control characters are escaped, so a value cannot forge a line.
    """

    __slots__ = ("_context", "_v")

    def __init__(self, context: Mapping[str, object], verbosity: int = 0) -> None:
        self._context = context
        self._v = verbosity

    def info(self, msg: str, *, exc_info: BaseException | None = None, **kv: object) -> None:
        """Say what happened."""
        if self._v <= _OUTPUT.verbosity:
            self._write("info", msg, exc_info, sys._getframe(1), kv)  # noqa: SLF001 - the cheap way to the caller's line

    def warning(self, msg: str, *, exc_info: BaseException | None = None, **kv: object) -> None:
        """Say what somebody should look at."""
        if self._v <= _OUTPUT.verbosity:
            self._write("warning", msg, exc_info, sys._getframe(1), kv)  # noqa: SLF001 - as info

    def error(self, msg: str, *, exc_info: BaseException | None = None, **kv: object) -> None:
        """Say what failed; never dropped."""
        self._write("error", msg, exc_info, sys._getframe(1), kv)  # noqa: SLF001 - as info

    def fatal(self, msg: str, *, exc_info: BaseException | None = None, **kv: object) -> None:
        """Say what the process ends of; never dropped. Ending it is the caller's."""
        self._write("fatal", msg, exc_info, sys._getframe(1), kv)  # noqa: SLF001 - as info

    def v(self, verbosity: int) -> Logger:
        """Give the same logger at klog verbosity ``verbosity``: its info and warnings need ``--v`` of at least that."""
        return Logger(self._context, verbosity)

    def bind(self, **new_values: object) -> Logger:
        """Give a logger that has these values in every line too."""
        return Logger({**self._context, **new_values}, self._v)

    @property
    def enabled(self) -> bool:
        """Whether info lines of this logger are written: for values that cost something to compute."""
        return self._v <= _OUTPUT.verbosity

    def _write(
        self, severity: str, msg: str, exc: BaseException | None, frame: FrameType, kv: Mapping[str, object]
    ) -> None:
        _OUTPUT.write(
            _OUTPUT.render(
                Line(
                    severity=severity,
                    verbosity=self._v,
                    seconds=_OUTPUT.clock.wall(),
                    pid=os.getpid(),
                    file=frame.f_code.co_filename,
                    number=frame.f_lineno,
                    message=msg,
                    context={**self._context, **kv},
                    stack="".join(traceback.format_exception(exc)) if exc is not None else "",
                )
            )
        )


def get_logger(**context: object) -> Logger:
    """Give a logger with this context bound."""
    return Logger(context)
