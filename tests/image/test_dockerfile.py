"""The Dockerfile: linted, and of one mind with the manifests that run its images."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from tests.image.dockerfile import ROOT, entry_point, stages, user

import podidentity

TARGETS = ("mic", "nmi", "csi-provider")
Json = dict[str, dict[str, object]]


def containers(name: str) -> list[tuple[str, Json]]:
    """Every container in ``deploy`` that runs an image of ours, with the file it is in."""
    found: list[tuple[str, Json]] = []
    for path in [*(ROOT / "deploy").glob("*.yaml"), *(ROOT / "deploy/noazurejson").glob("*.yaml")]:
        for each in yaml.safe_load_all(path.read_text()):
            spec = ((each or {}).get("spec") or {}) if isinstance(each, dict) else {}
            pod = spec.get("template", {}).get("spec", spec)
            ours = [one for one in pod.get("containers", []) if one.get("image", "").startswith(f"podidentity/{name}:")]
            found.extend((str(path.relative_to(ROOT / "deploy")), one) for one in ours)
    return found


def test_hadolint_finds_nothing() -> None:
    """The linter that people run over Dockerfiles, all its rules; an exception stands at its line with its reason."""
    done = subprocess.run(
        [Path(sys.executable).parent / "hadolint", "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_what_the_linter_does_not_ask() -> None:
    """An exact base, one for all; nothing fetched by address; entry points without a shell that would eat SIGTERM."""
    found = stages()
    outside = {stage.base for stage in found.values()} - set(found)
    assert len(outside) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", outside.pop())
    for stage in found.values():
        assert not stage.all("ADD")
        assert not re.search(r"https?://", " ".join(rest for _, rest in stage.said))
    for target in TARGETS:
        assert entry_point(target) == ["/opt/podidentity/bin/podidentity", target]
        assert {word for word, _ in found[target].said} <= {"ENTRYPOINT", "USER"}


def test_nobody_is_root_who_need_not_be() -> None:
    """Only the packet filter's image is root's by itself."""
    assert {target: user(target) for target in TARGETS} == {
        "mic": "65532:65532",
        "csi-provider": "65532:65532",
        "nmi": "0:0",
    }


@pytest.mark.parametrize("target", TARGETS)
def test_the_manifests_run_these_images(target: str) -> None:
    """Each image is in a manifest under this version, started by its own entry point, with no capability too many."""
    found = containers(target)
    assert found
    for where, one in found:
        assert str(one["image"]).endswith(f":v{podidentity.__version__}"), where
        assert "command" not in one, where
        context = one.get("securityContext", {})
        capabilities = context.get("capabilities", {})
        assert isinstance(capabilities, dict)
        needed = ["DAC_READ_SEARCH", "NET_ADMIN", "NET_RAW"] if target == "nmi" else []
        assert capabilities.get("add", []) == needed, where
        assert not context.get("privileged"), where


def test_the_version_is_one() -> None:
    """Package, label and project agree."""
    (label,) = stages()["podidentity"].all("LABEL")
    assert f'image.version="{podidentity.__version__}"' in label
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == podidentity.__version__


@pytest.mark.parametrize(("part", "whole"), [("image", ""), ("build", "-dev")])
def test_the_images_packages_are_the_tested_ones(part: str, whole: str) -> None:
    """What is installed in an image, and what makes the wheel, is what the tests run with: version, hashes and all."""

    def packages(name: str) -> set[str]:
        text = (ROOT / f"requirements{name}.lock").read_text()
        return {block.strip() for block in re.split(r"\n(?=\S)", text)}

    assert packages(f"-{part}") <= packages(whole)
