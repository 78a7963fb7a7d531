"""Scenarios about tokens: who gets which."""

from __future__ import annotations

from tests.scenarios.conditions import Answers, Assigned, OnHost, Token
from tests.scenarios.hosts import Accepts, ThrottledImds
from tests.scenarios.principals import Principal, Rotated
from tests.scenarios.sdk import WAITING, Header, InitRuns, SdkHeard, SdkToken
from tests.scenarios.steps import Binding, Exempt, Identity, Now, Pod, Ready, Scenario, Series, Together, While
from tests.scenarios.vault import Readable, Validated

STORAGE, GRAPH = "https://storage.azure.com/", "https://graph.microsoft.com/"
OTHER_WAY = "2"
"""The node whose nmi does not wait, sends Retry-After, and blocks the instance's documents."""
ASKED = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net"
INSTANCE = "/metadata/instance?api-version=2017-08-01"


def principal(id_: str, holds: str, *, certificate: bool) -> Scenario:
    """A service principal whose proof is replaced."""
    return Scenario(
        id_,
        holds,
        (
            Principal("app", certificate),
            Pod("app", label="app"),
            Assigned("app", ("app",)),
            Token("app", "app"),
            Token("app", "app", "client_id", "app", resource=STORAGE),
            Rotated("app", certificate),
            Now(Token("app", "app", resource=GRAPH)),
        ),
    )


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
            Now(Token("app", 404, "client_id", "other", words="in CREATED state failed after")),
            Now(Token("app", 404, "msi_res_id", "other")),
            Now(Token("app", 400, "object_id", "other", words="Identity not found")),
            Token("app", "own", "client_id", "own"),
            Token("app", "own"),
            Token("neighbour", "other"),
        ),
    ),
    Scenario(
        "same-name-two-namespaces",
        "Equal names of identity, binding and pod in two namespaces: each pod gets its own identity, no other.",
        (
            Identity("a/app", namespaced=True),
            Identity("b/app", namespaced=True),
            Together((Pod("a/app", label="app", node="0"), Pod("b/app", label="app", node="0"))),
            Assigned("a/app", ("app",)),
            Assigned("b/app", ("app",)),
            Token("a/app", "a/app"),
            Token("b/app", "b/app"),
            Now(Token("a/app", 404, "client_id", "b/app")),
            OnHost(("a/app", "b/app")),
        ),
    ),
    Scenario(
        "init-container",
        "An init container asks before the identity is assigned: it is served as soon as it is.",
        (
            Pod("app", label="app", init=WAITING, ready=False),
            InitRuns("app"),
            Identity("app"),
            Assigned("app", ("app",)),
            Ready("app"),
            Token("app", "app"),
        ),
    ),
    Scenario(
        "exception",
        "An AzurePodIdentityException matches: the pod gets the node's own token, one it does not match is refused.",
        (
            Exempt("helpers", {"role": "helper"}),
            Pod("helper", labels={"role": "helper"}),
            Pod("other", labels={"role": "other"}),
            Token("helper", "kubelet", "client_id", "kubelet"),
            Now(Token("other", 404, "client_id", "kubelet")),
        ),
    ),
    principal(
        "service-principal",
        "An identity of type 1 gives tokens of its application; a new secret is taken up at once.",
        certificate=False,
    ),
    principal(
        "service-principal-certificate",
        "An identity of type 2 gives tokens of its application; a new certificate is taken up at once.",
        certificate=True,
    ),
    Scenario(
        "retry-after",
        "nmi does not wait and says 503 with Retry-After: the unmodified SDK waits, asks again, and succeeds.",
        (
            Identity("app", selector="-"),
            Pod("app", label="app", node=OTHER_WAY),
            Header("app", "app", 503, "Retry-After", "20"),
            Together((SdkToken("app", "app"), Series((SdkHeard("app", 503), Binding("app", "app"))))),
            Token("app", "app"),
        ),
    ),
    Scenario(
        "metadata-endpoints",
        "No Metadata header is 400, an unknown path 404, the instance's documents 403 where they are blocked.",
        (
            Together((Pod("app", label="app", node=OTHER_WAY), Pod("elsewhere", label="app", node="0"))),
            Answers("app", ASKED, 400, "Required metadata header not specified", header=False),
            Answers("app", "/doesnotexist", 404),
            Answers("app", "/doesnotexist", 400, "Required metadata header not specified", header=False),
            Answers("app", INSTANCE, 403, "blocked"),
            Answers("elsewhere", INSTANCE, 200, "compute"),
        ),
    ),
    Scenario(
        "throttled-imds",
        "IMDS says 429 with Retry-After: tokens in the cache are served, others are refused with 429 until it ends.",
        (
            Identity("app"),
            Pod("app", label="app"),
            Assigned("app", ("app",)),
            Token("app", "app"),
            ThrottledImds("app"),
            While(
                Token("app", "app"), (Now(Token("app", 429, resource=STORAGE)), Now(Token("app", 429, resource=GRAPH)))
            ),
            Accepts(),
            Token("app", "app", resource=STORAGE),
        ),
    ),
)
