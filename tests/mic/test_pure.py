"""The small pure parts: names, hosts, failures, patches, times."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podidentity.api.core import Node, NodeSpec
from podidentity.api.meta import ObjectMeta
from podidentity.azure.arm import HostIdentities, IdentityPatch, UserAssigned
from podidentity.azure.errors import (
    ApiVersionRefused,
    AuthorizationFailed,
    AzureError,
    AzureStatusError,
    AzureUnavailable,
    FailedIdentityOperation,
    LinkedAuthorizationFailed,
    OperationFailed,
    SubscriptionNotFound,
    Throttled,
)
from podidentity.mic.failures import judge, next_keys, succeeded
from podidentity.mic.hosts import HostMap
from podidentity.mic.names import free_name, plain_name
from podidentity.mic.plan import MAX_KEYS, identity_patch
from podidentity.mic.reconcile import next_look
from podidentity.mic.wanted import AssignmentKey
from podidentity.rules.node_label import node_label

PARTS = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,60}[a-z0-9])?", fullmatch=True)
KEYS = st.frozensets(st.integers(0, 400).map(lambda n: f"id{n:03}"), max_size=200)


def test_m21_ambiguous_names() -> None:
    """Protects two pods whose names run together: the second gets a suffix, the first keeps the original's name."""
    one, two = AssignmentKey("c", "a-b", "i"), AssignmentKey("b-c", "a", "i")
    assert plain_name(one) == plain_name(two) == "a-b-c-i"
    assert free_name(one, "h", lambda _name: False) == "a-b-c-i"
    taken = {"a-b-c-i"}
    second = free_name(two, "h", taken.__contains__)
    assert re.fullmatch(r"a-b-c-i-[0-9a-f]{8}", second)
    taken.add(second)
    third = free_name(two, "h", taken.__contains__)
    assert third not in taken


@given(st.lists(PARTS, min_size=3, max_size=3), st.integers(1, 8))
def test_m21_names_are_valid(parts: list[str], times: int) -> None:
    """Protects creation from names the API refuses, however long the parts are."""
    pod, namespace, identity = parts
    key = AssignmentKey(namespace, "x".join([pod] * times), identity)
    name = free_name(key, "h", lambda _name: False)
    assert len(name) <= 253
    if len(plain_name(key)) > 253:
        assert re.search(r"[a-z0-9]-[0-9a-f]{8}$", name)
    else:
        assert name == plain_name(key)


@given(st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,250}[a-z0-9])?", fullmatch=True))
def test_node_label(node: str) -> None:
    """Protects creation for nodes whose name does not fit a label."""
    label = node_label(node)
    assert re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", label)
    assert len(node) > 63 or label == node


def _node(name: str, provider: str) -> Node:
    return Node(metadata=ObjectMeta(name=name), spec=NodeSpec(provider_id=provider))


def test_m10_casing_and_groups_of_hosts() -> None:
    """Protects the grouping: casing does not matter, groups do, foreign nodes are named once."""
    arm = "azure:///subscriptions/S/resourceGroups/{}/providers/Microsoft.Compute/virtualMachineScaleSets/v/virtualMachines/{}"
    hosts = HostMap()
    move = hosts.apply(None, _node("n1", arm.format("G", 0)))
    assert (move.before, move.after) == ("node:n1", hosts.shelf_of("n1"))
    hosts.apply(None, _node("n2", arm.format("g", 1).replace("virtualMachineScaleSets", "VIRTUALMACHINESCALESETS")))
    hosts.apply(None, _node("n3", arm.format("other", 0)))
    assert hosts.nodes_of(hosts.shelf_of("n1")) == {"n1", "n2"}
    assert hosts.shelf_of("n3") != hosts.shelf_of("n1")
    assert hosts.apply(None, _node("k", "kind://x")).warning
    assert not hosts.apply(_node("k", "kind://x"), _node("k", "kind://x")).warning
    assert not hosts.apply(None, _node("new", "")).warning
    assert hosts.host_of("new") is None
    gone = hosts.apply(_node("n3", arm.format("other", 0)), None)
    assert gone.after == "node:n3"
    assert hosts.apply(None, None).before == ""


