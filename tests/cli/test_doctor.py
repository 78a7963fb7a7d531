"""``podidentity doctor`` against the embedded API server, as an administrator and as somebody with few rights."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.cli.test_explain import furnish
from tests.kubectl.clusters import embedded_cluster

from podidentity.cli.entry import run
from podidentity.insight.doctor import RULES
from podidentity.lab.programs import Programs


@pytest.fixture(scope="module")
def kubeconfigs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """An administrator's kubeconfig and that of a service account that may get pods; a cluster with one pod."""
    folder = tmp_path_factory.mktemp("api")
    with embedded_cluster(folder, Programs(())) as cluster:
        token = asyncio.run(furnish(str(cluster.kubeconfig)))
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        few = folder / "few.kubeconfig"
        few.write_text(yaml.safe_dump(config))
        yield str(cluster.kubeconfig), str(few)


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    code = run(["podidentity", "doctor", *words])
    out, error = capsys.readouterr()
    return code, out, error


def test_what_is_wrong_is_found(kubeconfigs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """The selector that is one letter off, the missing mic, the agent that is not ready; errors first, then a count."""
    code, out, error = said(capsys, f"--kubeconfig={kubeconfigs[0]}")
    assert (code, error) == (1, "")
    heads = [line.split()[:2] for line in out.splitlines() if line.startswith(("ERROR", "WARNING", "NOTE"))]
    assert ["ERROR", "PI023-no-binding"] in heads
    assert ["ERROR", "PI003-no-mic"] in heads
    assert ["ERROR", "PI008-agent-not-ready"] in heads
    assert ["NOTE", "PI021-idle-binding"] in heads
    assert "there is one for 'wep'" in out
    assert heads == sorted(heads, key=lambda one: ["ERROR", "WARNING", "NOTE"].index(one[0]))
    assert out.splitlines()[-1].endswith(f"of {len(RULES)} rules judged")


def test_few_rights(kubeconfigs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Every rule is told with the right that shows it, none is judged on what was not seen, and nothing is found."""
    code, out, _ = said(capsys, f"--kubeconfig={kubeconfigs[1]}", "--output=json")
    found = json.loads(out)
    assert (code, found["findings"]) == (0, [])
    assert {one["rule"] for one in found["unseen"]} == {one.id for one in RULES}
    assert all(one["right"] for one in found["unseen"])
    _, out, _ = said(capsys, f"--kubeconfig={kubeconfigs[1]}")
    assert "needs the right to list azureidentities in the whole cluster" in out


@pytest.mark.parametrize(("limit", "code"), [("error", 1), ("note", 1)])
def test_sarif_and_the_limit(
    kubeconfigs: tuple[str, str], capsys: pytest.CaptureFixture[str], limit: str, code: int
) -> None:
    """The same findings for a code-scanning service."""
    got, out, _ = said(capsys, f"--kubeconfig={kubeconfigs[0]}", "-osarif", f"--fail-on={limit}")
    results = json.loads(out)["runs"][0]["results"]
    assert got == code
    assert "PI023-no-binding" in {one["ruleId"] for one in results}


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--output=xml",), 2, "--output xml: must be text, json or sarif"),
        (("--fail-on=never",), 2, "--fail-on never: must be error, warning or note"),
        (("--kubeconfig=/nowhere",), 1, "/nowhere not found"),
        (("web",), 2, "unexpected extra argument"),
    ],
)
def test_bad_input_is_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, says: str
) -> None:
    """It names what is wrong and the way out."""
    got, out, error = said(capsys, *words)
    assert (got, out, error.count("\n")) == (code, "", 1)
    assert says in error


def test_a_cluster_that_does_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, no trace."""
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "x"}}],
    }
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    code, out, error = said(capsys, f"--kubeconfig={path}")
    assert (code, out, error.count("\n")) == (1, "", 1)
    assert "the cluster cannot be read" in error
