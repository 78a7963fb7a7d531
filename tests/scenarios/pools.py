"""Scenarios about hosts: what is on them before, what comes and goes with nodes, what ARM refuses."""

from __future__ import annotations

import random
from uuid import NAMESPACE_DNS, uuid5

from tests.scenarios.conditions import AllAssigned, Assigned, NotTold, OnHost, Token, Told
from tests.scenarios.hosts import (
    Accepts,
    Carries,
    Host,
    NewNode,
    NodeGone,
    Patched,
    Principal,
    RefusedFor,
    Refuses,
)
from tests.scenarios.steps import Delete, Detach, Identity, Pod, Scenario, Step, Together, While

POOL = Host("pool")
OTHER_SUBSCRIPTION = str(uuid5(NAMESPACE_DNS, "second.subscription"))
FORTY = tuple((f"pod-{number}", f"id-{number % 5}") for number in range(40))


def pod(name: str, identity: str, node: str = "pool/0") -> Pod:
    """A pod on a node of the scenario's own."""
    return Pod(name, label=identity, node=node)


def random_order() -> tuple[Step, ...]:
    """Five pairs are added in order and removed in another; after each step exactly the right set is on the host."""
    names = [f"p{number}" for number in range(5)]
    steps: list[Step] = [POOL]
    for index, name in enumerate(names):
        steps += [Identity(name), pod(name, name), OnHost(tuple(names[: index + 1]), "pool")]
    left, order = list(names), random.Random(5).sample(names, len(names))
    for name in order:
        left.remove(name)
        steps += [Delete("pod", name), Delete("binding", name), Delete("identity", name), OnHost(tuple(left), "pool")]
    return tuple(steps)


