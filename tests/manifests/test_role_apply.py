"""Making role assignments: only what is missing, and waiting for an Azure that is not at once of one mind."""

from __future__ import annotations

import asyncio

import pytest

from podidentity.aio.clock import loop_clock
from podidentity.azure.errors import AuthorizationFailed, AzureStatusError
from podidentity.config.errors import ConfigError
from podidentity.manifests.role_apply import apply, check
from podidentity.manifests.role_facts import Said, SignIn
from podidentity.manifests.role_principals import asked_for, at_hand
from podidentity.rules.resource_id import ResourceId
from podidentity.rules.role_check import Grant, State
from podidentity.rules.role_needs import Facts, Need, Principal, needed

pytestmark = pytest.mark.looptime

NEEDS = needed(Facts((Principal("oid", "kubelet identity"),), "s", "nodes", (ResourceId("s", "apps", "uai1"),)))
NOT_YET = AzureStatusError(400, "PrincipalNotFound", "Principal oid does not exist in the directory")


class Arm:
    """A stand-in that lists what it was given ``late`` seconds afterwards."""

    def __init__(self, late: float = 0.0, *refusals: AzureStatusError) -> None:
        self.late = late
        self.refusals = list(refusals)
        self.there: list[tuple[float, Grant]] = []
        self.written: list[Need] = []

    async def grants(self, scope: str, principal_id: str) -> tuple[Grant, ...]:
        """What is listed by now."""
        now = asyncio.get_running_loop().time()
        return tuple(grant for at, grant in self.there if at <= now and grant.scope == scope)

    async def assign(self, need: Need) -> bool:
        """Take an assignment, unless there is a refusal left."""
        if self.refusals:
            raise self.refusals.pop(0)
        self.written.append(need)
        at = asyncio.get_running_loop().time() + self.late
        self.there.append((at, Grant(need.principal.object_id, need.role, need.scope)))
        return True


async def test_a_second_time_there_is_nothing_to_make() -> None:
    """Protects from writing what is there: apply twice writes once."""
    arm = Arm()
    made: list[bool] = []
    for _ in range(2):
        checked = await apply(NEEDS, arm, made=lambda _need, new: made.append(new))
        assert [found.state for found in checked.findings] == [State.PRESENT] * 2
    assert made == [True, True]
    assert arm.written == list(NEEDS)


async def test_waits_until_azure_lists_it() -> None:
    """ARM lists an assignment some time after it took it: apply ends when it does, and not before."""
    begun = asyncio.get_running_loop().time()
    checked = await apply(NEEDS, Arm(late=90.0), clock=loop_clock())
    assert not checked.missing
    assert 90.0 <= asyncio.get_running_loop().time() - begun <= 105.0


async def test_a_wait_has_an_end() -> None:
    """What is not listed in time is named, with the advice to check later."""
    with pytest.raises(ConfigError, match="made, but not listed by ARM after 60 s: Virtual Machine Contributor at"):
        await apply(NEEDS, Arm(late=900.0), wait=60.0, clock=loop_clock())


async def test_a_principal_that_is_new() -> None:
    """An identity made a moment ago is not known to ARM yet: that is waited for, within the same time."""
    arm = Arm(0.0, NOT_YET, NOT_YET)
    assert not (await apply(NEEDS, arm, clock=loop_clock())).missing
    with pytest.raises(ConfigError, match=r"Virtual Machine Contributor for kubelet identity at .*PrincipalNotFound"):
        await apply(NEEDS, Arm(0.0, *[NOT_YET] * 99), wait=30.0, clock=loop_clock())


async def test_missing_rights_are_named() -> None:
    """Who may not read or write assignments learns which role would let them."""
    refused = AuthorizationFailed(403, "AuthorizationFailed", "no")
    with pytest.raises(ConfigError, match=r"you may not assign roles at resource group nodes .*User Access Admin"):
        await apply(NEEDS, Arm(0.0, refused))

    class Closed(Arm):
        async def grants(self, scope: str, principal_id: str) -> tuple[Grant, ...]:
            raise refused

    with pytest.raises(ConfigError, match="you may not read role assignments at resource group nodes"):
        await check(NEEDS, Closed())
    with pytest.raises(ConfigError, match="RoleAssignmentLimitExceeded"):
        await apply(NEEDS, Arm(0.0, AzureStatusError(400, "RoleAssignmentLimitExceeded", "2000")))


class Directory:
    """A stand-in that knows one identity and one scale set."""

    async def principal_of(self, subscription: str, client_id: str) -> tuple[str, str]:
        """Object id by client id."""
        return ("/x/uai", "oid") if client_id == "cid" else ("", "")

    async def system_assigned(self, group: str) -> dict[str, str]:
        """Machines with an identity of their own."""
        return {"pool": "oid-pool"} if group.endswith("/nodes") else {}


async def test_object_ids_are_asked_for() -> None:
    """azure.json has client ids only: ARM knows the object id, of an identity or of each machine."""

    async def found(sign_in: SignIn, group: str = "nodes") -> list[tuple[str, str]]:
        said = Said("s", group, sign_in)
        return [(one.object_id, one.who) for one in await asked_for(said, Directory())]

    assert await found(SignIn("x", client_id="cid")) == [("oid", "identity uai")]
    assert await found(SignIn("x")) == [("oid-pool", "own identity of pool")]
    assert await found(SignIn("kubelet", "oid-k")) == [("oid-k", "kubelet")]
    with pytest.raises(ConfigError, match="no user-assigned identity with client id other"):
        await found(SignIn("x", client_id="other"))
    with pytest.raises(ConfigError, match="no machine and no scale set in resource group empty"):
        await found(SignIn("x"), "empty")


def test_a_service_principals_object_id_is_the_persons_to_give() -> None:
    """Only the directory knows it, and az prints it: the line is there to be copied."""
    with pytest.raises(ConfigError, match="`az ad sp show --id cid --query id -o tsv` prints with --principal-id"):
        at_hand(Said(sign_in=SignIn("service principal", client_id="cid", service_principal=True)))
    with pytest.raises(ConfigError, match="who mic signs in as is not known"):
        at_hand(Said())
