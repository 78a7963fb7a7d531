"""The compute client against an ARM on a real socket."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import web
from tests.azure.conftest import AGENT, VM, VMSS, Arm, FixedCredential
from tests.azure.servers import Handler, Request, answer, fake_server

from podidentity.azure.arm import ComputeClient, HostIdentities, IdentityPatch
from podidentity.azure.cloud import PUBLIC
from podidentity.azure.errors import (
    AuthorizationFailed,
    AzureError,
    AzureStatusError,
    AzureUnavailable,
    ConflictError,
    FailedIdentityOperation,
    HostDeleting,
    HostNotFound,
    LinkedAuthorizationFailed,
    OperationFailed,
    SubscriptionNotFound,
    Throttled,
    TokenError,
)

RUNNING = {"properties": {"provisioningState": "Updating"}}
DONE = {"id": "/subscriptions/sub-1/vm0", "properties": {"provisioningState": "Succeeded"}}
IDENTITY = "/subscriptions/sub-1/resourceGroups/i.a(1)/providers/Microsoft.ManagedIdentity/userAssignedIdentities/uai1"
ADD = IdentityPatch("UserAssigned", add=frozenset({IDENTITY.lower()}))


def error(code: str, message: str = "no") -> dict[str, object]:
    """ARM's error body."""
    return {"error": {"code": code, "message": message}}


async def test_m11_get(arm: Arm) -> None:
    """A GET goes to the contract's address with token and user agent, and gives identities by folded id."""
    arm.fake.add(
        answer(
            200,
            {
                "location": "westeurope",
                "identity": {
                    "type": "SystemAssigned, UserAssigned",
                    "principalId": "sys",
                    "userAssignedIdentities": {IDENTITY: {"clientId": "c", "principalId": "p"}, "/other": None},
                },
                **DONE,
            },
        )
    )
    found = await arm.client.get(VM)
    assert (found.type, found.system_principal_id, found.location) == (
        "SystemAssigned, UserAssigned",
        "sys",
        "westeurope",
    )
    assert found.user_assigned[IDENTITY.lower()].resource_id == IDENTITY
    assert found.user_assigned[IDENTITY.lower()].client_id == "c"
    (asked,) = arm.fake.asked
    assert asked.target == (
        "/subscriptions/sub-1/resourceGroups/RG.one(1)/providers/Microsoft.Compute/virtualMachines/vm0"
        "?api-version=2019-12-01"
    )
    assert asked.headers["authorization"] == "Bearer arm-token"
    assert asked.headers["user-agent"].endswith(f" {AGENT}")
    assert arm.credential.asked == ["https://management.azure.com/"]
    assert arm.metrics == [("vm_get", None)]


async def test_get_of_a_host_without_identity(arm: Arm) -> None:
    """A host without identity has an empty type and no identities."""
    arm.fake.add(answer(200, {"id": "x", "identity": None}))
    assert await arm.client.get(VMSS) == HostIdentities()
    assert arm.metrics == [("vmss_get", None)]


async def test_patch_200_polls_the_operation_it_names(arm: Arm) -> None:
    """Polling must not use up the 12 GETs a minute of the host: ARM names an operation with a budget of its own."""
    arm.fake.add(
        answer(200, RUNNING, {"Azure-AsyncOperation": f"{arm.fake.url}/operation", "Retry-After": "0"}),
        answer(200, {"status": "InProgress"}, {"Retry-After": "0"}),
        answer(200, {"status": "Succeeded"}),
    )
    await arm.client.patch(VM, ADD)
    assert [asked.target for asked in arm.fake.asked[1:]] == ["/operation"] * 2


