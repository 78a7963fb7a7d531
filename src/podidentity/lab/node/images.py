"""What each image runs: a table, since pods are processes of this machine. Pure.

``command`` in a pod replaces the entry point and its default arguments, ``args`` the default arguments, as with real
images.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from podidentity.lab.node.kits import AZURE_CLI, SDK_JS


@dataclass(frozen=True, slots=True)
class Image:
    """An image's entry point and default arguments; ``kit`` names what it runs that is installed apart."""

    entrypoint: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    kit: str = ""


def _ours(subcommand: str) -> Image:
    return Image((sys.executable, "-m", "podidentity", subcommand))


_SHELL: Final = Image(arguments=("sh",))
WEB_ROOT: Final = "/srv"

IMAGES: Final[Mapping[str, Image]] = {
    "podidentity/mic": _ours("mic"),
    "podidentity/nmi": _ours("nmi"),
    "podidentity/csi-provider": _ours("csi-provider"),
    "mcr.microsoft.com/oss/azure/aad-pod-identity/mic": _ours("mic"),
    "mcr.microsoft.com/oss/azure/aad-pod-identity/nmi": _ours("nmi"),
    "mcr.microsoft.com/oss/azure/secrets-store/provider-azure": _ours("csi-provider"),
    "mcr.microsoft.com/oss/*/azure/secrets-store/provider-azure": _ours("csi-provider"),
    "podidentity/azure-sdk": Image((sys.executable,)),
    "podidentity/azure-sdk-js": Image(("node",), kit=SDK_JS),
    "mcr.microsoft.com/azure-cli": Image(arguments=("bash",), kit=AZURE_CLI),
    "python": Image(arguments=(sys.executable,)),
    "node": Image(arguments=("node",)),
    "nginx": Image((sys.executable, "-m", "http.server", "80", "--directory", WEB_ROOT)),
    "busybox": _SHELL,
    "alpine": _SHELL,
    "debian": _SHELL,
    "ubuntu": _SHELL,
}


def repository(image: str) -> str:
    """The name without registry prefix of Docker Hub, tag and digest."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    name = f"{head}{slash}{last.partition(':')[0]}"
    for prefix in ("docker.io/", "index.docker.io/", "library/"):
        name = name.removeprefix(prefix)
    return name


def find(image: str) -> Image | None:
    """What ``image`` runs, None when the table does not know it."""
    name = repository(image)
    return next((found for pattern, found in IMAGES.items() if fnmatchcase(name, pattern)), None)


def unknown(image: str) -> str:
    """The message of a pull that cannot succeed."""
    known = ", ".join(sorted(IMAGES))
    return f'failed to pull image "{image}": the lab runs images by its own table, which has: {known}'


def command_line(image: Image, command: Sequence[str], args: Sequence[str]) -> tuple[str, ...]:
    """The words to execute; empty when neither the image nor the pod names any."""
    if command:
        return (*command, *args)
    return (*image.entrypoint, *(args or image.arguments))
