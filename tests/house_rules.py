"""Rules of the house that no linter has: sizes, import cycles, forbidden words. Run by ``make check``."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE, MAX_FUNCTION = 400, 50
GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$")
FORBIDDEN = re.compile(
    r"pypi\.org|pythonhosted|crates\.io|proxy\.golang|registry\.npmjs|deb\.debian\.org|repo\.maven|/work/|/root/"
)


def sources() -> Iterator[Path]:
    """Every Python file of the repository that a person wrote."""
    for folder in ("src", "tests", "benchmarks"):
        yield from (path for path in sorted((ROOT / folder).rglob("*.py")) if not GENERATED.search(path.name))


def oversized() -> Iterator[str]:
    """Files over 400 lines, functions over 50."""
    for path in sources():
        text = path.read_text()
        where = path.relative_to(ROOT)
        lines = text.count("\n")
        if lines > MAX_FILE:
            yield f"{where}: {lines} lines, at most {MAX_FILE}"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                if size > MAX_FUNCTION:
                    yield f"{where}:{node.lineno} {node.name}: {size} lines, at most {MAX_FUNCTION}"


def cycles() -> Iterator[str]:
    """Modules that import each other, at any distance."""
    graph = grimp.build_graph("podidentity", cache_dir=None)
    for module in sorted(graph.modules):
        for imported in sorted(graph.find_modules_directly_imported_by(module)):
            if graph.chain_exists(importer=imported, imported=module):
                yield f"import cycle: {module} -> {imported} -> ... -> {module}"


def forbidden_words() -> Iterator[str]:
    """No tracked file names a package registry's host or a path of somebody's machine."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, names.split("\0")):
        path = ROOT / name
        if path == Path(__file__) or not path.is_file():
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if found := FORBIDDEN.search(line):
                yield f"{name}:{number} names {found.group()!r}"


def main() -> int:
    """Print every breach; exit 1 if there is one."""
    breaches = [*oversized(), *cycles(), *forbidden_words()]
    sys.stdout.write("\n".join(breaches or ["house rules: kept"]) + "\n")
    return bool(breaches)


if __name__ == "__main__":
    sys.exit(main())
