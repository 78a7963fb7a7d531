"""Which role assignments are needed, and what counts as having one."""

from __future__ import annotations

import re

import pytest

from podidentity.rules.resource_id import ResourceId
from podidentity.rules.role_check import Grant, State, judged, superfluous
from podidentity.rules.role_needs import Breadth, Facts, Principal, as_the_walkthrough, needed, opened
from podidentity.rules.roles import (
    CONTRIBUTOR,
    IDENTITY_OPERATOR,
    OWNER,
    VM_CONTRIBUTOR,
    Definition,
    Level,
    covers,
    level,
    told,
)

SUB = "/subscriptions/s1"
NODES = f"{SUB}/resourceGroups/nodes"
KUBELET = Principal("oid-kubelet", "kubelet identity aks-agentpool")
CONTROL = Principal("oid-control", "control plane identity")
APPS = (ResourceId("s1", "apps", "uai1"), ResourceId("s1", "Apps", "uai2"), ResourceId("s2", "other", "uai3"))
UAI1 = APPS[0].path
FACTS = Facts((KUBELET,), "s1", "nodes", APPS, CONTROL)
ROOT, MANAGED = "/", "/providers/Microsoft.Management/managementGroups/all"
ATTACH = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"


def pairs(breadth: Breadth, facts: Facts = FACTS) -> list[tuple[str, str]]:
    """Role and scope of what is needed."""
    return [(need.role.name, need.scope) for need in needed(facts, breadth)]


def test_least_first() -> None:
    """By default each identity is its own scope, and machines are changed in the nodes' group only."""
    vm, operator = VM_CONTRIBUTOR.name, IDENTITY_OPERATOR.name
    assert pairs(Breadth.IDENTITY) == [(vm, NODES), *((operator, one.path) for one in APPS)]
    assert pairs(Breadth.GROUP) == [
        (vm, NODES),
        (operator, f"{SUB}/resourceGroups/apps"),
        (operator, "/subscriptions/s2/resourceGroups/other"),
    ]
    assert pairs(Breadth.SUBSCRIPTION) == [(vm, SUB), (operator, SUB), (operator, "/subscriptions/s2")]


@pytest.mark.parametrize(
    ("breadth", "scope"), [(Breadth.IDENTITY, NODES), (Breadth.GROUP, NODES), (Breadth.SUBSCRIPTION, SUB)]
)
def test_no_identity_named(breadth: Breadth, scope: str) -> None:
    """Without identities the original's two roles remain, both where the nodes are."""
    assert [one for _, one in pairs(breadth, Facts((KUBELET,), "s1", "nodes"))] == [scope, scope]


def test_the_walkthroughs_four() -> None:
    """W3: both roles to both principals at the subscription, and it is said which pair mic does not use."""
    found = as_the_walkthrough(FACTS)
    assert [(one.principal.object_id, one.role.name, one.scope) for one in found] == [
        (who, role, SUB)
        for who in ("oid-control", "oid-kubelet")
        for role in ("Managed Identity Operator", "Virtual Machine Contributor")
    ]
    assert [("does not use" in one.why) for one in found] == [True, True, False, False]
    assert len(as_the_walkthrough(Facts((KUBELET,), "s1", "nodes"))) == 2


def test_what_wider_opens() -> None:
    """A person who would rather have one wide assignment reads what that gives away first."""
    sentences = opened(FACTS, Breadth.IDENTITY)
    assert [("resource group apps" in one, "resource group other" in one) for one in sentences[:2]] == [
        (True, False),
        (False, True),
    ]
    assert "subscription" in sentences[2]
    assert len(opened(FACTS, Breadth.GROUP)) == 1
    assert opened(FACTS, Breadth.SUBSCRIPTION) == ()


VM_NEED, ID_NEED = needed(FACTS)[:2]


@pytest.mark.parametrize(
    ("grant", "state", "words"),
    [
        (Grant("OID-kubelet", IDENTITY_OPERATOR, UAI1.upper()), State.PRESENT, ""),
        (Grant("oid-kubelet", IDENTITY_OPERATOR, f"{SUB}/resourcegroups/APPS"), State.INHERITED, "resource group APPS"),
        (Grant("oid-kubelet", IDENTITY_OPERATOR, SUB), State.WIDE, "every identity of subscription s1"),
        (Grant("oid-kubelet", IDENTITY_OPERATOR, MANAGED), State.WIDE, "every identity of management group all"),
        (Grant("oid-kubelet", OWNER, ROOT), State.WIDE, "Owner permits far more.*every identity of the whole tenant"),
        (Grant("oid-kubelet", CONTRIBUTOR, UAI1), State.WIDE, "Contributor permits far more"),
        (Grant("oid-kubelet", Definition("x", "Ours", ("Microsoft.ManagedIdentity/*",)), UAI1), State.PRESENT, ""),
        (Grant("oid-kubelet", IDENTITY_OPERATOR, UAI1, conditional=True), State.MISSING, "condition"),
        (Grant("oid-kubelet", Definition("x", "R", ("*/read",)), UAI1), State.MISSING, ""),
        (Grant("oid-kubelet", Definition("x", "N", ("*",), (ATTACH,)), UAI1), State.MISSING, ""),
        (Grant("oid-kubelet", VM_CONTRIBUTOR, UAI1), State.MISSING, ""),
        (Grant("oid-other", IDENTITY_OPERATOR, UAI1), State.MISSING, ""),
        (Grant("oid-kubelet", IDENTITY_OPERATOR, f"{UAI1}2"), State.MISSING, ""),
    ],
)
def test_one_grant(grant: Grant, state: State, words: str) -> None:
    """What a grant is worth for one need: role, scope and holder all count, case does not."""
    (found,) = judged([ID_NEED], [grant])
    assert found.state is state
    assert (found.grant is None) == (state is State.MISSING)
    assert re.search(words, found.remark)


def test_the_narrowest_counts_and_the_rest_is_named() -> None:
    """With a narrow and a wide grant the narrow one is what mic rests on, and the wide one is said to be too much."""
    narrow = [Grant("oid-kubelet", IDENTITY_OPERATOR, UAI1), Grant("oid-kubelet", VM_CONTRIBUTOR, NODES)]
    wide = Grant("oid-kubelet", IDENTITY_OPERATOR, SUB)
    unrelated = Grant("oid-kubelet", Definition("y", "Reader", ("*/read",)), SUB)
    grants = [wide, unrelated, *narrow]
    findings = judged([VM_NEED, ID_NEED], grants)
    assert [one.state for one in findings] == [State.PRESENT, State.PRESENT]
    assert superfluous(findings, grants) == (wide,)
    assert superfluous(judged([VM_NEED, ID_NEED], [wide]), [wide]) == ()


def test_scopes() -> None:
    """A scope holds below itself, not beside itself: a name that begins alike is another."""
    assert [level(one) for one in (ROOT, MANAGED, SUB, NODES, UAI1)] == [
        Level.ABOVE,
        Level.ABOVE,
        Level.SUBSCRIPTION,
        Level.GROUP,
        Level.RESOURCE,
    ]
    assert covers(SUB, UAI1)
    assert not covers(UAI1, SUB)
    assert not covers(f"{SUB}/resourceGroups/app", UAI1)
    assert [told(one) for one in (ROOT, SUB, NODES, UAI1)] == [
        "the whole tenant",
        "subscription s1",
        "resource group nodes",
        "identity uai1 in apps",
    ]
    assert told(f"{NODES}/providers/Microsoft.Compute/virtualMachines/vm0") == "resource vm0 in nodes"
    assert told("x/y") == "x/y"