@given(
    KEYS, KEYS, KEYS, st.sampled_from(["", "None", "UserAssigned", "SystemAssigned", "SystemAssigned, UserAssigned"])
)
def test_identity_patch(present: frozenset[str], add: frozenset[str], remove: frozenset[str], kind: str) -> None:
    """Protects the system-assigned identity, ARM's limit, and hosts that are already right."""
    found = {key: UserAssigned(resource_id=key, client_id="", principal_id="") for key in present}
    known = HostIdentities(type=kind, user_assigned=found, provisioning_state="", location="", system_principal_id="")
    patch = identity_patch(known, add, remove)
    if patch is None:
        assert add <= present
        assert not (remove - add) & present
        return
    assert 0 < len(patch.add) + len(patch.remove) <= MAX_KEYS
    assert patch.add <= add - present
    assert patch.remove <= (remove - add) & present
    assert not patch.remove or patch.add == add - present, "adds come first"
    remain = (present - patch.remove) | patch.add
    assert ("SystemAssigned" in patch.type) == ("SystemAssigned" in kind)
    assert ("UserAssigned" in patch.type) == bool(remain)
    assert (patch.type == "None") == (not remain and "SystemAssigned" not in kind)


@given(KEYS.filter(bool), st.data())
def test_halving_finds_exactly_the_bad(keys: frozenset[str], data: st.DataObject) -> None:
    """Protects good identities: whatever the bad ones are, halving ends with them alone and all others through."""
    bad = data.draw(st.frozensets(st.sampled_from(sorted(keys)), max_size=3))
    done: frozenset[str] = frozenset()
    blocked: frozenset[str] = frozenset()
    groups: tuple[frozenset[str], ...] = ()
    for _ in range(100):
        left = keys - done - blocked
        if not left:
            break
        add, _, groups = next_keys(left, frozenset(), groups)
        patch = IdentityPatch(type="UserAssigned", add=add, remove=frozenset())
        if add & bad:
            verdict = judge(AzureStatusError(400, "InvalidParameter", ""), patch, groups)
            assert not verdict.host
            blocked, groups = blocked | verdict.bad, verdict.groups
        else:
            done, groups = done | add, succeeded(patch, groups)
    assert blocked == bad
    assert done == keys - bad


@pytest.mark.parametrize(
    ("error", "host"),
    [
        (AzureUnavailable("net"), True),
        (Throttled(429, "TooManyRequests", ""), True),
        (AuthorizationFailed(403, "AuthorizationFailed", ""), True),
        (LinkedAuthorizationFailed(403, "LinkedAuthorizationFailed", ""), False),
        (FailedIdentityOperation(400, "FailedIdentityOperation", ""), False),
        (OperationFailed(0, "OperationFailed", ""), False),
        (AzureStatusError(500, "InternalServerError", ""), True),
        (ApiVersionRefused(400, "InvalidApiVersionParameter", ""), True),
        (SubscriptionNotFound(404, "SubscriptionNotFound", ""), True),
    ],
)
def test_who_is_to_blame(error: AzureError, host: bool) -> None:
    """Protects identities from being blamed for what the host or the network did."""
    patch = IdentityPatch(type="UserAssigned", add=frozenset({"a"}), remove=frozenset())
    assert judge(error, patch, ()).host is host


def test_busy_identity_service_blames_nobody() -> None:
    """Protects an identity from quarantine when the identity service was only busy."""
    error = FailedIdentityOperation(429, "FailedIdentityOperation", "")
    error.throttled, error.ids = True, frozenset({"a"})
    patch = IdentityPatch(type="UserAssigned", add=frozenset({"a"}), remove=frozenset())
    assert judge(error, patch, ()).host


@given(st.text(min_size=1, max_size=20), st.floats(0, 1e7), st.floats(1, 3600))
def test_m15_reconcile_interval(host: str, since: float, interval: float) -> None:
    """Protects the promise that drift is found within the interval, and the spread over it."""
    at = next_look(host, since, interval)
    assert since < at <= since + interval * (1 + 1e-9) + 1e-6
