"""Commands typed at a lab with the real kubectl, and shapes their answers must have."""

from __future__ import annotations

import asyncio
import re
import shlex
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Final

from tests.real_server import kubectl_environ

LETTERS: Final = "[bcdfghjklmnpqrstvwxz2456789]"
"""What the random ends of names are made of."""
WORDS: Final = {
    "age": r"(\d+d)?(\d+h)?(\d+m)?(\d+s)?",
    "client-id": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "date": r"\S+",
    "klog": r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6} {1,7}\d{1,7} [a-z_]+\.(go|py):\d+\]",
    "mic": rf"mic-[4-9bcdf]{{8,10}}-{LETTERS}{{5}}",
    "nmi": rf"nmi-{LETTERS}{{5}}",
    "redacted": r"[0-9a-f]{4}##### REDACTED #####[0-9a-f]{4}",
    "settings": r"settings( [a-z_]+=\S*)+",
    "took": r"\d+(\.\d+)?(ns|µs|ms|s)",
    "version": r"v?\d+\.\d+\.\d+\S*",
}
"""What ``<word>`` in a shape stands for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A command's exit code and what it wrote, undecoded."""

    code: int | None
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """What it wrote to stdout, once it succeeded and wrote nothing else."""
        assert (self.code, self.err) == (0, b""), self
        return self.out.decode()


@dataclass(frozen=True, slots=True)
class Typist:
    """Types commands in ``folder`` at the cluster of ``kubeconfig``."""

    kubectl: Path
    kubeconfig: Path
    folder: Path

    async def type(self, command: str) -> Answer:
        """Run ``kubectl ...`` as a shell would, without its quoting surprises."""
        program, *words = shlex.split(command)
        assert program == "kubectl"
        process = await asyncio.create_subprocess_exec(
            str(self.kubectl),
            *words,
            cwd=self.folder,
            env=kubectl_environ(self.kubeconfig, self.folder / ".kubecache"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return Answer(process.returncode, out, err)


def _pattern(line: str) -> str:
    parts = re.split(r"<([a-z-]+)>", line)
    return "".join(WORDS[part] if index % 2 else re.escape(part) for index, part in enumerate(parts))


def differs(shape: str, text: str) -> str:
    """Where ``text`` has not the lines of ``shape``, as a diff; empty when it has them all, in order, and no other.

    In a shape that begins with a table's header, columns may be wider than written; they must begin at one place.
    """
    wanted, found = shape.strip("\n").splitlines(), text.removesuffix("\n").split("\n")
    table = bool(re.match(r"NAME(SPACE)?( |$)", wanted[0]))
    patterns = [re.sub(r"(\\ ){2,}", " {2,}", _pattern(line)) if table else _pattern(line) for line in wanted]
    seen = [
        pattern_line if re.fullmatch(pattern, line) else line
        for pattern, pattern_line, line in zip(patterns, wanted, found, strict=False)
    ] + found[len(wanted) :]
    if table and not _aligned(found):
        return f"columns do not begin at one place:\n{text}"
    return "\n".join(unified_diff(wanted, seen, "the walkthrough's", "the lab's", lineterm="", n=1))


def _aligned(lines: list[str]) -> bool:
    starts = [match.start() for match in re.finditer(r"\S+", lines[0])]
    return all(
        len(line) > start and line[start] != " " and (not start or line[start - 2 : start] == "  ")
        for line in lines[1:]
        for start in starts
    )
