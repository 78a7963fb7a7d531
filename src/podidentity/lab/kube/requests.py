"""What a write is asked for and what came of it (plain values)."""

from __future__ import annotations

from dataclasses import dataclass

from podidentity.lab.kube.kinds import Kind
from podidentity.lab.kube.objects import Obj


@dataclass(frozen=True, slots=True)
class Where:
    """The object, or with an empty ``name`` the collection, a request is about."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """``validation`` is Strict, Warn or Ignore: what happens to unknown fields. ``dry_run`` writes nothing."""

    dry_run: bool = False
    validation: str = "Warn"


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """The body of a DELETE; None and empty mean "as the kind does by default". ``grace`` is seconds."""

    grace: int | None = None
    uid: str = ""
    resource_version: str = ""
    propagation: str = ""
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """An object after a write, without apiVersion and kind. ``gone``: the write removed it."""

    obj: Obj
    created: bool = False
    gone: bool = False
    warnings: tuple[str, ...] = ()