SCENARIOS = (
    Scenario(
        "forty-pods",
        "40 pods of 5 identities on 5 nodes at once: all are assigned, with at most two PATCHes of their scale set.",
        (
            Host("pool", nodes=5),
            Together(tuple(Identity(f"id-{number}") for number in range(5))),
            Together(tuple(pod(name, identity, f"pool/{i % 5}") for i, (name, identity) in enumerate(FORTY))),
            AllAssigned(FORTY),
            OnHost(tuple(f"id-{number}" for number in range(5)), "pool"),
            Patched(2, "pool"),
            Together(tuple(Delete("pod", name) for name, _ in FORTY)),
            AllAssigned(()),
            OnHost((), "pool"),
        ),
    ),
    Scenario(
        "random-order",
        "Five pairs come in order and go in random order: after each step exactly the right set is on the host.",
        random_order(),
    ),
    Scenario(
        "batch-with-invalid",
        "Several identities at once, some do not exist: the valid ones are assigned, the invalid ones reported.",
        (
            POOL,
            Together(
                (
                    *(Identity(name) for name in ("one", "two", "three")),
                    *(Identity(name, exists=False) for name in ("bad", "worse")),
                )
            ),
            Together(tuple(pod(name, name) for name in ("one", "bad", "two", "worse", "three"))),
            Assigned("one", ("one",)),
            Assigned("two", ("two",)),
            Assigned("three", ("three",)),
            OnHost(("one", "two", "three"), "pool"),
            *(Told("Pod", name, "binding apply error", (name,)) for name in ("bad", "worse")),
            *(Told("AzureIdentityBinding", name, "binding apply error", (name,)) for name in ("bad", "worse")),
        ),
    ),
    Scenario(
        "invalid-after-valid",
        "An identity that does not exist is added later: those there stay, and keep their tokens.",
        (
            Identity("good"),
            Pod("good", label="good"),
            Assigned("good", ("good",)),
            While(
                OnHost(("good",)),
                (
                    While(
                        Token("good", "good"),
                        (
                            Identity("bad", exists=False),
                            Pod("bad", label="bad"),
                            Told("Pod", "bad", "binding apply error", ("bad",)),
                        ),
                    ),
                    Assigned("good", ("good",)),
                ),
            ),
        ),
    ),
    Scenario(
        "system-assigned-kept",
        "A host has a system-assigned identity: its principal is the same after a pod came and went.",
        (
            Host("pool", system=True),
            Principal("pool"),
            Identity("app"),
            pod("app", "app"),
            Assigned("app", ("app",)),
            Principal("pool"),
            Delete("pod", "app"),
            Assigned("app"),
            OnHost((), "pool"),
            Principal("pool"),
        ),
    ),
    Scenario(
        "foreign-kept",
        "A host has identities the cluster never assigned: they are there after everything is deleted.",
        (
            Identity("foreign", selector="-"),
            Identity("used"),
            Host("pool", carries=("foreign", "used")),
            Identity("app"),
            pod("app", "app"),
            pod("user", "used"),
            Assigned("app", ("app",)),
            Assigned("user", ("used",)),
            OnHost(("app", "foreign", "used"), "pool"),
            Together((Delete("pod", "app"), Delete("pod", "user"))),
            AllAssigned(()),
            OnHost(("foreign", "used"), "pool"),
        ),
    ),
    Scenario(
        "unassigned-first",
        "The identity is off the host already when the pod goes: the record goes without an error.",
        (
            POOL,
            Identity("app"),
            pod("app", "app"),
            Assigned("app", ("app",)),
            Detach("app", "pool"),
            Delete("pod", "app"),
            Assigned("app"),
            OnHost((), "pool"),
            NotTold("AzureIdentityBinding", "app", "binding remove error"),
        ),
    ),
    Scenario(
        "node-added",
        "A node joins a pool while pods come and go: its pods are assigned, the others undisturbed.",
        (
            POOL,
            Identity("app"),
            Identity("new"),
            pod("first", "app"),
            Assigned("first", ("app",)),
            While(
                Carries("app", "pool"),
                (
                    Together(
                        (
                            *(pod(f"churn-{number}", "app") for number in range(5)),
                            NewNode("pool/1"),
                        )
                    ),
                    Together((pod("second", "new", "pool/1"), *(Delete("pod", f"churn-{n}") for n in range(5)))),
                    AllAssigned((("first", "app"), ("second", "new"))),
                ),
            ),
            OnHost(("app", "new"), "pool"),
        ),
    ),
    Scenario(
        "node-removed",
        "A node leaves a pool while pods come and go: what only its pods used goes, all else stays.",
        (
            Host("pool", nodes=2),
            Identity("app"),
            Identity("old"),
            pod("first", "app"),
            pod("second", "old", "pool/1"),
            pod("third", "app", "pool/1"),
            AllAssigned((("first", "app"), ("second", "old"), ("third", "app"))),
            While(
                Carries("app", "pool"),
                (
                    Together(
                        (
                            NodeGone("pool/1", ("second", "third")),
                            *(pod(f"churn-{number}", "app") for number in range(5)),
                        )
                    ),
                    OnHost(("app",), "pool"),
                    AllAssigned((("first", "app"), *((f"churn-{number}", "app") for number in range(5)))),
                ),
            ),
        ),
    ),
    Scenario(
        "scale-to-zero",
        "A pool is scaled to no node at all: nothing is left on its scale set; later nodes are served as before.",
        (
            Host("pool", nodes=2),
            Identity("app"),
            Identity("other"),
            pod("first", "app"),
            pod("second", "other", "pool/1"),
            AllAssigned((("first", "app"), ("second", "other"))),
            Together((NodeGone("pool/0", ("first",)), NodeGone("pool/1", ("second",)))),
            AllAssigned(()),
            OnHost((), "pool"),
            NewNode("pool/0"),
            pod("again", "app"),
            AllAssigned((("again", "app"),)),
            OnHost(("app",), "pool"),
        ),
    ),
    Scenario(
        "reimaged",
        "A machine comes back under its name without the identities it had: its pods of the same names are assigned.",
        (
            Host("machine", kind="vms"),
            Identity("app"),
            pod("app", "app", "machine/0"),
            Assigned("app", ("app",)),
            OnHost(("app",), "machine"),
            Detach("app", "machine"),
            NodeGone("machine/0", ("app",)),
            NewNode("machine/0"),
            pod("app", "app", "machine/0"),
            OnHost(("app",), "machine"),
            Assigned("app", ("app",)),
        ),
    ),
    Scenario(
        "two-groups",
        "Scale sets of one name in two resource groups and in a second subscription: each gets its own identity.",
        (
            Host("one", group="group-1"),
            Host("two", group="group-2"),
            Host("far", group="group-1", subscription=OTHER_SUBSCRIPTION),
            Together(tuple(Identity(name) for name in ("one", "two", "far"))),
            Together(tuple(pod(name, name, f"{name}/0") for name in ("one", "two", "far"))),
            AllAssigned(tuple((name, name) for name in ("one", "two", "far"))),
            *(OnHost((name,), name) for name in ("one", "two", "far")),
            Delete("pod", "two"),
            OnHost((), "two"),
            OnHost(("one",), "one"),
            OnHost(("far",), "far"),
        ),
    ),
    Scenario(
        "throttled-arm",
        "ARM refuses with 429 and Retry-After: it is asked no sooner than allowed, nothing is lost, all are assigned.",
        (
            POOL,
            Identity("app"),
            Identity("late"),
            pod("first", "app"),
            Assigned("first", ("app",)),
            Refuses("pool", retry_after=4),
            pod("second", "late"),
            RefusedFor("pool", times=3, retry_after=4),
            pod("third", "late"),
            Delete("pod", "first"),
            Accepts(),
            AllAssigned((("second", "late"), ("third", "late"))),
            OnHost(("late",), "pool"),
        ),
    ),
)
