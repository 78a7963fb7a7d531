"""From a command line to an exit code: which command, and what each kind of error becomes."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Final

from podidentity.config.errors import ConfigError, HelpRequested, UsageError
from podidentity.config.flags import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

# Each command's module is imported only when it is asked for: a component starts without what only the lab needs.
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "mic": ("podidentity.cli.mic", "the controller: attaches identities to VMs and scale sets"),
    "nmi": ("podidentity.cli.nmi", "the node agent: gives each pod the tokens of its own identity"),
    "csi-provider": ("podidentity.cli.csi_provider", "Key Vault objects for the Secrets Store CSI driver"),
    "lab": ("podidentity.cli.lab_command", "a whole cluster on this machine, to try all of it"),
    "manifests": ("podidentity.cli.manifests", "manifests to install podidentity, and those of your identities"),
    "roles": ("podidentity.cli.roles", "the role assignments mic needs: planned, checked, made"),
    "explain": ("podidentity.cli.explain", "why has my pod no token: its chain, link by link, and what to do"),
    "doctor": ("podidentity.cli.doctor", "what is wrong, or not safe, in a cluster: findings with evidence and fix"),
    "validate": ("podidentity.cli.validate", "run in a pod: try what it gets, and print a table"),
    "completion": ("podidentity.cli.completion", "the completion script of bash, zsh or fish"),
    "version": ("podidentity.cli.version", "version, Python and platform"),
}
COMPLETE: Final = "__complete"
"""What shells and kubectl ask with; no command for people."""
_HELP: Final = frozenset({"-h", "--help", "help"})
_INTERRUPTED: Final = 130
_BROKEN_PIPE: Final = 141
_USAGE: Final = 2


def run(argv: Sequence[str]) -> int:
    """Run ``argv`` (with the program's name first) and give the exit code.

    0 done, 1 failed, 2 a wrong command line, 130 interrupted, 141 nobody reads the output. Errors of programming are
    raised.
    """
    _hold_standard_descriptors()
    words = list(argv[1:])
    if words[:1] == ["--version"]:
        words[0] = "version"
    if words[:1] == [COMPLETE]:
        return guarded("podidentity", lambda: _main("podidentity.cli.candidates", words[1:]))
    if words and words[0] in COMMANDS:
        return guarded(f"podidentity {words[0]}", lambda: _main(COMMANDS[words[0]][0], words[1:]))
    return guarded("podidentity", lambda: _no_command(words))


def _hold_standard_descriptors() -> None:
    """Open what the caller closed of 0, 1 and 2: a pipe that got such a number would be lost in each child."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003 - the standard library's signature


def _main(module: str, argv: Sequence[str]) -> int:
    code: int = importlib.import_module(module).main(argv)
    return code


def _no_command(words: Sequence[str]) -> int:
    if words and words[0] not in _HELP:
        near = nearest(words[0], COMMANDS)
        raise UsageError(f'unknown command "{words[0]}"; {f"did you mean {near}?" if near else "see --help"}')
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    print(
        "usage: podidentity COMMAND ...",
        "",
        *lines,
        "",
        "podidentity COMMAND --help says more",
        sep="\n",
        file=sys.stdout if words else sys.stderr,
    )
    return 0 if words else _USAGE


def guarded(prefix: str, command: Callable[[], int]) -> int:
    """Run a command; what a person can mend comes out as one line on stderr, behind ``prefix``."""
    try:
        code = _helped(command)
        if sys.stdout is not None:  # it is when the caller closed it
            sys.stdout.flush()
    except (UsageError, ConfigError, OSError, KeyboardInterrupt) as error:
        return _report(prefix, error)
    except BaseExceptionGroup as group:
        leaves = list(_leaves(group))
        if not all(isinstance(leaf, UsageError | ConfigError | OSError | KeyboardInterrupt) for leaf in leaves):
            raise
        return _report(prefix, leaves[0])
    return code


def _helped(command: Callable[[], int]) -> int:
    try:
        return command()
    except HelpRequested as request:
        print(request.text)
        return 0


def _report(prefix: str, error: BaseException) -> int:
    """Say it in one line and give the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return _INTERRUPTED
    if isinstance(error, OSError):
        _drop_unwritable_output()
    if isinstance(error, BrokenPipeError):
        return _BROKEN_PIPE
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    print(f"{prefix}: {' '.join(text.split())}", file=sys.stderr)
    return _USAGE if isinstance(error, UsageError) else 1


def _drop_unwritable_output() -> None:
    """Let go of output that cannot be written: Python would try once more at exit, and complain with a trace."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
