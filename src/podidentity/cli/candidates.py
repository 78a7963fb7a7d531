"""What may come next on a command line: ``podidentity __complete WORD...``, as kubectl asks its plugins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from podidentity.cli.entry import COMMANDS
from podidentity.cli.options import command

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from podidentity.cli.options import Command, Option

NOTHING_ELSE, FILES_TOO = ":4", ":0"
"""The last line, as cobra writes it: whether the shell may offer files."""
_MANY: Final = "--"


@dataclass(frozen=True, slots=True)
class Candidates:
    """Words with what each is for; ``files``: the shell may offer files, too."""

    words: tuple[tuple[str, str], ...] = ()
    files: bool = False

    def lines(self) -> Iterator[str]:
        """Word, tab, what it is for; then whether files may come."""
        for word, what in self.words:
            yield f"{word}\t{' '.join(what.split())}"
        yield FILES_TOO if self.files else NOTHING_ELSE


def candidates(words: Sequence[str]) -> Candidates:
    """What the last of ``words`` (perhaps empty) may become; the ones before it are whole. Without the program's name.

    Of ``--option=va`` it is the value alone.
    """
    *before, last = _joined(words) or [""]
    if not before:
        return _starting(last, [(name, what) for name, (_, what) in COMMANDS.items()])
    if before[0] not in COMMANDS:
        return Candidates()
    at = _Place(command(before[0]))
    for word in before[1:]:
        at.step(word)
    return at.next(last)


def _joined(words: Sequence[str]) -> list[str]:
    """Undo what bash does to ``--option=value``: three words."""
    found: list[str] = []
    for word in words:
        if found and found[-1].startswith("--") and (word == "=" or found[-1].endswith("=")):
            found[-1] += word
        else:
            found.append(word)
    return found


class _Place:
    """A place on a command line."""

    def __init__(self, top: Command) -> None:
        self._command: Command | None = top
        self._given: set[str] = set()
        self._waiting: Option | None = None
        self._only_arguments = False

    def step(self, word: str) -> None:
        """Go past a whole word."""
        if self._command is None or self._only_arguments:
            return
        if self._waiting is not None:
            self._waiting = None
        elif word == _MANY:
            self._only_arguments = True
        elif word.startswith("-"):
            name, equals, _ = word.partition("=")
            option = self._command.option(name)
            if option is not None:
                self._given.update(() if option.repeatable else option.names)
                self._waiting = option if option.takes_value and not equals else None
        elif self._command.commands:
            self._command, self._given = self._command.commands.get(word), set()

    def next(self, last: str) -> Candidates:
        """What ``last`` may become here."""
        here = self._command
        if here is None or self._only_arguments:
            return Candidates(files=here is not None)
        if self._waiting is not None:
            return _values(self._waiting, last)
        if last.startswith("-"):
            return self._option(here, last)
        found = _starting(last, [(name, one.help) for name, one in here.commands.items()])
        return Candidates(found.words, here.files)

    def _option(self, here: Command, last: str) -> Candidates:
        """Names of options that were not given yet, or the value behind a name."""
        name, equals, value = last.partition("=")
        if equals:
            option = here.option(name)
            return _values(option, value) if option is not None else Candidates()
        left = [one for one in here.options if not self._given.intersection(one.names)]
        return _starting(last, [(_shown(one, last), one.help) for one in left])


def _shown(option: Option, last: str) -> str:
    """The name that fits what is typed, else the long one."""
    return next((name for name in option.names if name.startswith(last)), option.names[0])


def _values(option: Option, typed: str) -> Candidates:
    found = _starting(typed, [(word, "") for word in option.choices])
    return Candidates(found.words, files=not option.choices)


def _starting(typed: str, found: Iterable[tuple[str, str]]) -> Candidates:
    return Candidates(tuple((word, what) for word, what in found if word.startswith(typed)))


def main(argv: Sequence[str]) -> int:
    """Print what the last of the words may become."""
    print(*candidates(argv).lines(), sep="\n")
    return 0
