"""The Dockerfile as data: its stages and what each says. Enough of the grammar for ours."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Stage:
    """One stage: what it is made from and its instructions in order, as (word, rest)."""

    name: str
    base: str
    said: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        """What follows each instruction of that name."""
        return [rest for found, rest in self.said if found == word]


def stages() -> dict[str, Stage]:
    """The stages by name, with the values of global ARGs put in."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    arguments: dict[str, str] = {}
    found: dict[str, Stage] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = stage = Stage(name, re.sub(r"\$\{(\w+)\}", lambda name: arguments[name[1]], base))
        elif not found:
            name, _, value = rest.partition("=")
            arguments[name] = value
        else:
            stage.said.append((word, rest))
    return found


def entry_point(name: str) -> list[str]:
    """The program that a target starts."""
    (said,) = stages()[name].all("ENTRYPOINT")
    return [str(word) for word in json.loads(said)]


def user(name: str) -> str:
    """Whom a target runs as: its own USER, else that of the stage it is made from."""
    stage = stages()[name]
    return stage.all("USER")[-1] if stage.all("USER") else user(stage.base)


def search_path() -> str:
    """PATH in the images."""
    (said,) = stages()["podidentity"].all("ENV")
    (value,) = re.findall(r"\bPATH=(\S+)", said)
    return str(value)
