"""Where ``podidentity`` starts: this file reads on any Python 3, so that a too old one gets a sentence, not a trace."""

import sys
from collections.abc import Sequence

OLDEST = (3, 11)
INTERRUPTED = 130


def main(argv: "Sequence[str]" = ()) -> None:
    """Run a command line (this process's unless given) and exit with its code."""
    refusal = too_old(sys.version_info)
    if refusal:
        sys.exit(refusal)
    try:
        from podidentity.cli.entry import run  # noqa: PLC0415 - only a new enough Python can read it
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(run(argv or sys.argv))


def complete() -> None:
    """Answer kubectl, which asks ``kubectl_complete-podidentity WORD...`` what may come next."""
    main((sys.argv[0], "__complete", *sys.argv[1:]))


def too_old(version: "Sequence[object]") -> str:
    """Say what is wrong with a Python of that version; nothing when it is new enough."""
    if tuple(version[:2]) >= OLDEST:
        return ""
    found = ".".join(str(part) for part in version[:2])
    return f"podidentity: Python {OLDEST[0]}.{OLDEST[1]} or newer is needed, this is {found} ({sys.executable})"
