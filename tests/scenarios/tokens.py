"""Scenarios about tokens: who gets which."""

from __future__ import annotations

from tests.scenarios.steps import Assigned, Identity, OnHost, Pod, Scenario, Token
from tests.scenarios.vault import Readable, Validated

SCENARIOS = (
    Scenario(
        "one-identity",
        "A pod reads its vault secret naming the identity by client id, by resource id, and not at all.",
        (
            Identity("app"),
            Readable("app", "one-identity"),
            Pod("app", label="app"),
            Assigned("app", ("app",)),
            OnHost(("app",)),
            Validated("app", "app", "one-identity"),
        ),
    ),
    Scenario(
        "wrong-identity",
        "A pod that names another identity is refused; its own still works.",
        (
            Identity("own"),
            Identity("other"),
            Pod("app", label="own"),
            Pod("neighbour", label="other"),
            Assigned("app", ("own",)),
            Assigned("neighbour", ("other",)),
            Token("app", 404, "client_id", "other", words="in CREATED state failed after"),
            Token("app", 404, "msi_res_id", "other"),
            Token("app", "own", "client_id", "own"),
            Token("app", "own"),
            Token("neighbour", "other"),
        ),
    ),
)
