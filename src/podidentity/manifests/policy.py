"""The admission policies for an installation of one's own: who mic is, and whether they warn or refuse. No I/O."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from podidentity.config.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

FILE: Final = "policy/policies.yaml"

_ACCOUNT: Final = re.compile(
    r"(?P<namespace>[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)/(?P<name>[a-z0-9]([-a-z0-9.]*[a-z0-9])?)"
)
_WRITERS: Final = re.compile(r'\["system:serviceaccount:default:[^]]*\]')
_WARN: Final = "validationActions: [Warn, Audit]"
_DENY: Final = "validationActions: [Deny]"


def policies(text: str, mics: Sequence[str], *, deny: bool) -> str:
    """Make the shipped policies ``text`` know the accounts ``mics`` (``namespace/name``). Raises ConfigError."""
    found = []
    for one in mics:
        match = _ACCOUNT.fullmatch(one)
        if match is None:
            raise ConfigError(f'ServiceAccount "{" ".join(one.split())}": must be namespace/name')
        found.append(f'"system:serviceaccount:{match["namespace"]}:{match["name"]}"')
    if found:
        text, times = _WRITERS.subn(f"[{', '.join(found)}]", text)
        if times != 1:
            raise ConfigError(f"the shipped policies were changed: expected one list of writers, found {times}")
    return text.replace(_WARN, _DENY) if deny else text
