"""Ids, roles, buckets and tokens: the pure parts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.lab.cloud.conftest import APP1, GROUP, SUB, VM, VMSS, Time

from podidentity.lab.cloud import ids
from podidentity.lab.cloud.buckets import Buckets
from podidentity.lab.cloud.imds import normal
from podidentity.lab.cloud.roles import Grant, allows, find_role
from podidentity.lab.cloud.tokens import Issuer, Subject, TokenError, b64, new_key, unb64

OPERATOR = "f1a07417-d97a-45cb-824c-7a7467783830"
CONTRIBUTOR = "9980e02c-c2be-4d73-94e8-173b1dc7cf3c"
ASSIGN = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    """An issuer; its key takes a while to make."""
    return Issuer("t", new_key())


def test_an_instance_belongs_to_its_scale_set() -> None:
    """Protects how NICs find their host, and that a VM has no instances."""
    assert ids.host_of(f"{VMSS}/virtualMachines/1") == ids.fold(VMSS)
    assert ids.host_of(VM.upper()) == ids.fold(VM)
    assert ids.host_of(f"{VM}/virtualMachines/1") is None
    assert ids.host_of(APP1) is None


def test_a_scope_holds_what_is_below_it_and_no_namesake() -> None:
    """Protects inheritance: a group named like the beginning of another's name is not above it."""
    assert ids.within(f"/subscriptions/{SUB}", VM)
    assert ids.within("/", VM)
    assert ids.within(GROUP.lower() + "/", VM.upper())
    assert not ids.within(f"/subscriptions/{SUB}/resourceGroups/rg", VM)
    assert not ids.within(VM, GROUP)


def test_the_roles_allow_what_the_contract_says() -> None:
    """Protects the two roles of the controller against being wider or narrower than in Azure."""
    operator, contributor = [Grant(GROUP, OPERATOR)], [Grant(GROUP, CONTRIBUTOR)]
    assert allows(operator, ASSIGN, GROUP)
    assert allows(operator, "Microsoft.ManagedIdentity/userAssignedIdentities/read", GROUP)
    assert not allows(operator, "Microsoft.ManagedIdentity/userAssignedIdentities/write", GROUP)
    assert not allows(operator, "Microsoft.Compute/virtualMachines/write", VM)
    assert allows(contributor, "Microsoft.Compute/virtualMachines/write", VM)
    assert allows(contributor, "microsoft.compute/virtualMachineScaleSets/virtualMachines/READ", VMSS)
    assert not allows(contributor, ASSIGN, GROUP)
    assert not allows(contributor, "Microsoft.Compute/virtualMachines/write", f"/subscriptions/{SUB}")


def test_a_contributor_may_not_hand_out_roles() -> None:
    """Protects notActions."""
    role = find_role("contributor")
    assert role is not None
    assert not allows([Grant("/", role.id)], "Microsoft.Authorization/roleAssignments/write", GROUP)
    assert allows([Grant("/", role.id)], "Microsoft.Authorization/roleAssignments/read", GROUP)
    assert not allows([Grant("/", role.id)], "Microsoft.KeyVault/vaults/secrets/getSecret/action", GROUP, data=True)


def test_buckets_give_out_their_capacity_and_refill() -> None:
    """Protects the throttle's arithmetic, with the time to wait."""
    time = Time(0)
    buckets = Buckets(time)
    assert [buckets.take("a", 2, 0.5) for _ in range(3)] == [(1, 0.0), (0, 0.0), (0, 2.0)]
    assert buckets.take("b", 2, 0.5) == (1, 0.0)
    time.now = 3
    assert buckets.take("a", 2, 0.5) == (0, 0.0)
    assert buckets.take("a", 2, 0.5) == (0, 1.0)


@given(st.binary())
def test_base64url_there_and_back(data: bytes) -> None:
    """Protects the encoding of every token."""
    assert unb64(b64(data)) == data


def test_a_token_says_whom_and_what_for(issuer: Issuer) -> None:
    """Protects the claims of a managed identity's token."""
    token = issuer.mint(Subject("c", "o", "/r"), "aud", now=100.9, lifetime=60, token_id="u")
    claims = issuer.check(token, frozenset({"aud"}), now=101)
    assert (claims.appid, claims.oid, claims.sub, claims.xms_mirid, claims.tid) == ("c", "o", "o", "/r", "t")
    assert (claims.iat, claims.nbf, claims.exp, claims.appidacr) == (100, 100, 160, "2")
    assert "xms_mirid" not in issuer.mint(Subject("c", "o"), "aud", now=0, lifetime=1, token_id="u")


@pytest.mark.parametrize(
    ("now", "audience", "fault"), [(99, "aud", "not_yet"), (160, "aud", "expired"), (120, "other", "audience")]
)
def test_a_token_at_the_wrong_time_or_place(issuer: Issuer, now: float, audience: str, fault: str) -> None:
    """Protects expiry to the second, the start of validity and the audience."""
    token = issuer.mint(Subject("c", "o"), "aud", now=100, lifetime=60, token_id="u")
    with pytest.raises(TokenError) as caught:
        issuer.check(token, frozenset({audience}), now=now)
    assert caught.value.fault == fault


def test_a_token_somebody_else_made(issuer: Issuer) -> None:
    """Protects against other keys, unsigned tokens, swapped claims and another tenant's issuer."""
    audiences = frozenset({"aud"})
    good = issuer.mint(Subject("c", "o"), "aud", now=0, lifetime=60, token_id="u")
    header, claims, signature = good.split(".")
    none = b64(json.dumps({"alg": "none", "kid": issuer.kid}).encode())
    swapped = b64(unb64(claims).replace(b'"o"', b'"x"'))
    foreign = Issuer("t", new_key()).mint(Subject("c", "o"), "aud", now=0, lifetime=60, token_id="u")
    forged = (f"{none}.{claims}.", f"{none}.{claims}.{signature}", f"{header}.{swapped}.{signature}", foreign)
    for token in forged:
        with pytest.raises(TokenError) as caught:
            issuer.check(token, audiences, now=1)
        assert caught.value.fault == "signature"


@given(st.text() | st.lists(st.binary().map(b64), min_size=3, max_size=3).map(".".join))
def test_any_text_is_a_token_or_refused(issuer: Issuer, text: str) -> None:
    """Protects the bearer parsers from failing otherwise than by refusing."""
    with pytest.raises(TokenError):
        issuer.check(text, frozenset({"aud"}), now=0)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("/METADATA/identity/oauth2/token", "/metadata/identity/oauth2/token"),
        ("/metadata/identity%2foauth2/token", "/metadata/identity/oauth2/token"),
        ("//metadata/x/../identity/./oauth2/token/", "/metadata/identity/oauth2/token"),
        ("/metadata/Identity/oauth2/token", "/metadata/Identity/oauth2/token"),
        ("/../..", "/"),
    ],
)
def test_imds_resolves_paths_leniently(sent: str, read: str) -> None:
    """Protects the lab's use as a detector: a proxy that forwards an odd path is seen to reach the endpoint."""
    assert normal(sent) == read
