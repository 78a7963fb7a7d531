"""The simulated Azure as a process: start, kill, start again."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.lab.cloud.conftest import APP1, ARM, SEED, VM

from podidentity.lab.cloud import AdminClient

COMMAND = (sys.executable, "-m", "podidentity.lab.cloud")


def arguments(folder: Path) -> list[str]:
    """A command line for a state in the folder."""
    seed = folder / "seed.json"
    seed.write_text(SEED)
    options = {"--state-dir": folder / "state", "--seed": seed, "--https": "127.0.0.1:0", "--imds": "127.0.0.1:0"}
    options |= {"--admin-socket": folder / "admin.sock", "--ready-file": folder / "ready.json"}
    return [str(word) for pair in options.items() for word in pair]


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    """A process that is ready, and what its ready file says; killed in the end."""
    ready = folder / "ready.json"
    ready.unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(*COMMAND, *arguments(folder))
    try:
        async with asyncio.timeout(20):
            while not ready.exists():
                assert process.returncode is None
                await asyncio.sleep(0.02)
        yield process, json.loads(ready.read_bytes())
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def token_of(folder: Path) -> dict[str, str]:
    """The owner's header."""
    async with AdminClient(folder / "admin.sock") as client:
        answer = await client.call("POST", "/tokens", {"resource": ARM})
    return {"Authorization": f"Bearer {answer['access_token']}"}


async def test_a_killed_process_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    """Protects the state over SIGKILL under load: every acknowledged write, the running operation, the signing key."""
    made: set[str] = set()

    async def write(session: aiohttp.ClientSession, base: str, lane: int) -> None:
        for number in range(10_000):
            path = APP1.replace("app1", f"id-{lane}-{number}")
            async with session.put(f"{base}{path}?api-version=2024-11-30", json={}) as reply:
                assert reply.status == 201
            made.add(path.rpartition("/")[2])

    async with started(tmp_path) as (process, ready):
        headers = await token_of(tmp_path)
        async with AdminClient(tmp_path / "admin.sock") as client:
            await client.call("PUT", "/faults", {"arm_limits": None, "arm_delay_vm": 3600})
        async with aiohttp.ClientSession(headers=headers) as session:
            body = {"identity": {"type": "UserAssigned", "userAssignedIdentities": {APP1: {}}}}
            async with session.patch(f"{ready['https']}{VM}?api-version=2024-07-01", json=body) as reply:
                link = reply.headers["azure-asyncoperation"].removeprefix(ready["https"])
            writers = [asyncio.create_task(write(session, ready["https"], lane)) for lane in range(4)]
            await asyncio.sleep(0.3)
            process.kill()
            results = await asyncio.gather(*writers, return_exceptions=True)
    assert all(isinstance(result, (aiohttp.ClientError, OSError)) for result in results)
    assert made
    async with started(tmp_path) as (process, ready), aiohttp.ClientSession(headers=headers) as session:
        async with session.get(f"{ready['https']}{APP1.rpartition('/')[0]}?api-version=2024-11-30") as reply:
            kept = {one["name"] for one in (await reply.json())["value"]}
        assert made <= kept
        async with session.get(ready["https"] + link) as reply:
            assert (await reply.json())["status"] == "InProgress"
        async with session.get(f"{ready['https']}{VM}?api-version=2024-07-01") as reply:
            assert (await reply.json())["properties"]["provisioningState"] == "Updating"
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"--seed": "/nonexistent"}, "No such file"),
        ({"--https": "192.0.2.1:1"}, "192.0.2.1"),
        ({"--tls-cert": "/nonexistent"}, "belong together"),
    ],
)
async def test_a_start_that_fails_says_why_in_one_line(tmp_path: Path, change: dict[str, str], text: str) -> None:
    """Protects whoever starts it: exit 1, one line, no traceback."""
    words = arguments(tmp_path) + [word for pair in change.items() for word in pair]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*COMMAND, *words, stderr=pipe)
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert errors.decode().count("\n") == 1
    assert text in errors.decode()
