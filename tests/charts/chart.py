"""The real helm on the chart of ``deploy/charts``."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parents[2] / "deploy" / "charts" / "aad-pod-identity"
Obj = dict[str, Any]


@dataclass(frozen=True)
class Helm:
    """Helm with its caches below ``home`` and, once it has one, a cluster; nothing of the caller's is read."""

    program: Path
    home: Path
    kubeconfig: str = "/dev/null"
    environ: Mapping[str, str] = field(default_factory=dict)

    def run(self, *words: str, values: Mapping[str, object] | None = None) -> subprocess.CompletedProcess[str]:
        """Run it, ``values`` through stdin; the answer is not checked."""
        more = () if values is None else ("--values", "-")
        return subprocess.run(
            [str(self.program), *words, *more],
            input=None if values is None else yaml.safe_dump(dict(values)),
            env={"HOME": str(self.home), "KUBECONFIG": self.kubeconfig, **self.environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def __call__(self, *words: str, values: Mapping[str, object] | None = None) -> str:
        """Run what must succeed; return stdout."""
        done = self.run(*words, values=values)
        assert done.returncode == 0, f"helm {' '.join(words)}: {done.stderr}"
        return done.stdout

    def template(self, values: Mapping[str, object], *words: str, namespace: str = "default") -> str:
        """The text of all objects, as the release ``aad-pod-identity``."""
        return self("template", "aad-pod-identity", str(CHART), "--namespace", namespace, *words, values=values)

    def objects(self, values: Mapping[str, object], *words: str, namespace: str = "default") -> list[Obj]:
        """All objects, in order."""
        return [one for one in yaml.safe_load_all(self.template(values, *words, namespace=namespace)) if one]

    def refusal(self, values: Mapping[str, object]) -> str:
        """What is said to values that must not be rendered."""
        done = self.run("template", "aad-pod-identity", str(CHART), values=values)
        assert done.returncode != 0, "was rendered"
        return done.stderr


def one(objects: Sequence[Obj], kind: str, name: str) -> Obj:
    """The object of this kind and name; AssertionError when there is not exactly one."""
    found = [item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, f"{len(found)} times {kind} {name}"
    return found[0]


def container(workload: Obj) -> Obj:
    """The only container of a workload's pods."""
    (found,) = workload["spec"]["template"]["spec"]["containers"]
    result: Obj = found
    return result
