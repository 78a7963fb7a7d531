"""Which build this is: the version line and the user agent. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from podidentity import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Build:
    """Version, commit and date of the build; images set the last two in their environment."""

    version: str = __version__
    commit: str = "unknown"
    date: str = "unknown"

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """Read ``PODIDENTITY_COMMIT`` and ``PODIDENTITY_BUILD_DATE``."""
        return cls(
            commit=environ.get("PODIDENTITY_COMMIT") or "unknown",
            date=environ.get("PODIDENTITY_BUILD_DATE") or "unknown",
        )

    @property
    def line(self) -> str:
        """What ``mic --version`` and ``nmi --version`` print."""
        return f"MIC Version: {self.version} - NMI Version: {self.version} - Commit: {self.commit} - Date: {self.date}"

    def user_agent(self, component: Literal["MIC", "NMI"], custom: str = "") -> str:
        """Give ``aad-pod-identity/<component>/<version>/<commit>/<date>`` and, after a blank, what was configured."""
        agent = f"aad-pod-identity/{component}/{self.version}/{self.commit}/{self.date}"
        return f"{agent} {custom}" if custom else agent
