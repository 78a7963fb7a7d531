"""The manifests of an installation: a shipped file with namespace and images of one's own. Text to text, no I/O.

What belongs together moves together: a namespace of one's own goes into the ServiceAccounts, the subjects of the
bindings, the workloads, the leader's record and what nmi takes for mic's namespace.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from podidentity.config.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Mode(StrEnum):
    """How podidentity is installed."""

    STANDARD = "standard"
    KUBENET = "kubenet"
    MANAGED = "managed"
    NO_AZURE_JSON = "noazurejson"


FILES: Final[Mapping[Mode, str]] = {
    Mode.STANDARD: "deployment-rbac.yaml",
    Mode.KUBENET: "podidentityforkubenet.yaml",
    Mode.MANAGED: "managed-mode-deployment.yaml",
    Mode.NO_AZURE_JSON: "noazurejson/deployment-rbac.yaml",
}
"""Each mode's file below ``deploy/``."""

EXCEPTIONS: Final = "podidentityexception.yaml"

_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_REPOSITORY: Final = re.compile(r"[a-z0-9]+([._-]+[a-z0-9]+)*(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
_TAG: Final = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.-]{0,127}")
_OURS: Final = re.compile(r"^(?P<indent> *)namespace: (?P<name>default|kube-system)$", re.MULTILINE)
_IMAGE: Final = re.compile(r"^(?P<start> *image: )podidentity/(?P<name>mic|nmi):(?P<tag>\S+)$", re.MULTILINE)
_NMI_ARGS: Final = '            - "--http-probe-port=8085"\n'
_MIC_ARGS: Final = '            - "--logtostderr"\n'
_SECRETS: Final = '  - apiGroups: [""]\n    resources: [secrets]\n    verbs: [get]\n'


@dataclass(frozen=True, slots=True)
class Wish:
    """What to install. Empty texts leave what the shipped file has."""

    mode: Mode
    namespace: str = ""
    repository: str = ""
    tag: str = ""
    secrets: bool = True

    def check(self) -> None:
        """Raise ConfigError for a value that Kubernetes would refuse later."""
        for what, value, shape, hint in (
            ("namespace", self.namespace, _NAMESPACE, 'lower-case letters, digits and "-", at most 63'),
            ("image repository", self.repository, _REPOSITORY, "a path such as registry.example.org/podidentity"),
            ("tag", self.tag, _TAG, "an image tag such as v0.1.0"),
        ):
            if value and not shape.fullmatch(value):
                raise ConfigError(f'{what} "{" ".join(value.split())}": must be {hint}')


def installation(text: str, wish: Wish) -> str:
    """Make the shipped manifest ``text`` of the wish's mode what is wished for. Raises ConfigError."""
    wish.check()
    if wish.namespace:
        text = _moved(text, wish.namespace)
        if wish.mode is not Mode.MANAGED:
            text = _once(text, _NMI_ARGS, f'{_NMI_ARGS}            - "--MICNamespace={wish.namespace}"\n')
            text = _once(text, _MIC_ARGS, f'{_MIC_ARGS}            - "--leader-election-namespace={wish.namespace}"\n')
    if not wish.secrets:
        text = _once(text, _SECRETS, "")
    repository = wish.repository or "podidentity"
    return _IMAGE.sub(lambda image: f"{image['start']}{repository}/{image['name']}:{wish.tag or image['tag']}", text)


def exceptions(text: str, wish: Wish) -> str:
    """Make the shipped exceptions those of the wish: mic's is in its namespace, and gone where there is no mic."""
    documents = text.split("---\n")
    if wish.mode is Mode.MANAGED:
        documents = [one for one in documents if "name: mic-exception\n" not in one]
    elif wish.namespace:
        documents = [_moved(one, wish.namespace) if "name: mic-exception\n" in one else one for one in documents]
    return "---\n".join(documents)


def _moved(text: str, namespace: str) -> str:
    text = text.replace("--namespace=default ", f"--namespace={namespace} ")  # in the note on the Secret to make
    return _OURS.sub(lambda line: f"{line['indent']}namespace: {namespace}", text)


def _once(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise ConfigError(
            f"the shipped manifest was changed: expected once, found {text.count(old)} times: {old.strip()}"
        )
    return text.replace(old, new)
