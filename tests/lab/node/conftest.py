"""Fixtures of the kubelet's tests."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from bench import Cluster, bench, cluster


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One world for all tests of this folder."""
    with bench(tmp_path_factory.mktemp("world")) as folder:

        async def prepare() -> None:
            async with cluster(folder) as found:
                path = "/api/v1/namespaces/default"
                account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
                await found.create(f"{path}/serviceaccounts", **account)
                root = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt"}}
                data = {"ca.crt": (folder / "pki" / "ca.crt").read_text()}
                await found.create(f"{path}/configmaps", **root, data=data)

        asyncio.run(prepare())
        yield folder


@pytest.fixture
async def lab(world: Path) -> AsyncIterator[Cluster]:
    """The world's API."""
    async with cluster(world) as found:
        yield found
