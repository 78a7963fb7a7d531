"""Which versions of an object a history holds. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podidentity.csi.errors import MountError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podidentity.azure.keyvault import ObjectVersion


def newest(versions: Sequence[ObjectVersion], count: int, start: str = "") -> tuple[str, ...]:
    """At most ``count`` enabled versions, newest first, from ``start`` on when it is named.

    Versions made in the same second are ordered by their names, so that every mount orders them alike. Raises
    MountError when ``start`` is not there or disabled, and when nothing is enabled.
    """
    ordered = sorted(versions, key=lambda one: (-one.created, one.version))
    if start:
        position = next((i for i, one in enumerate(ordered) if one.version.casefold() == start.casefold()), None)
        if position is None:
            raise MountError(f"version {start} is not in the vault; name another, or leave objectVersion out")
        if not ordered[position].enabled:
            raise MountError(f"version {start} is disabled; enable it, or leave objectVersion out")
        ordered = ordered[position:]
    enabled = tuple(one.version for one in ordered if one.enabled)
    if not enabled:
        raise MountError("the vault has no enabled version of it")
    return enabled[:count]
