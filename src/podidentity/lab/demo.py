"""``podidentity lab demo``: a new lab in a new directory, the walkthrough played in it, nothing left afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from podidentity.config.errors import ConfigError
from podidentity.lab.layout import Layout
from podidentity.lab.outer import Wish, needed_programs, remove_directory, running_lab
from podidentity.lab.scenarios.from_terraform import FromTerraform
from podidentity.lab.scenarios.walkthrough import Walkthrough
from podidentity.lab.story import Story

PREFIX = "podidentity-demo-"
STALE_SECONDS = 600.0
"""A demo's directory that has no lock after this time never gets one."""


def sweep(folder: Path) -> None:
    """Remove what demos left that were killed: their directories, told by a lock nobody holds."""
    for stale in folder.glob(f"{PREFIX}*"):
        try:
            found = stale.lstat()
            if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
                continue
            if not (stale / "lab.lock").exists() and time.time() - found.st_mtime > STALE_SECONDS:
                remove_directory(Layout(stale))
            handle = os.open(stale / "lab.lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_directory(Layout(stale))
        except BlockingIOError:
            continue
        finally:
            os.close(handle)


@contextlib.contextmanager
def _new_directory() -> Iterator[Path]:
    folder = Path(tempfile.gettempdir())
    sweep(folder)
    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
    try:
        yield directory
    finally:
        remove_directory(Layout(directory))


def _where_commands_go(story: Story, kubectl: str | None, kubeconfig: Path) -> None:
    if kubectl:
        story.answered(f"Cluster commands below are run by {kubectl} with KUBECONFIG={kubeconfig}.")
    else:
        story.answered("kubectl is not used: 'podidentity lab get|apply|logs|exec' do its part below.")
    story.answered("az is not run: what it would send is sent to the simulated Azure directly.")


def _require_sdk() -> None:
    """ConfigError when what the second pod runs is not installed."""
    try:
        found = importlib.util.find_spec("azure.keyvault.secrets")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ConfigError("the demo needs azure-keyvault-secrets: pip install 'podidentity[lab]', or `make demo`")


SERVERS = {"embedded": "the embedded API server", "real": "kube-apiserver with etcd"}


async def play(console: Console | None, wish: Wish, *, full: bool = False) -> Story:
    """Play the demo in the wished lab, but in a directory of its own; the story says what was claimed and what held.

    ``full``: with our own commands from ``terraform output -json`` on.
    """
    _require_sdk()
    needed_programs(wish.api_server)
    story = Story(console)
    begun = time.monotonic()
    with _new_directory() as directory:
        story.step(f"Start a cluster on this machine: {wish.api_server} Kubernetes, simulated Azure, real processes")
        asked = "" if wish.api_server == "embedded" else f" --api-server={wish.api_server}"
        story.typed(f"podidentity lab up --dir {directory} --nodes {wish.nodes}{asked}")
        status = console.status("starting") if console and console.is_terminal else None
        with status or contextlib.nullcontext():
            async with running_lab(
                replace(wish, directory=directory), status.update if status else (lambda _stage: None)
            ) as lab:
                if status:
                    status.stop()
                story.answered(
                    "\n".join(f"{node.name}  {node.address}  pods {node.pod_cidr}" for node in lab.spec.nodes)
                )
                version = story.facts["kubernetesVersion"] = await lab.cluster.version()
                story.answered(f"API server: {SERVERS[lab.spec.api_server]}, Kubernetes {version}")
                _where_commands_go(story, wish.kubectl, lab.layout.kubeconfig)
                story.why("Each node is a network namespace of its own; no route leads out.")
                await (FromTerraform if full else Walkthrough)(lab, story).play()
    story.facts["seconds"] = round(time.monotonic() - begun, 1)
    story.facts["kubectl"] = wish.kubectl or ""
    story.facts["apiServer"] = wish.api_server
    return story
