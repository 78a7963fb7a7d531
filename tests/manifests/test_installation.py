"""The manifests of an installation: what is moved moves together, and nothing else changes."""

from __future__ import annotations

import difflib

import pytest
import yaml

from podidentity.config.errors import ConfigError
from podidentity.config.mic import mic_settings
from podidentity.config.nmi import nmi_settings
from podidentity.manifests.installation import EXCEPTIONS, FILES, Mode, Wish, exceptions, installation
from podidentity.manifests.shipped import shipped

MODES = tuple(Mode)


def made(wish: Wish) -> str:
    """The manifest of a wish."""
    return installation(shipped(FILES[wish.mode]).read_text(), wish)


def changed(wish: Wish) -> list[str]:
    """The lines that differ from the shipped file."""
    before, after = shipped(FILES[wish.mode]).read_text().splitlines(), made(wish).splitlines()
    return [line for line in difflib.ndiff(before, after) if line[0] in "+-"]


@pytest.mark.parametrize("mode", MODES)
def test_without_a_wish_it_is_the_shipped_file(mode: Mode) -> None:
    """Whoever asks for nothing special gets, byte for byte, the file of deploy/."""
    assert made(Wish(mode)) == shipped(FILES[mode]).read_text()


@pytest.mark.parametrize("mode", MODES)
def test_a_namespace_moves_everything_together(mode: Mode) -> None:
    """Accounts, subjects, workloads, the leader's record and nmi's idea of mic's namespace never part."""
    found = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(made(Wish(mode, "ids")))}
    for (kind, _), one in found.items():
        if kind == "ClusterRoleBinding":
            assert {subject["namespace"] for subject in one["subjects"]} == {"ids"}
        elif kind not in {"CustomResourceDefinition", "ClusterRole"}:
            assert one["metadata"]["namespace"] == "ids"
    nmi = found["DaemonSet", "nmi"]["spec"]["template"]["spec"]["containers"][0]
    args = [arg.replace("$(NODE_NAME)", "n1") for arg in nmi["args"]]
    assert nmi_settings(args, {}).mic_namespace == ("default" if mode is Mode.MANAGED else "ids")
    if mode is not Mode.MANAGED:
        mic = found["Deployment", "mic"]["spec"]["template"]["spec"]["containers"][0]
        assert mic_settings(mic["args"], {"MIC_POD_NAMESPACE": "ids"}, "h").leader_election_namespace == "ids"
    assert "namespace=default" not in made(Wish(mode, "ids"))


@pytest.mark.parametrize("mode", MODES)
def test_images(mode: Mode) -> None:
    """Repository and tag go into the images of mic and nmi, and nowhere else."""
    lines = changed(Wish(mode, repository="registry.example.org:5000/team/podidentity", tag="v9"))
    start = "+           image: registry.example.org:5000/team/podidentity"
    added = [f"{start}/nmi:v9", *([] if mode is Mode.MANAGED else [f"{start}/mic:v9"])]
    assert [line for line in lines if line[0] == "+"] == added
    assert len(lines) == 2 * len(added)


@pytest.mark.parametrize("mode", MODES)
def test_without_secrets(mode: Mode) -> None:
    """Without Secrets only nmi's rule for them is missing."""
    assert changed(Wish(mode, secrets=False)) == [
        '-   - apiGroups: [""]',
        "-     resources: [secrets]",
        "-     verbs: [get]",
    ]


def test_exceptions() -> None:
    """The exception for mic is where mic is, that for AKS add-ons always in kube-system."""

    def places(wish: Wish) -> dict[str, str]:
        made = yaml.safe_load_all(exceptions(shipped(EXCEPTIONS).read_text(), wish))
        return {one["metadata"]["name"]: one["metadata"]["namespace"] for one in made}

    aks = {"aks-addon-exception": "kube-system"}
    assert places(Wish(Mode.STANDARD)) == {"mic-exception": "default", **aks}
    assert places(Wish(Mode.KUBENET, "ids")) == {"mic-exception": "ids", **aks}
    assert places(Wish(Mode.MANAGED, "ids")) == aks


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (Wish(Mode.STANDARD, "A b"), 'namespace "A b": must be lower-case letters'),
        (Wish(Mode.STANDARD, "a" * 64), "must be lower-case letters"),
        (Wish(Mode.STANDARD, "a\nkind: Secret"), 'namespace "a kind: Secret": must be'),
        (Wish(Mode.STANDARD, repository="https://x/y"), "must be a path such as"),
        (Wish(Mode.STANDARD, repository="x/"), "must be a path such as"),
        (Wish(Mode.STANDARD, tag="v1 # no"), "must be an image tag such as"),
    ],
)
def test_wrong_values_are_one_line(wish: Wish, words: str) -> None:
    """What would break the YAML, or be refused by Kubernetes, is refused here in one line."""
    with pytest.raises(ConfigError, match=words) as refused:
        made(wish)
    assert "\n" not in str(refused.value)


def test_a_changed_file_is_noticed() -> None:
    """A shipped file somebody edited gives an error, never a manifest that is moved by half."""
    text = shipped(FILES[Mode.STANDARD]).read_text().replace('"--logtostderr"', '"--v=3"')
    with pytest.raises(ConfigError, match="the shipped manifest was changed: expected once, found 0 times"):
        installation(text, Wish(Mode.STANDARD, "ids"))