async def test_patch_200_without_operation_polls_the_resource(arm: Arm) -> None:
    """After a 200 that is still running and names no operation the resource itself is polled."""
    arm.fake.add(
        answer(200, RUNNING, {"Retry-After": "0"}),
        answer(200, RUNNING, {"Retry-After": "0"}),
        answer(200, DONE),
    )
    await arm.client.patch(VM, ADD)
    patched, *polls = arm.fake.asked
    assert patched.json == {"identity": {"type": "UserAssigned", "userAssignedIdentities": {IDENTITY.lower(): {}}}}
    assert patched.headers["content-type"] == "application/json; charset=utf-8"
    assert [poll.target for poll in polls] == [patched.target] * 2
    assert arm.metrics == [("vm_update", None)]


async def test_patch_done_at_once(arm: Arm) -> None:
    """A 200 without state, with a final one, and a 204 end the call with one request each."""
    arm.fake.add(answer(200, {"id": "x"}), answer(200, DONE), answer(204))
    for _ in range(3):
        await arm.client.patch(VM, ADD)
    assert len(arm.fake.asked) == 3


@pytest.mark.parametrize("status", [201, 202])
async def test_patch_polls_the_operation(arm: Arm, status: int) -> None:
    """After 201 and 202 the operation is polled, also when ARM names it by its public host."""
    arm.fake.add(
        answer(
            status,
            RUNNING,
            {"Azure-AsyncOperation": "https://management.azure.com/operations/1?p=a", "Retry-After": "0"},
        ),
        answer(200, {"status": "InProgress"}, {"Retry-After": "0"}),
        answer(200, {"status": "Succeeded"}),
    )
    await arm.client.patch(VMSS, ADD)
    assert [asked.target for asked in arm.fake.asked[1:]] == ["/operations/1?p=a"] * 2


async def test_patch_202_location(arm: Arm) -> None:
    """A 202 with a Location only is followed there until it no longer answers 202."""
    arm.fake.add(
        answer(202, None, {"Location": f"{arm.fake.url}/result", "Retry-After": "0"}),
        answer(202, None, {"Retry-After": "0"}),
        answer(200, {"id": "x"}),
    )
    await arm.client.patch(VM, ADD)
    assert [asked.target for asked in arm.fake.asked[1:]] == ["/result"] * 2


async def test_patch_202_without_address(arm: Arm) -> None:
    """A 202 that names nothing to follow is an error, not a success."""
    arm.fake.add(answer(202))
    with pytest.raises(AzureUnavailable, match="named no operation"):
        await arm.client.patch(VM, ADD)


async def test_token_goes_nowhere_else(arm: Arm) -> None:
    """An operation at a foreign address is not asked: the token stays with ARM."""
    async with fake_server() as foreign:
        arm.fake.add(answer(202, None, {"Location": f"{foreign.url}/steal", "Retry-After": "0"}))
        with pytest.raises(AzureUnavailable, match="foreign address"):
            await arm.client.patch(VM, ADD)
        assert foreign.asked == []


async def test_redirects_are_not_followed(arm: Arm) -> None:
    """A redirect is an error answer: the token is not carried along."""
    async with fake_server() as foreign:
        arm.fake.add(answer(307, None, {"Location": f"{foreign.url}/steal"}))
        with pytest.raises(AzureStatusError, match="307"):
            await arm.client.get(VM)
        assert foreign.asked == []


async def test_failed_operation_tells_the_identity(arm: Arm) -> None:
    """A failed operation raises what the operation said, with the identity at fault, also after a 200."""
    failed = {
        "status": "Failed",
        **error("FailedIdentityOperation", f"Identity operation for resource '{IDENTITY}' failed with error 'x'."),
    }
    arm.fake.add(
        answer(200, RUNNING, {"Azure-AsyncOperation": f"{arm.fake.url}/operation"}),
        answer(200, failed),
    )
    with pytest.raises(FailedIdentityOperation) as caught:
        await arm.client.patch(VM, ADD)
    assert caught.value.ids == {IDENTITY.lower()}
    assert arm.metrics == [("vm_update", caught.value)]


