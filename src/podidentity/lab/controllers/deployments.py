"""Deployments: one ReplicaSet a template, rolled over step by step."""

from __future__ import annotations

import random
from collections.abc import Sequence

from podidentity.aio.clock import Clock
from podidentity.kube.errors import AlreadyExists, NotFound
from podidentity.kube.store import Change
from podidentity.lab.controllers import rollout
from podidentity.lab.controllers.access import Access
from podidentity.lab.controllers.cache import Cache
from podidentity.lab.controllers.queue import WorkQueue
from podidentity.lab.controllers.replicas import BY_OWNER
from podidentity.lab.controllers.things import (
    DEPLOYMENTS,
    HASH_LABEL,
    REPLICA_SETS,
    REVISION_ANNOTATION,
    Json,
    Thing,
    controller_of,
    owner_reference,
    selects,
)
from podidentity.lab.controllers.when import rfc3339

_COPIED = "kubectl.kubernetes.io/last-applied-configuration"


class Deployments:
    """The controller. ``sets`` has the index BY_OWNER."""

    def __init__(
        self, access: Access, deployments: Cache[Thing], sets: Cache[Thing], *, clock: Clock, rng: random.Random
    ) -> None:
        self._access = access
        self._deployments = deployments
        self._sets = sets
        self._clock = clock
        self.queue = WorkQueue("deployments", self._reconcile, rng=rng)
        deployments.listen(self._changed)
        sets.listen(self._set_changed)

    def _changed(self, change: Change[Thing]) -> None:
        if change.new is not None:
            self.queue.add(change.new.key)

    def _set_changed(self, change: Change[Thing]) -> None:
        for found in (change.old, change.new):
            owner = next((ref for ref in found.metadata.owner_references if ref.controller), None) if found else None
            if found and owner and owner.kind == DEPLOYMENTS.kind:
                self.queue.add(f"{found.namespace}/{owner.name}")
            elif found and not owner:
                for deployment in self._deployments.store.values():
                    if deployment.namespace == found.namespace:
                        self.queue.add(deployment.key)

    async def _reconcile(self, key: str) -> None:
        deployment = self._deployments.store.get(key)
        if deployment is None or deployment.ending:
            return
        await self._adopt(deployment)
        sets = self._owned(deployment)
        if not deployment.spec.get("paused"):
            await self._roll(deployment, sets)
        try:
            await self._write_status(deployment)
        except NotFound:
            return

    def _owned(self, deployment: Thing) -> tuple[Thing, ...]:
        return self._sets.store.by_index(BY_OWNER, deployment.uid)

    async def _adopt(self, deployment: Thing) -> None:
        for found in self._sets.store.values():
            if found.namespace != deployment.namespace or controller_of(found) or found.ending:
                continue
            if selects(deployment.spec.get("selector"), found.metadata.labels):
                references = {"metadata": {"ownerReferences": [owner_reference(DEPLOYMENTS, deployment)]}}
                adopted = await self._access.patch(REPLICA_SETS, found, references)
                await self._seen(adopted)

    async def _roll(self, deployment: Thing, sets: Sequence[Thing]) -> None:
        new = rollout.current(deployment, sets)
        latest = max(map(rollout.revision, sets), default=0)
        if new is None:
            new = await self._create(deployment, sets, latest + 1)
        elif rollout.revision(new) < latest:
            annotations = {REVISION_ANNOTATION: str(latest + 1)}
            new = await self._access.patch(REPLICA_SETS, new, {"metadata": {"annotations": annotations}})
            await self._seen(new)
        shown = str(rollout.revision(new))
        if deployment.metadata.annotations.get(REVISION_ANNOTATION) != shown:
            note = {"metadata": {"annotations": {REVISION_ANNOTATION: shown}}}
            await self._access.patch(DEPLOYMENTS, deployment, note)
        old = [found for found in sets if found.uid != new.uid]
        named = {found.name: found for found in (new, *old)}
        for name, size in rollout.scales(deployment, new, old).items():
            await self._seen(await self._access.patch(REPLICA_SETS, named[name], {"spec": {"replicas": size}}))
        await self._clean(deployment, old)

    async def _create(self, deployment: Thing, sets: Sequence[Thing], revision: int) -> Thing:
        name, digest = rollout.name_of(deployment, sets)
        body = self._set_for(deployment, name, digest, revision)
        if not sets:
            body["spec"]["replicas"] = deployment.spec.get("replicas") or 0
        try:
            made = await self._access.create(REPLICA_SETS, deployment.namespace, body)
        except AlreadyExists:
            await self._sets.until(lambda store: store.get(f"{deployment.namespace}/{name}") is not None)
            raise
        await self._seen(made)
        return made

    @staticmethod
    def _set_for(deployment: Thing, name: str, digest: str, revision: int) -> dict[str, dict[str, object]]:
        template: Json = deployment.spec.get("template") or {}
        metadata: Json = template.get("metadata") or {}
        labels = {**(metadata.get("labels") or {}), HASH_LABEL: digest}
        selector: Json = deployment.spec.get("selector") or {}
        annotations = {key: value for key, value in deployment.metadata.annotations.items() if key != _COPIED}
        spec: dict[str, object] = {
            "replicas": 0,
            "selector": {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), HASH_LABEL: digest}},
            "template": {**template, "metadata": {**metadata, "labels": labels}},
        }
        if deployment.spec.get("minReadySeconds"):
            spec["minReadySeconds"] = deployment.spec["minReadySeconds"]
        return {
            "metadata": {
                "name": name,
                "labels": labels,
                "annotations": {**annotations, REVISION_ANNOTATION: str(revision)},
                "ownerReferences": [owner_reference(DEPLOYMENTS, deployment)],
            },
            "spec": spec,
        }

    async def _clean(self, deployment: Thing, old: Sequence[Thing]) -> None:
        limit = deployment.spec.get("revisionHistoryLimit")
        empty = [found for found in old if not found.spec.get("replicas") and not found.status.get("replicas")]
        surplus = len(empty) - (10 if limit is None else int(limit))
        for found in sorted(empty, key=rollout.revision)[: max(surplus, 0)]:
            await self._access.delete(REPLICA_SETS, found)

    async def _seen(self, written: Thing) -> None:
        """Wait until the cache holds what was written."""
        least = int(written.metadata.resource_version or 0)

        def current(found: Thing | None) -> bool:
            return found is None or int(found.metadata.resource_version or 0) >= least

        await self._sets.until(lambda store: store.get(written.key) is not None and current(store.get(written.key)))

    async def _write_status(self, deployment: Thing) -> None:
        sets = self._owned(deployment)
        status = status_of(deployment, sets, rollout.current(deployment, sets), self._clock.wall())
        await self._access.status(DEPLOYMENTS, deployment, status)


