"""Why a mount is refused: one kind, ``MountError``."""

from __future__ import annotations


class MountError(Exception):
    """The volume cannot be mounted; ``str`` is one printable line, whatever users wrote into their classes."""

    def __init__(self, text: str) -> None:
        line = " ".join(text.split())
        super().__init__("".join(char if char.isprintable() else "?" for char in line))
