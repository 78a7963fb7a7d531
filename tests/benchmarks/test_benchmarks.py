"""The benchmarks work: small cases of each, as a person starts them. Their figures are not looked at."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
from pathlib import Path

import pytest
from tests.real_server import kubernetes_programs

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


async def _run(*words: str) -> tuple[int, str]:
    """A Python program of ours: its exit code and what it wrote."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode()


@pytest.mark.timeout(300)
async def test_tables_on_loopback() -> None:
    """Protects the tables of mic: real processes are started, assign, remove, and are gone again."""
    code, text = await _run(str(BENCHMARKS / "run.py"), "--quick", "events", "scale", "assignment", "clusters")
    assert code == 0, text
    assert "pod added" in text
    assert "remove, default flags" in text
    assert "quiet: a pod bound then waits" in text
    assert re.search(r"a CronJob's pod.*\b2 \(2\)", text)
    assert text.count("Compares:") == text.count("Bounded by:") == 4


@pytest.mark.timeout(300)
async def test_a_start_on_a_real_server() -> None:
    """Protects the way round the API server: it serves what was put into etcd, and mic goes on from there."""
    kubernetes_programs("etcd", "kube-apiserver")
    code, text = await _run(str(BENCHMARKS / "run.py"), "--quick", "start")
    assert code == 0, text
    assert "1,000 labelled" in text


@pytest.mark.timeout(120)
async def test_mounts() -> None:
    """Protects the table of csi-provider: a real process mounts every object, and sees each new version once."""
    code, text = await _run(str(BENCHMARKS / "run.py"), "--quick", "mounts")
    assert code == 0, text
    assert "2 of 20 objects" in text


@pytest.mark.e2e
@pytest.mark.timeout(300)
async def test_tables_in_a_lab() -> None:
    """Protects the tables that need a whole lab: tokens reach the pod's load generator, every part is found."""
    code, text = await _run(str(BENCHMARKS / "run.py"), "--quick", "tokens", "agent", "waiting", "hostile", "rss")
    assert code == 0, text
    assert "static/s" in text
    assert "csi-provider" in text
    assert text.count("Bounded by:") == 5


async def test_tables_for_the_page() -> None:
    """Protects the reference page: the same table as Markdown, with its name as the heading."""
    code, text = await _run(str(BENCHMARKS / "run.py"), "--quick", "--markdown", "events")
    assert code == 0, text
    assert "## events\n" in text
    assert "| --- |" in text
    assert "| pod added | " in text


async def test_a_name_that_is_not_a_table() -> None:
    """Protects the usage: a misspelled name is answered with the names there are."""
    code, text = await _run(str(BENCHMARKS / "run.py"), "token")
    assert code == 2
    assert (
        "the tables are events, scale, start, assignment, clusters, tokens, agent, waiting, hostile, mounts, rss"
        in text
    )


async def test_the_load_generator_counts_what_the_server_sent() -> None:
    """Protects the measure itself: answers are whole, of the size asked for, none is refused."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    server = await asyncio.create_subprocess_exec(
        sys.executable, str(BENCHMARKS / "static_server.py"), "127.0.0.1", str(port), "70000"
    )
    try:
        await _until_open(port)
        plan = {"host": "127.0.0.1", "port": port, "path": "/x", "headers": {}, "connections": 3, "seconds": 0.2}
        code, text = await _run(str(BENCHMARKS / "load_generator.py"), json.dumps(plan))
    finally:
        server.kill()
        await server.wait()
    assert code == 0, text
    found = json.loads(text)
    assert (found["bytes"], found["refused"]) == (70000, 0)
    assert found["requests"] > 3
    assert 0 < found["p50"] <= found["p99"]


async def _until_open(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return