async def test_failed_operation_without_reason(arm: Arm) -> None:
    """A failed operation that gives no reason is a failure all the same."""
    arm.fake.add(answer(200, RUNNING), answer(200, {"properties": {"provisioningState": "Canceled"}}))
    with pytest.raises(OperationFailed):
        await arm.client.patch(VM, ADD)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (403, error("AuthorizationFailed"), AuthorizationFailed),
        (404, error("ResourceNotFound"), HostNotFound),
        (404, error("SubscriptionNotFound"), SubscriptionNotFound),
        (409, error("Conflict"), ConflictError),
        (409, error("ConflictingConcurrentWriteNotAllowed"), ConflictError),
        (400, error("InvalidParameter"), AzureStatusError),
        (400, b"<html>garbage", AzureStatusError),
        (401, b"", AzureStatusError),
        (400, b"\xff\xfe\x00", AzureStatusError),
        (400, b"[" * 100_000, AzureStatusError),
    ],
)
async def test_errors_are_not_repeated(arm: Arm, status: int, body: object, kind: type[AzureError]) -> None:
    """An error ARM means is raised at once as its kind, whatever its body looks like."""
    arm.fake.default = answer(status, body)
    with pytest.raises(kind) as caught:
        await arm.client.patch(VM, ADD)
    assert len(arm.fake.asked) == 1
    assert "\n" not in str(caught.value)


async def test_m34_linked_authorization(arm: Arm) -> None:
    """LinkedAuthorizationFailed names every identity, folded, whatever the resource groups are called."""
    message = (
        "The client 'x' with object id 'y' has permission to perform action 'Microsoft.Compute/virtualMachines/write' "
        "on scope '/subscriptions/s/resourceGroups/r'; however, it does not have permission to perform action "
        "'Microsoft.ManagedIdentity/userAssignedIdentities/assign/action' on the linked scope(s) "
        f"'{IDENTITY},{IDENTITY}2' "
        "or the linked scope(s) are invalid."
    )
    arm.fake.add(answer(403, error("LinkedAuthorizationFailed", message)))
    with pytest.raises(LinkedAuthorizationFailed) as caught:
        await arm.client.patch(VM, ADD)
    assert caught.value.scopes == {IDENTITY.lower(), f"{IDENTITY}2".lower()}


async def test_throttled_is_the_callers(arm: Arm) -> None:
    """A 429 is raised at once with the seconds to wait; nothing sleeps on it here."""
    arm.fake.default = answer(429, error("OperationNotAllowed"), {"Retry-After": "97"})
    with pytest.raises(Throttled) as caught:
        await arm.client.get(VM)
    assert caught.value.retry_after == 97
    assert len(arm.fake.asked) == 1


async def test_throttled_poll_is_waited_out(arm: Arm) -> None:
    """A 429 while polling is waited out: the change is under way and its end must be known."""
    arm.fake.add(answer(200, RUNNING), *[answer(429, None, {"Retry-After": "0"})] * 5, answer(200, DONE))
    await arm.client.patch(VM, ADD)
    assert len(arm.fake.asked) == 7


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
async def test_transient_statuses_are_retried(arm: Arm, status: int) -> None:
    """A transient status is retried and the answer that follows is taken."""
    arm.fake.add(answer(status, b"oops"), answer(status), answer(200, DONE))
    assert (await arm.client.get(VM)).provisioning_state == "Succeeded"


@pytest.mark.parametrize("lost", [answer(200, DONE, delay=30), answer(504)])
async def test_a_patch_without_an_answer_is_not_sent_again(arm: Arm, lost: Handler) -> None:
    """What was perhaps begun is not begun once more over it: the caller reads the host first."""
    arm.fake.default = lost
    with pytest.raises((AzureUnavailable, AzureStatusError)):
        await arm.client.patch(VM, ADD)
    assert len(arm.fake.asked) < 2


async def test_retries_are_bounded(arm: Arm) -> None:
    """A server that always fails is asked four times."""
    arm.fake.default = answer(500)
    with pytest.raises(AzureStatusError, match="500"):
        await arm.client.get(VM)
    assert len(arm.fake.asked) == 4
    assert [name for name, _ in arm.metrics] == ["vm_get"]


