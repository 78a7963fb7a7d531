"""The leader's two records, read by somebody who is no candidate; and the original, as far as its record goes."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import time
from typing import Any, Final

import aiohttp
from tests.faults.judge import Kind, Seen
from tests.faults.site import Api

NAME: Final = "aad-pod-identity-mic"
ENDPOINTS: Final = "/api/v1/namespaces/default/endpoints"
LEASES: Final = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
ANNOTATION: Final = "control-plane.alpha.kubernetes.io/leader"
PATHS: Final[dict[Kind, str]] = {"endpoints": ENDPOINTS, "leases": LEASES}


class Records:
    """Watches both objects; ``seen`` is every record they ever carried, in order of sight."""

    def __init__(self, api: Api) -> None:
        self.seen: list[Seen] = []
        self._api = api
        self._changed = asyncio.Event()

    async def watch(self) -> None:
        """Watch until cancelled, also over restarts of the API server."""
        async with asyncio.TaskGroup() as tasks:
            for kind in PATHS:
                tasks.create_task(self._watch(kind))

    def holder(self, kind: Kind) -> str:
        """Who holds a record, empty for nobody."""
        return next((one.holder for one in reversed(self.seen) if one.kind == kind), "")

    def leader(self, lease: float) -> str:
        """Who holds both, neither expired; empty for nobody."""
        names = {
            next((one.holder for one in reversed(self.seen) if one.kind == kind and time.time() < one.at + lease), "")
            for kind in PATHS
        }
        return names.pop() if len(names) == 1 else ""

    async def until_leader(self, *names: str, lease: float, since: float, within: float) -> Seen:
        """Wait until one of ``names`` has renewed both records after ``since``; its first such Lease."""
        async with asyncio.timeout(within):
            while True:
                self._changed.clear()
                leader = self.leader(lease) or None
                fresh = [one for one in self.seen if one.kind == "leases" and one.renewed > since]
                first = next((one for one in fresh if one.holder == leader and leader in names), None)
                if first is not None:
                    return first
                await self._changed.wait()

    async def _watch(self, kind: Kind) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                found = await self._api.call("GET", PATHS[kind])
                for item in found["items"]:
                    self._see(kind, item)
                await self._follow(kind, found["metadata"]["resourceVersion"])
            await asyncio.sleep(0.05)

    async def _follow(self, kind: Kind, version: str) -> None:
        url = f"{self._api.url}{PATHS[kind]}?watch=1&resourceVersion={version}"
        async with self._api.session.get(url, timeout=aiohttp.ClientTimeout(total=None)) as answer:
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] in {"ADDED", "MODIFIED"}:
                    self._see(kind, event["object"])

    def _see(self, kind: Kind, item: dict[str, Any]) -> None:
        if item["metadata"]["name"] != NAME:
            return
        holder, renewed = of_lease(item) if kind == "leases" else of_endpoints(item)
        last = next((one for one in reversed(self.seen) if one.kind == kind), None)
        if last is None or (holder, renewed) != (last.holder, last.renewed):  # else it was only listed again
            self.seen.append(Seen(time.time(), kind, holder, renewed))
            self._changed.set()


def of_endpoints(item: dict[str, Any]) -> tuple[str, float]:
    """Holder and time of the last renewal, in whole seconds."""
    record = json.loads(item["metadata"].get("annotations", {}).get(ANNOTATION, "{}"))
    return record.get("holderIdentity", ""), seconds(record.get("renewTime", ""))


def of_lease(item: dict[str, Any]) -> tuple[str, float]:
    """Holder and time of the last renewal."""
    spec = item.get("spec", {})
    return spec.get("holderIdentity", ""), seconds(spec.get("renewTime", ""))


def seconds(stamp: str) -> float:
    """Seconds since the epoch; 0 for no time."""
    return dt.datetime.fromisoformat(stamp).timestamp() if stamp else 0.0


class Original:
    """Renews the Endpoints record as the original does, and waits for another's as it does; knows no Lease."""

    def __init__(self, api: Api, lease: float) -> None:
        self._api = api
        self._lease = lease
        self._renewed: tuple[str, float] = ("", 0.0)
        self._transitions = 0

    async def hold(self) -> None:
        """Take the record when it is free or dead, then renew it until cancelled; what is left is not released."""
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                await self._try()
            await asyncio.sleep(self._lease / 4)

    async def _try(self) -> None:
        item = await self._api.call("GET", f"{ENDPOINTS}/{NAME}")
        now = time.time()
        if item is None:
            fresh = {
                "apiVersion": "v1",
                "kind": "Endpoints",
                "metadata": {"name": NAME, "annotations": self._record(now)},
            }
            await self._api.call("POST", ENDPOINTS, fresh)
            return
        text = item["metadata"].get("annotations", {}).get(ANNOTATION, "{}")
        if text != self._renewed[0]:
            self._renewed = (text, now)
        record = json.loads(text)
        self._transitions = record.get("leaderTransitions", 0)
        holder = record.get("holderIdentity", "")
        if holder in {"", "original"} or now > self._renewed[1] + self._lease:
            self._transitions += holder != "original"
            item["metadata"].setdefault("annotations", {}).update(self._record(now))
            await self._api.call("PUT", f"{ENDPOINTS}/{NAME}", item)

    def _record(self, now: float) -> dict[str, str]:
        stamp = dt.datetime.fromtimestamp(now, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        record = {
            "holderIdentity": "original",
            "leaseDurationSeconds": int(self._lease),
            "acquireTime": stamp,
            "renewTime": stamp,
            "leaderTransitions": self._transitions,
        }
        return {ANNOTATION: json.dumps(record)}
