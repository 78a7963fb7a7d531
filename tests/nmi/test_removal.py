"""Removal of the datapath from all nodes: a node's part, and the wait for all of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
import pytest
from tests.ports import free_port

from podidentity.config.errors import ConfigError
from podidentity.kube.errors import KubeUnavailable
from podidentity.nmi.datapath.choice import NftTool
from podidentity.nmi.datapath.programs import DatapathFailed
from podidentity.nmi.datapath.rules import BRIDGE, GUARD, REDIRECT
from podidentity.nmi.removal import READY_PATH, await_daemonset, stay_removed
from podidentity.telemetry.logging import get_logger
from podidentity.telemetry.status import Probe, StatusServer

QUICK = 0.01


class Tables:
    """An nft that knows only which tables there are, and says ``busy`` to so many removals."""

    def __init__(self, *there: str, busy: int = 0) -> None:
        self.there = set(there)
        self.busy = busy

    async def __call__(self, args: tuple[str, ...], text: str) -> str:
        """List a table, or remove the one in ``text``."""
        if "list" in args:
            if " ".join(args[-2:]) not in self.there:
                raise DatapathFailed("No such file or directory")
        elif self.busy:
            self.busy -= 1
            raise DatapathFailed("Device or resource busy")
        else:
            self.there.discard(text.splitlines()[-1].removeprefix("delete table "))
        return ""


class Answers:
    """An API that gives these answers in turn, the last one for ever."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.paths: set[str] = set()

    async def raw(self, method: str, path: str) -> bytes:
        """The next one."""
        assert method == "GET"
        self.paths.add(path)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def daemonset(ready: int, desired: int, observed: int = 1) -> bytes:
    """An answer of the API."""
    status = {"observedGeneration": observed, "desiredNumberScheduled": desired, "numberReady": ready}
    return json.dumps({"kind": "DaemonSet", "metadata": {"generation": 1}, "status": status}).encode()


@asynccontextmanager
async def staying(tables: Tables, port: int) -> AsyncIterator[None]:
    """The node's part, running."""
    task = asyncio.ensure_future(stay_removed(port, get_logger(), [NftTool(tables)], pause=QUICK))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_ready(port: int) -> None:
    """Ask until it says so where the cleanup is asked."""
    async with asyncio.timeout(20), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{port}{READY_PATH}") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(QUICK)


@pytest.mark.parametrize("there", [(), (GUARD,), (GUARD, BRIDGE, REDIRECT)])
async def test_a_node_is_ready_once_nothing_is_left(there: Sequence[str]) -> None:
    """Whatever part of the datapath is there goes; nft that is busy delays it."""
    tables, port = Tables(*there, busy=2), free_port()
    async with staying(tables, port):
        await until_ready(port)
        assert not tables.there


async def test_what_a_running_nmi_puts_back_is_removed_once_it_has_ended() -> None:
    """As long as an nmi holds the probe port nothing is touched: it would repair what is removed.

    Nor does a ready nmi answer that probe for the cleanup that waits, which would be taken for done.
    """
    tables, port = Tables(GUARD, REDIRECT), free_port()
    nmi = StatusServer(port=port, probe=Probe(lambda: "Active", list), metrics=None)
    async with nmi, staying(tables, port), aiohttp.ClientSession() as session:
        await asyncio.sleep(20 * QUICK)
        assert tables.there == {GUARD, REDIRECT}
        async with session.get(f"http://127.0.0.1:{port}{READY_PATH}") as answer:
            assert answer.status == 404


async def test_an_ended_nmi_makes_way() -> None:
    """The port is taken over, and then the datapath is removed."""
    tables, port = Tables(GUARD, REDIRECT), free_port()
    nmi = StatusServer(port=port, probe=Probe(lambda: "Active", lambda: ["nmi"]), metrics=None)
    await nmi.__aenter__()
    async with staying(tables, port):
        await asyncio.sleep(5 * QUICK)
        await nmi.__aexit__(None, None, None)
        await until_ready(port)
        assert not tables.there


async def test_the_wait_ends_when_every_node_is_ready() -> None:
    """An API that is away, a DaemonSet just made, and nodes that take their time are waited for."""
    api = Answers(KubeUnavailable("away"), b"[]", daemonset(0, 0, observed=0), daemonset(1, 2), daemonset(2, 2))
    await await_daemonset(api, "kube-system/cleanup", get_logger(), pause=QUICK)
    assert api.paths == {"/apis/apps/v1/namespaces/kube-system/daemonsets/cleanup"}


async def test_the_wait_gives_up_and_says_what_to_do() -> None:
    """A node that is down does not hold an uninstallation for ever, and is not passed over in silence."""
    with pytest.raises(ConfigError, match=r"ready on 1 of 2 nodes after 0.1 s; run `podidentity nmi --uninstall-data"):
        await await_daemonset(Answers(daemonset(1, 2)), "a/b", get_logger(), patience=0.1, pause=QUICK)
