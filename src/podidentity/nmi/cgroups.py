"""From the id of a cgroup (v2) to its path, and from a path to the pod it belongs to."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_MOST_KEPT: Final = 1024
_MOST_FOLDERS: Final = 50_000
_POD: Final = re.compile(r"pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})(?![0-9a-f])")


class Cgroups:
    """The tree below ``root``: the node's cgroup2 file system, where a folder's inode number is the cgroup's id."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._kept: OrderedDict[int, str] = OrderedDict()

    def path(self, cgroup: int) -> str:
        """Return the path below the root, beginning with a slash; empty when there is no such cgroup.

        Looks through the tree, some milliseconds on a full node: not for the event loop.
        """
        kept = self._kept.get(cgroup)
        if kept is not None and self._is(kept, cgroup):
            return kept
        found = next((path for path, number in self._folders() if number == cgroup), "")
        if found:
            self._kept[cgroup] = found
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return found

    def _is(self, path: str, cgroup: int) -> bool:
        try:
            return Path(self._root + path).stat().st_ino == cgroup
        except OSError:
            return False

    def _folders(self) -> Iterator[tuple[str, int]]:
        """Yield paths and ids, the root's own among them."""
        todo, seen = [""], 0
        try:
            yield "/", Path(self._root).stat().st_ino
        except OSError:
            return
        while todo and seen < _MOST_FOLDERS:
            above = todo.pop()
            try:
                with os.scandir(self._root + (above or "/")) as entries:
                    below = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:
                continue
            for entry in below:
                seen += 1
                path = f"{above}/{entry.name}"
                todo.append(path)
                yield path, entry.inode()


def pod_uid(path: str) -> str:
    """Return the UID of the pod a cgroup's path belongs to (either cgroup driver); empty when it is no pod's."""
    found = _POD.search(path)
    return found[1].replace("_", "-") if found else ""
