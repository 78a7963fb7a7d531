"""The commands as processes: started, stopped and refused."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.ports import free_port


@asynccontextmanager
async def command(*argv: str, **environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run ``podidentity`` with nothing in its environment but what is given; killed when left."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "podidentity", *argv),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **environ},
    )
    try:
        async with asyncio.timeout(60):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def answer(*argv: str, **environ: str) -> tuple[int | None, str]:
    """Run to the end; give the exit code and the last line of stderr."""
    async with command(*argv, **environ) as process:
        _, errors = await process.communicate()
        return process.returncode, errors.decode().splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_component_ends_normally_on_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    """The kubelet's SIGTERM and a person's Ctrl-C end a running component with exit code 0 and no trace."""
    health, metrics = free_port(), free_port()
    flags = (f"--endpoint=unix://{tmp_path}/azure.sock", f"--healthz-port={health}", f"--prometheus-port={metrics}")
    async with command("csi-provider", *flags) as process:
        assert process.stderr is not None
        while b"registered and exported metrics" not in (line := await process.stderr.readline()):
            assert line
        process.send_signal(number)
        rest = await process.stderr.read()
        assert await process.wait() == 0
        assert b"Traceback" not in rest


async def test_a_busy_port_is_one_line(tmp_path: Path) -> None:
    """A component whose port is taken ends with exit code 1, naming the port and who has it."""
    health = free_port()
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        code, last = await answer(
            *("csi-provider", f"--endpoint=unix://{tmp_path}/azure.sock"),
            *(f"--healthz-port={health}", f"--prometheus-port={port}"),
        )
    assert code == 1
    assert last.startswith(f"podidentity csi-provider: port {port} is in use by ")
    assert f"(pid {os.getpid()})" in last


async def test_mic_outside_a_cluster_is_one_line() -> None:
    """Without a cluster around it mic says which flag would help."""
    code, last = await answer("mic", MIC_POD_NAMESPACE="default")
    assert code == 1
    assert last.startswith("podidentity mic: not in a cluster: ")


async def test_mic_with_a_wrong_kubeconfig_is_one_line(tmp_path: Path) -> None:
    """A kubeconfig that is not there is named."""
    code, last = await answer("mic", f"--kubeconfig={tmp_path}/none", MIC_POD_NAMESPACE="default")
    assert code == 1
    assert last.startswith(f"podidentity mic: {tmp_path}/none: ")


def written_to(stdout: int | None, *argv: str, shell: str = 'exec "$@"') -> tuple[int, str]:
    """Run ``podidentity`` with that stdout; give exit code and stderr."""
    done = subprocess.run(
        ["sh", "-c", shell, "sh", sys.executable, "-m", "podidentity", *argv],
        **({} if stdout is None else {"stdout": stdout}),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("argv", [["--help"], ["mic", "--help"], ["version"], ["validate", "--help"]])
def test_a_reader_that_went_away_is_no_trace(argv: Sequence[str]) -> None:
    """``podidentity ... | head`` ends quietly, with the code of a broken pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    assert written_to(writer, *argv) == (141, "")
    os.close(writer)


@pytest.mark.parametrize("argv", [["--help"], ["nmi", "--version"], ["version", "--json"]])
def test_a_full_disk_is_one_line(argv: Sequence[str]) -> None:
    """An answer that cannot be written is exit 1 and one line."""
    with Path("/dev/full").open("w") as full:
        code, errors = written_to(full.fileno(), *argv)
    assert (code, errors.count("\n")) == (1, 1)
    assert errors.endswith(": No space left on device\n")


def test_a_closed_output_is_no_error() -> None:
    """Who closes stdout does not want the answer."""
    assert written_to(None, "mic", "--help", shell='exec "$@" >&-') == (0, "")
