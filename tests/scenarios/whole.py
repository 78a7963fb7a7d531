"""Scenarios about the parts themselves, and what concerns the whole cluster."""

from __future__ import annotations

import json
from pathlib import Path

from tests.scenarios.conditions import AllAssigned, Kubectl, OnHost, Token
from tests.scenarios.hosts import Host
from tests.scenarios.parts import Hang, Healthy, LeaderDeleted, OtherLeader, Restarted
from tests.scenarios.pools import pod
from tests.scenarios.steps import Delete, Identity, Pod, Scenario, Together

POLICY = Path(__file__).resolve().parents[2] / "deploy" / "policy"
NAMES = tuple(f"pod-{number}" for number in range(8))
MALFORMED = json.dumps(
    {
        "apiVersion": "aadpodidentity.k8s.io/v1",
        "kind": "AzureIdentity",
        "metadata": {"name": "malformed", "namespace": "default"},
        "spec": {"type": 0, "resourceID": "/not/an/id", "clientID": "11111111-1111-4111-8111-111111111111"},
    }
)
CREATE = ("create", "--dry-run=server", "-f", "-")

SCENARIOS = (
    Scenario(
        "liveness",
        "Both components are healthy; one whose loop hangs is not, is restarted, and works again.",
        (
            Healthy("mic", "Not Active"),
            Healthy("nmi", "Active"),
            Identity("app"),
            Pod("app", label="app", node="3"),
            Token("app", "app"),
            Together((Hang("mic"), Hang("nmi"))),
            Together((Restarted("mic"), Restarted("nmi"))),
            Together((Healthy("mic", "Not Active"), Healthy("nmi", "Active"))),
            Token("app", "app"),
        ),
    ),
    Scenario(
        "leader-change",
        "mic's leader is deleted while pods come and go: another leads, no assignment is lost, none is left over.",
        (
            Host("pool", nodes=2),
            Identity("app"),
            Identity("other"),
            Together(tuple(pod(name, "app") for name in NAMES[:4])),
            AllAssigned(tuple((name, "app") for name in NAMES[:4])),
            Together(
                (
                    LeaderDeleted(),
                    *(Delete("pod", name) for name in NAMES[:3]),
                    *(pod(name, "other", "pool/1") for name in NAMES[4:]),
                )
            ),
            OtherLeader(),
            AllAssigned((("pod-3", "app"), *((name, "other") for name in NAMES[4:]))),
            OnHost(("app", "other"), "pool"),
            Delete("pod", "pod-3"),
            OnHost(("other",), "pool"),
        ),
        alone=True,
    ),
    Scenario(
        "id-format-policy",
        "A malformed resource id is warned of under the policy, and refused with the Deny binding.",
        (
            Kubectl(("apply", "-f", str(POLICY / "policies.yaml")), "created"),
            Kubectl(CREATE, "Warning: ", stdin=MALFORMED),
            Kubectl(("apply", "-f", str(POLICY / "deny.yaml")), "configured"),
            Kubectl(CREATE, "denied request", fails=True, stdin=MALFORMED),
            Identity("app"),
            Kubectl(("delete", "-f", str(POLICY / "policies.yaml")), "deleted"),
        ),
        alone=True,
        servers=("real",),
    ),
)
