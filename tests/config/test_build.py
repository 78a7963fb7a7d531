"""The build's own description."""

from __future__ import annotations

from podidentity import __version__
from podidentity.config.build import Build


def test_commit_and_date_come_from_the_image() -> None:
    """An image says which build it is; without one the words are fixed, never empty."""
    assert Build.of({}) == Build(version=__version__, commit="unknown", date="unknown")
    assert Build.of({"PODIDENTITY_COMMIT": "abc", "PODIDENTITY_BUILD_DATE": "2026-11-23"}).line == (
        f"MIC Version: {__version__} - NMI Version: {__version__} - Commit: abc - Date: 2026-11-23"
    )


def test_user_agent_is_the_originals() -> None:
    """Azure's and Kubernetes' logs show the agent they showed before."""
    build = Build("1.2.3", "abc", "2026-11-23-10:00")
    assert build.user_agent("NMI") == "aad-pod-identity/NMI/1.2.3/abc/2026-11-23-10:00"
    assert build.user_agent("MIC", "me") == "aad-pod-identity/MIC/1.2.3/abc/2026-11-23-10:00 me"
