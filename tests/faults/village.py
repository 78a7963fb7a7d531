"""A cluster that lives on a real API server, and somebody who follows its objects; for real time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Any, Final

import aiohttp
from tests.faults.ledger import WATCHED, Balance, Ledger, balance
from tests.faults.patches import Patches
from tests.faults.site import Api

GROUP: Final = "/apis/aadpodidentity.k8s.io/v1"
PATHS: Final = {name: f"/api/v1/{name}" if name in {"pods", "nodes"} else f"{GROUP}/{name}" for name in WATCHED}


def path_of(resource: str, item: dict[str, Any]) -> str:
    """Where an object is."""
    root, meta = PATHS[resource].rpartition("/")[0], item["metadata"]
    within = f"/namespaces/{meta['namespace']}" if "namespace" in meta else ""
    return f"{root}{within}/{resource}/{meta['name']}"


async def swept(api: Api) -> None:
    """Delete every object of the resources that mic looks at, whatever holds it."""
    for resource in WATCHED:
        for item in (await api.call("GET", PATHS[resource]))["items"]:
            path = path_of(resource, item)
            if item["metadata"].get("finalizers"):
                await api.call("PATCH", path, {"metadata": {"finalizers": None}})
            await api.call("DELETE", f"{path}?gracePeriodSeconds=0")


async def compacted(etcd_port: int) -> None:
    """Have etcd forget what was: watches that want to go on from there get 410."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{etcd_port}") as etcd:
        async with etcd.post("/v3/kv/range", json={"key": "AA=="}) as answer:
            revision = (await answer.json())["header"]["revision"]
        async with etcd.post("/v3/kv/compaction", json={"revision": revision, "physical": True}) as answer:
            assert answer.status == 200, await answer.text()


class Village:
    """Follows the objects of one API server into a ledger, also over its restarts."""

    def __init__(self, api: Api) -> None:
        self.ledger = Ledger()
        self._api = api

    async def call(self, method: str, path: str, body: object) -> Any:
        """What life asks of the API; None where an object is not there, or is there already."""
        try:
            return await self._api.call(method, path, body)
        except aiohttp.ClientResponseError as error:
            if error.status != 409:
                raise
            return None

    def balance(self, patches: Patches) -> Balance:
        """What is not as it should be now."""
        return balance(self.ledger.objects, patches.attached(), patches.before)

    async def follow(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for resource in WATCHED:
                tasks.create_task(self._follow(resource))

    async def _follow(self, resource: str) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                found = await self._api.call("GET", PATHS[resource])
                there = {path_of(resource, item) for item in found["items"]}
                for known in list(self.ledger.objects[resource].values()):
                    if path_of(resource, dict(known)) not in there:
                        self.ledger.see(time.time(), resource, known, gone=True)
                for item in found["items"]:
                    self.ledger.see(time.time(), resource, item, gone=False)
                await self._watch(resource, found["metadata"]["resourceVersion"])
            await asyncio.sleep(0.05)

    async def _watch(self, resource: str, version: str) -> None:
        url = f"{self._api.url}{PATHS[resource]}?watch=1&resourceVersion={version}"
        async with self._api.session.get(url, timeout=aiohttp.ClientTimeout(total=None)) as answer:
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] in {"ADDED", "MODIFIED", "DELETED"}:
                    self.ledger.see(time.time(), resource, event["object"], gone=event["type"] == "DELETED")
