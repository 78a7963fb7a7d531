"""The fields of the built-in kinds: what they are called, their types, how a strategic patch merges them (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

_TYPE: Final = re.compile(
    r"(?P<open>[\[{]?)(?P<name>[A-Za-z0-9]+)(?P<inner>!?)[\]}]?(?:@(?P<key>\w+)|(?P<merge>\+)|(?P<retain>!))?"
)
SCALARS: Final = frozenset(["s", "i", "l", "b", "q", "x", "f", "t", "u", "y", "any"])
_GO: Final = {
    "s": "string",
    "i": "int32",
    "l": "int64",
    "b": "bool",
    "q": "resource.Quantity",
    "x": "intstr.IntOrString",
    "f": "float64",
    "t": "v1.Time",
    "u": "v1.MicroTime",
    "y": "[]uint8",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field. ``shape`` is one, list or map; ``of`` a scalar's letter or another type's name.

    ``merge_key``: a strategic patch merges the list by it; ``merge``: as a set of values; ``retain``: a patch may name
    the keys that stay.
    """

    name: str
    of: str = "s"
    shape: str = "one"
    merge_key: str = ""
    merge: bool = False
    retain: bool = False

    @property
    def go_type(self) -> str:
        """The type as Go's JSON decoder names it in an error."""
        return {"list": f"[]{self.go_element}", "map": f"map[string]{self.go_element}"}.get(self.shape, self.go_element)

    @property
    def go_element(self) -> str:
        """The type of one of its values."""
        return _GO.get(self.of, f"v1.{self.of}")


Type = Mapping[str, Field]


def _field(text: str) -> Field:
    name, _, spec = text.partition(":")
    if spec in {"m", "mq"}:
        return Field(name, "q" if spec == "mq" else "s", "map")
    found = _TYPE.fullmatch(spec or "s")
    assert found is not None, text
    shape = {"[": "list", "{": "map"}.get(found["open"], "one")
    retain = bool(found["inner"] or found["retain"])
    return Field(name, found["name"], shape, found["key"] or "", bool(found["merge"]), retain)


@cache
def types() -> Mapping[str, Type]:
    """Every type by name."""
    text = resources.files(__package__).joinpath("types.txt").read_text()
    found: dict[str, Type] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(": ")
            found[name] = {field.name: field for field in map(_field, rest.split())}
    return found


def type_of(name: str) -> Type | None:
    """The fields of a type; None for scalars, ``any`` and kinds that are not built in."""
    return None if name in SCALARS else types().get(name)
