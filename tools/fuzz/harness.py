"""Bytes found by coverage, fed to a connection of nmi: nothing raises, nothing is granted but plain requests."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / folder) for folder in ("", "src")]
with atheris.instrument_imports(include=["podidentity.nmi"]):
    from tests.nmi.corpus_reader import cases
    from tests.nmi.test_fuzz import more_than_asked


def one(data: bytes) -> None:
    """Try one input."""
    if more_than_asked(data):
        raise RuntimeError("granted more than was asked")


def main() -> None:
    """Fuzz; the first argument is a folder, which gets the corpus of raw requests as seeds."""
    seeds = Path(sys.argv[1])
    for number, case in enumerate(cases()):
        (seeds / f"corpus-{number}").write_bytes(case.raw)
    atheris.Setup([sys.argv[0], *sys.argv[2:], str(seeds)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
