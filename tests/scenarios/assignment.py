"""Scenarios about which identities are on a host, and when they come and go."""

from __future__ import annotations

from tests.scenarios.conditions import Assigned, OnHost, Token
from tests.scenarios.hosts import Carries, Host
from tests.scenarios.steps import (
    Change,
    Delete,
    Detach,
    Identity,
    Known,
    Now,
    Pod,
    Relabel,
    Repoint,
    Scenario,
    Together,
    While,
)

ONE = (Identity("app"), Pod("app", label="app"), Assigned("app", ("app",)), Token("app", "app"))
STORAGE = "https://storage.azure.com/"
GONE = (Assigned("app"), OnHost())

SCENARIOS = (
    Scenario(
        "removed-by-hand",
        "Somebody takes the identity off the host while it is in use: it is put back within the reconcile interval.",
        (
            *ONE,
            Host("pool"),
            Identity("idle"),
            Pod("idle", label="idle", node="pool/0"),
            Assigned("idle", ("idle",)),
            Detach("app"),
            Detach("idle", "pool"),
            OnHost(("idle",), "pool"),
            OnHost(("app",)),
            Token("app", "app", resource=STORAGE),
        ),
    ),
    Scenario(
        "identity-updated",
        "The AzureIdentity names another identity: the assignment follows; an edit that does not count leaves no gap.",
        (
            *ONE,
            Identity("second", selector="-"),
            While(
                Token("app", "app"),
                (
                    Change("identity", "app", {"metadata": {"annotations": {"note": "edited"}}}),
                    Assigned("app", ("app",)),
                ),
            ),
            Repoint("app", at="second"),
            OnHost(("second",)),
            Assigned("app", ("app",)),
            Token("app", "second"),
        ),
    ),
    Scenario(
        "label-changed",
        "The pod's label moves to another selector: the new identity comes, the old one goes.",
        (
            *ONE,
            Identity("second"),
            Relabel("app", "second"),
            Assigned("app", ("second",)),
            OnHost(("second",)),
            Token("app", "second"),
            Now(Token("app", 404, "client_id", "app")),
        ),
    ),
    Scenario(
        "immutable-kept",
        "An identity in --immutable-user-msis is assigned and never removed.",
        (
            Known("app", of="kept"),
            Pod("app", label="app"),
            Assigned("app", ("app",)),
            Token("app", "kept"),
            Delete("pod", "app"),
            Assigned("app"),
            Carries("kept"),
        ),
    ),
    Scenario(
        "cluster-identity-kept",
        "The identity mic itself works as is assigned to a pod and never removed.",
        (
            Known("app", of="kubelet"),
            Pod("app", label="app"),
            Assigned("app", ("app",)),
            Token("app", "kubelet"),
            Delete("pod", "app"),
            Assigned("app"),
            Carries("kubelet"),
        ),
    ),
    Scenario(
        "pod-deleted",
        "The pod is deleted: its record goes, its identity leaves the host.",
        (*ONE, OnHost(("app",)), Delete("pod", "app"), *GONE),
    ),
    Scenario(
        "identity-deleted",
        "The AzureIdentity is deleted while the pod runs: the next token is refused, the host is cleaned.",
        (*ONE, Delete("identity", "app"), *GONE, Now(Token("app", 404))),
    ),
    Scenario(
        "binding-deleted",
        "The binding is deleted while the pod runs: the next token is refused, the host is cleaned.",
        (*ONE, Delete("binding", "app"), *GONE, Now(Token("app", 404))),
    ),
    Scenario(
        "shared-identity",
        "Two pods of one identity on one node, one is deleted: the other keeps its tokens, the host its identity.",
        (
            Identity("app"),
            Together((Pod("first", label="app", node="0"), Pod("second", label="app", node="0"))),
            Assigned("first", ("app",)),
            Assigned("second", ("app",)),
            While(
                OnHost(("app",)),
                (While(Token("second", "app"), (Delete("pod", "first"), Assigned("first"))), Token("second", "app")),
            ),
        ),
    ),
)