def status_of(deployment: Thing, sets: Sequence[Thing], new: Thing | None, now: float) -> Json:
    """``status`` of a Deployment."""

    def total(name: str) -> int:
        return sum(int(found.status.get(name) or 0) for found in sets)

    wanted, here, ready = int(deployment.spec.get("replicas") or 0), total("replicas"), total("availableReplicas")
    updated = int(new.status.get("replicas") or 0) if new else 0
    enough = ready >= wanted - rollout.bounds(deployment.spec).unavailable
    done = updated == wanted == here and ready >= wanted
    name = new.name if new else deployment.name
    conditions = [
        _condition(
            "Available",
            holds=enough,
            reason="MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
            message=f"Deployment {'has' if enough else 'does not have'} minimum availability.",
        ),
        _condition(
            "Progressing",
            holds=True,
            reason="NewReplicaSetAvailable" if done else "ReplicaSetUpdated",
            message=f'ReplicaSet "{name}" {"has successfully progressed" if done else "is progressing"}.',
        ),
    ]
    return {
        "observedGeneration": deployment.metadata.generation,
        "replicas": here or None,
        "updatedReplicas": updated or None,
        "readyReplicas": total("readyReplicas") or None,
        "availableReplicas": ready or None,
        "unavailableReplicas": max(max(wanted, here) - ready, 0) or None,
        "conditions": _dated(deployment, conditions, now),
    }


def _condition(name: str, *, holds: bool, reason: str, message: str) -> dict[str, str]:
    return {"type": name, "status": "True" if holds else "False", "reason": reason, "message": message}


def _dated(deployment: Thing, conditions: Sequence[dict[str, str]], now: float) -> list[Json]:
    """The conditions with their times: those of before where nothing changed."""
    before = {item.get("type"): item for item in deployment.status.get("conditions") or ()}
    dated: list[Json] = []
    for item in conditions:
        old, stamp = before.get(item["type"]) or {}, rfc3339(now)
        same = all(old.get(key) == value for key, value in item.items())
        turned = old.get("lastTransitionTime") if old.get("status") == item["status"] else None
        updated = old.get("lastUpdateTime") if same else None
        dated.append({**item, "lastUpdateTime": updated or stamp, "lastTransitionTime": turned or stamp})
    return dated
