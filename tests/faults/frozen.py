"""Processes that can be frozen inside one event loop: no task of theirs takes a step until they are thawed."""

from __future__ import annotations

import asyncio
import contextvars
import types
from collections.abc import Coroutine, Generator
from dataclasses import dataclass, field
from typing import Any

_PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


@dataclass
class Process:
    """What belongs together and is frozen together; timers fire and answers arrive meanwhile, unseen."""

    _awake: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._awake.set()

    def freeze(self) -> None:
        """SIGSTOP."""
        self._awake.clear()

    def thaw(self) -> None:
        """SIGCONT."""
        self._awake.set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine in this process; every task it makes belongs to the process too."""
        context = contextvars.copy_context()
        context.run(_PROCESS.set, self)
        return context.run(asyncio.get_running_loop().create_task, work)

    @types.coroutine
    def steps(self, inner: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Drive ``inner``, one step at a time, none while frozen."""
        value, error = None, None
        while True:
            while not self._awake.is_set():
                try:
                    yield from self._awake.wait().__await__()
                except asyncio.CancelledError as cancelled:
                    error = cancelled
            try:
                yielded = inner.send(value) if error is None else inner.throw(error)
            except StopIteration as done:
                return done.value
            value, error = None, None
            try:
                value = yield yielded
            except BaseException as raised:  # noqa: BLE001 - whatever it is, it is for the inner one
                error = raised


def task_factory(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    """Make tasks that belong to the process they were made in."""
    process = _PROCESS.get()
    return asyncio.Task(work if process is None else process.steps(work), loop=loop, **options)
