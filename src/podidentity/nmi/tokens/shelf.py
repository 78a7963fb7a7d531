"""A bounded store: so many values, so many bytes, so many of one owner; the least recently used goes first (pure)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Kept(Generic[V]):
    value: V
    owner: str
    size: int


class Shelf(Generic[K, V]):
    """Keeps at most ``most`` values of ``most_bytes`` together, and ``most_per_owner`` of one owner.

    An owner with too many loses its own oldest, so that nobody can push out what others have.
    """

    def __init__(self, *, most: int, most_bytes: int, most_per_owner: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._most_per_owner = most_per_owner
        self._kept: OrderedDict[K, _Kept[V]] = OrderedDict()
        self._owned: dict[str, OrderedDict[K, None]] = {}
        self.size = 0

    def __len__(self) -> int:
        """How many values are kept."""
        return len(self._kept)

    def __iter__(self) -> Iterator[K]:
        """Iterate over the keys, the least recently used first."""
        return iter(self._kept)

    def get(self, key: K) -> V | None:
        """Return the value and count it as used."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        self._kept.move_to_end(key)
        return kept.value

    def put(self, key: K, value: V, *, owner: str, size: int) -> None:
        """Keep a value of ``size`` bytes, in the place of the one with this key."""
        self.drop(key)
        self._kept[key] = _Kept(value, owner, size)
        self.size += size
        own = self._owned.setdefault(owner, OrderedDict())
        own[key] = None
        if len(own) > self._most_per_owner:
            self.drop(next(iter(own)))
        while self._kept and (len(self._kept) > self._most or self.size > self._most_bytes):
            self.drop(next(iter(self._kept)))

    def drop(self, key: K) -> None:
        """Forget a value, if it is there."""
        kept = self._kept.pop(key, None)
        if kept is None:
            return
        self.size -= kept.size
        own = self._owned[kept.owner]
        del own[key]
        if not own:
            del self._owned[kept.owner]

    def drop_where(self, unwanted: Callable[[K], bool]) -> int:
        """Forget all values whose key is unwanted; return how many."""
        found = [key for key in self._kept if unwanted(key)]
        for key in found:
            self.drop(key)
        return len(found)
