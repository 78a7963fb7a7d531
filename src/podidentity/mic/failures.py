"""What a failed PATCH means: who is to blame and what to try next. Pure.

The error's own words come first; when they name none of the identities of the PATCH, it is halved until the bad one
stands alone. Identities that stand in no suspect group go through undisturbed.
"""

from __future__ import annotations

from dataclasses import dataclass

from podidentity.azure.arm import IdentityPatch
from podidentity.azure.errors import (
    ApiVersionRefused,
    AuthorizationFailed,
    AzureError,
    AzureStatusError,
    FailedIdentityOperation,
    LinkedAuthorizationFailed,
    OperationFailed,
    Throttled,
    TooManyIdentities,
)

_BAD_REQUEST = 400


@dataclass(frozen=True, slots=True)
class Verdict:
    """``bad``: identities to leave alone for a while. ``groups``: what to try next, one after another.

    ``host``: the identities are not to blame, the whole host has to wait.
    """

    bad: frozenset[str] = frozenset()
    groups: tuple[frozenset[str], ...] = ()
    host: bool = False


def judge(error: AzureError, patch: IdentityPatch, groups: tuple[frozenset[str], ...]) -> Verdict:
    """What follows from ``error`` for the identities of ``patch``; ``groups`` are the suspects waiting already."""
    keys = patch.add | patch.remove
    waiting = tuple(rest for group in groups if (rest := group - keys))
    if not _about_identities(error):
        return Verdict(groups=groups, host=True)
    named = _named(error) & keys
    if named:
        rest = keys - named
        return Verdict(bad=named, groups=((rest,) if waiting and rest else ()) + waiting)
    if len(keys) == 1:
        return Verdict(bad=keys, groups=waiting)
    ordered = sorted(patch.add) + sorted(patch.remove)
    middle = (len(ordered) + 1) // 2
    return Verdict(groups=(frozenset(ordered[:middle]), frozenset(ordered[middle:]), *waiting))


def next_keys(
    add: frozenset[str], remove: frozenset[str], groups: tuple[frozenset[str], ...]
) -> tuple[frozenset[str], frozenset[str], tuple[frozenset[str], ...]]:
    """What the next PATCH tries, and the suspect groups that are still worth trying, the one tried first included."""
    wanted = add | remove
    left = tuple(group for group in groups if group & wanted)
    if not left:
        return add, remove, ()
    return add & left[0], remove & left[0], left


def succeeded(patch: IdentityPatch, groups: tuple[frozenset[str], ...]) -> tuple[frozenset[str], ...]:
    """The suspect groups after a PATCH that went through."""
    return tuple(rest for group in groups if (rest := group - patch.add - patch.remove))


def _about_identities(error: AzureError) -> bool:
    if isinstance(error, FailedIdentityOperation):
        return not error.throttled
    if isinstance(error, LinkedAuthorizationFailed):
        return True
    if isinstance(error, Throttled | AuthorizationFailed | ApiVersionRefused):
        return False
    if isinstance(error, OperationFailed | TooManyIdentities):
        return True
    return isinstance(error, AzureStatusError) and error.status == _BAD_REQUEST


def _named(error: AzureError) -> frozenset[str]:
    if isinstance(error, LinkedAuthorizationFailed):
        return error.scopes
    if isinstance(error, FailedIdentityOperation):
        return error.ids
    return frozenset()
