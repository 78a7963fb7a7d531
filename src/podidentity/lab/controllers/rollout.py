"""What a Deployment does next: how many replicas each of its ReplicaSets shall have (pure)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from podidentity.lab.controllers.things import REVISION_ANNOTATION, Json, Thing, dig, template_hash, without_hash


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a rolling update may go: pods above and pods missing."""

    surge: int
    unavailable: int


def portion(value: object, whole: int, *, up: bool) -> int:
    """A number or a percentage of ``whole``."""
    if isinstance(value, str) and value.endswith("%") and value[:-1].isdigit():
        part = whole * int(value[:-1]) / 100
        return math.ceil(part) if up else math.floor(part)
    return value if isinstance(value, int) else 0


def bounds(spec: Json) -> Bounds:
    """``strategy.rollingUpdate`` in pods; never both zero."""
    replicas, rolling = int(spec.get("replicas") or 0), dig(spec, "strategy", "rollingUpdate") or {}
    surge = portion(rolling.get("maxSurge", "25%"), replicas, up=True)
    unavailable = portion(rolling.get("maxUnavailable", "25%"), replicas, up=False)
    return Bounds(surge, max(unavailable, 0 if surge else 1))


def current(deployment: Thing, sets: Sequence[Thing]) -> Thing | None:
    """The ReplicaSet of the Deployment's template."""
    template = without_hash(deployment.spec.get("template") or {})
    matching = [found for found in sets if without_hash(found.spec.get("template") or {}) == template]
    return min(matching, key=lambda found: found.metadata.creation_timestamp or "", default=None)


def revision(found: Thing) -> int:
    """The revision of a ReplicaSet, 0 when it has none."""
    text = found.metadata.annotations.get(REVISION_ANNOTATION, "")
    return int(text) if text.isdigit() else 0


def name_of(deployment: Thing, sets: Sequence[Thing]) -> tuple[str, str]:
    """Name and hash of the ReplicaSet to make; another hash when the name is taken by another template."""
    template = deployment.spec.get("template") or {}
    found, taken = template_hash(template), {one.name for one in sets}
    count = 0
    while f"{deployment.name}-{found}" in taken:
        count += 1
        found = template_hash({**template, "collision": count})
    return f"{deployment.name}-{found}", found


def _replicas(found: Thing) -> int:
    return int(found.spec.get("replicas") or 0)


def _available(found: Thing) -> int:
    return int(found.status.get("availableReplicas") or 0)


def _present(found: Thing) -> int:
    return int(found.status.get("replicas") or 0)


def scales(deployment: Thing, new: Thing, old: Sequence[Thing]) -> Mapping[str, int]:
    """ReplicaSet name to wanted replicas, only where they change; ``old`` are all but ``new``."""
    wanted = int(deployment.spec.get("replicas") or 0)
    if dig(deployment.spec, "strategy", "type") == "Recreate":
        targets = {found.name: 0 for found in old}
        targets[new.name] = 0 if any(_present(found) for found in old) else wanted
        if _replicas(new) and not any(_present(found) for found in old):
            targets[new.name] = wanted
    else:
        targets = _rolling(wanted, bounds(deployment.spec), new, old)
    sizes = {found.name: _replicas(found) for found in (new, *old)}
    return {name: size for name, size in targets.items() if sizes[name] != size}


def _rolling(wanted: int, limits: Bounds, new: Thing, old: Sequence[Thing]) -> dict[str, int]:
    live = [found for found in old if _replicas(found)]
    others = sum(map(_replicas, live))
    if not others:
        return {new.name: wanted}
    room = wanted + limits.surge - others - _replicas(new)
    targets = {new.name: min(wanted, _replicas(new) + max(room, 0))}
    if _replicas(new) > wanted:
        targets[new.name] = wanted
    least = wanted - limits.unavailable
    missing_new = _replicas(new) - _available(new)
    spare = others + _replicas(new) - least - missing_new
    for found in sorted(live, key=revision):
        broken = max(_replicas(found) - _available(found), 0)
        size = _replicas(found) - min(broken, max(spare, 0))
        spare -= _replicas(found) - size
        targets[found.name] = size
    ready = _available(new) + sum(min(_available(found), targets[found.name]) for found in live) - least
    for found in sorted(live, key=revision):
        step = min(targets[found.name], max(ready, 0))
        targets[found.name] -= step
        ready -= step
    return targets
