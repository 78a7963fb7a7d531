"""May this pod have this token, and of which identity: pure decisions.

The whole decision is one function from what is known now to a :data:`Decision`; it is asked again on every request
and every time something it rests on has changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from podidentity.api.constants import POD_LABEL
from podidentity.api.core import Pod
from podidentity.api.identity import AzureIdentity, AzurePodIdentityException
from podidentity.config.redact import redact_client_id
from podidentity.rules.exceptions import excepted
from podidentity.rules.identity_choice import Candidate, Named, choose

_MIC_REPLICA_SET: Final = re.compile(r"(?:aad-pod-identity-)?mic-[a-z0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Policy:
    """The flags that decide. ``created``, ``assigned`` are counts of look-ups, ``interval`` seconds between them."""

    node: str
    mic_namespace: str = "default"
    force_namespaced: bool = False
    managed: bool = False
    created: int = 16
    assigned: int = 4
    interval: float = 5.0


@dataclass(frozen=True, slots=True)
class Serve:
    """Give a token of ``identities[0]``; several, and no name in the request: the choice deserves a warning.

    ``pending``: how many more of the pod's may be the one named, once they are on the host.
    """

    identities: tuple[AzureIdentity, ...]
    pending: int = 0


@dataclass(frozen=True, slots=True)
class PassThrough:
    """Give the node's own token, as IMDS would; ``why`` is for the log."""

    why: str


class Stage(Enum):
    """What a waiting request waits for; the value is the word in the error text."""

    CREATED = "CREATED"
    ASSIGNED = "ASSIGNED"


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing usable yet: hold for at most ``attempts`` intervals, counted from the request's arrival."""

    stage: Stage
    attempts: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """No token; ``reason`` is the description the caller reads."""

    reason: str


Decision = Serve | PassThrough | Wait | Refuse


def is_mic(pod: Pod, mic_namespace: str) -> bool:
    """Whether this is a pod of mic itself: its namespace, and owned by mic's ReplicaSet by exact name."""
    if pod.metadata.namespace.casefold() != mic_namespace.casefold():
        return False
    return any(
        owner.controller and owner.kind == "ReplicaSet" and _MIC_REPLICA_SET.fullmatch(owner.name)
        for owner in pod.metadata.owner_references
    )


def passes_through(pod: Pod, exceptions: Iterable[AzurePodIdentityException], policy: Policy) -> PassThrough | None:
    """Return why the pod keeps the node's own metadata endpoint, or None."""
    exception = excepted(pod, exceptions)
    if exception is not None:
        return PassThrough(f"exception {exception.key}")
    if is_mic(pod, policy.mic_namespace):
        return PassThrough("mic")
    return None


def decide(pod: Pod, candidates: Iterable[Candidate], named: Named, policy: Policy) -> Decision:
    """Decide among the pod's own identities.

    A pod that has nothing, and has no label that could bring it something, is refused at once. A pod that has all
    its identities but not the one named waits one interval, for a binding that is just being made.
    """
    choice = choose(candidates, named)
    if choice.ready:
        return Serve(choice.ready, choice.pending)
    if choice.pending:
        return Wait(Stage.ASSIGNED, policy.created + policy.assigned)
    if policy.managed:
        return Refuse(not_found(named))
    if choice.others:
        return Wait(Stage.CREATED, min(1, policy.created))
    if not pod.metadata.labels.get(POD_LABEL):
        return Refuse(f"{not_found(named)}: pod {pod.key} has no label {POD_LABEL}")
    return Wait(Stage.CREATED, policy.created)


def not_found(named: Named) -> str:
    """Return the text of the original for "nothing for this request"."""
    shown = redact_client_id(named.client_id) if named.client_id else ""
    return f"no azure identity found for request clientID {shown}"


def waited_in_vain(pod: Pod, named: Named, wait: Wait, policy: Policy) -> str:
    """Return the text of the original for a request that was held to no avail."""
    start = f"clientID in request: {redact_client_id(named.client_id)}, " if named.client_id else ""
    return (
        f"{start}getting assigned identities for pod {pod.key} in {wait.stage.value} state failed after "
        f"{wait.attempts} attempts, retry duration [{policy.interval:g}]s, error: <nil>. "
        "Check MIC pod logs for identity assignment errors"
    )