async def test_long_retry_after_is_the_callers(arm: Arm) -> None:
    """A 503 that wants minutes is raised with them instead of blocking a caller."""
    arm.fake.default = answer(503, None, {"Retry-After": "300"})
    with pytest.raises(AzureStatusError) as caught:
        await arm.client.get(VM)
    assert caught.value.retry_after == 300
    assert len(arm.fake.asked) == 1


async def test_slow_server(arm: Arm) -> None:
    """A server that does not answer costs the attempt's deadline, and the call ends within its own."""
    arm.fake.default = answer(200, DONE, delay=30)
    start = time.monotonic()
    with pytest.raises(AzureUnavailable, match="no result within"):
        await arm.client.get(VM)
    assert time.monotonic() - start < 4


async def test_dripping_body(arm: Arm) -> None:
    """A body that comes drop by drop ends with the attempt's deadline."""

    async def drip(_: Request) -> web.StreamResponse:
        await asyncio.sleep(0)
        return Dripping()

    arm.fake.default = drip  # type: ignore[assignment]  # a streamed answer
    with pytest.raises(AzureUnavailable):
        await arm.client.get(VM)


class Dripping(web.StreamResponse):
    """Sends a byte now and then until the peer leaves."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Drip instead of ending."""
        for _ in range(100):
            await self.write(b" ")
            await asyncio.sleep(0.1)
        await super().write_eof(data)


async def test_huge_body(arm: Arm) -> None:
    """A body beyond the bound is refused instead of being read into memory."""
    arm.fake.default = answer(200, b" " * (5 * 1024 * 1024))
    with pytest.raises(AzureUnavailable, match="larger than"):
        await arm.client.get(VM)


UNREADABLE = [
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"{",
    b"\xff",
    b'{"identity": 3}',
    b"{}" * 10,
    b"{}",
    b'{"error": {"code": "x"}}',
]


@pytest.mark.parametrize("body", UNREADABLE)
async def test_unreadable_answer(arm: Arm, body: bytes) -> None:
    """A success whose body is no machine is an error, never an empty machine that a PATCH is planned from."""
    arm.fake.default = answer(200, body)
    with pytest.raises(AzureUnavailable):
        await arm.client.get(VM)


async def test_no_server() -> None:
    """A refused connection is retried, then reported in one line without the query."""
    async with fake_server() as fake:
        url = fake.url
    client = ComputeClient(PUBLIC, FixedCredential(), user_agent=AGENT, base_url=url, retries=0, environ={})
    with pytest.raises(AzureUnavailable, match="GET http") as caught:
        await client.get(VM)
    assert "api-version" not in str(caught.value)
    await client.close()


async def test_refused_token(arm: Arm) -> None:
    """Without a token nothing is sent, and the refusal is what is raised."""
    arm.credential.error = TokenError(400, "invalid_request", "Identity not found")
    with pytest.raises(TokenError, match="Identity not found"):
        await arm.client.patch(VM, ADD)
    assert arm.fake.asked == []


async def test_deleting_host_is_not_patched(arm: Arm) -> None:
    """A host that is being deleted gets no PATCH."""
    with pytest.raises(HostDeleting):
        await arm.client.patch(VM, ADD, known=HostIdentities(provisioning_state="Deleting"))
    assert arm.fake.asked == []


async def test_operation_deadline(arm: Arm) -> None:
    """An operation that never ends is given up at its deadline."""
    arm.fake.add(answer(200, RUNNING))
    arm.fake.default = answer(200, RUNNING, {"Retry-After": "0.5"})
    with pytest.raises(AzureUnavailable, match="no result within 2 s"):
        await arm.client.patch(VM, ADD)


async def test_cancelled_call(arm: Arm) -> None:
    """A cancelled call ends at once and is not metered."""
    arm.fake.default = answer(200, DONE, delay=30)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await arm.client.get(VM)
    assert arm.metrics == []
