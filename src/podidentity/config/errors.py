"""What a command line, an environment or a file can be wrong about.

    Exception
    ├── UsageError        the command line is wrong: exit 2
    ├── ConfigError       the command line is right, what it points to is not (environment, file, port): exit 1
    ├── VersionRequested  not an error: print the version, exit 0
    └── HelpRequested     not an error: print ``text``, exit 0

``str()`` of the two errors is one line without the command's name: where, what was found, what to do.
"""

from __future__ import annotations


class UsageError(Exception):
    """The command line is wrong; exit 2."""


class ConfigError(Exception):
    """The environment, a file or the machine does not allow what was asked for; exit 1."""


class VersionRequested(Exception):  # noqa: N818 - a request, not an error
    """``--version`` was given."""


class HelpRequested(Exception):  # noqa: N818 - a request, not an error
    """``--help`` was given; ``text`` is the whole usage text, ending without a newline."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
