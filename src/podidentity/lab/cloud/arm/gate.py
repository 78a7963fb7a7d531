"""Who may come in, and how often: authentication, role assignments and throttling of ARM."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from podidentity.lab.cloud import ids
from podidentity.lab.cloud.arm import errors
from podidentity.lab.cloud.buckets import Buckets
from podidentity.lab.cloud.faults import ArmLimits, FaultSwitch
from podidentity.lab.cloud.model import Host
from podidentity.lab.cloud.roles import allows
from podidentity.lab.cloud.tokens import Issuer, TokenError
from podidentity.lab.cloud.wire import Call, Reply
from podidentity.lab.cloud.world import World

AUDIENCES = frozenset(
    {
        "https://management.azure.com/",
        "https://management.azure.com",
        "https://management.core.windows.net/",
        "https://management.core.windows.net",
    }
)
_ASSIGN = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"
_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, from the token's claims."""

    client_id: str
    object_id: str


@dataclass(frozen=True, slots=True)
class ArmCall:
    """A request that was let in: `scope` is its path as sent, `params` the path's variable segments."""

    call: Call
    caller: Caller
    scope: str
    params: Mapping[str, str]
    action: str

    @property
    def api_version(self) -> str:
        """The version asked for."""
        return self.call.parameter("api-version")


ArmHandler = Callable[[ArmCall], Reply]


class Gate:
    """ARM's front door over the world's role assignments; `buckets` and the faults' limits decide how often."""

    def __init__(self, world: World, issuer: Issuer, faults: FaultSwitch, buckets: Buckets) -> None:
        self._world = world
        self._issuer = issuer
        self._faults = faults
        self._buckets = buckets

    def authenticate(self, call: Call) -> Caller:
        """Who sent the request; 401 in ARM's words."""
        tenant = self._world.directory.tenant_id
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        if scheme.casefold() != "bearer" or not token:
            message = "Authentication failed. The 'Authorization' header is missing."
            raise errors.unauthenticated("AuthenticationFailed", message, tenant)
        now = self._world.now()
        try:
            claims = self._issuer.check(token.strip(), AUDIENCES, now=now)
        except TokenError as error:
            raise errors.unauthenticated(*_rejection(error, now), tenant) from error
        return Caller(claims.appid, claims.oid)

    def may(self, caller: Caller, action: str, scope: str) -> bool:
        """Whether the caller may do the action; the owner may do everything."""
        if caller.object_id == self._world.directory.owner:
            return True
        return allows(self._world.grants(caller.object_id), action, scope)

    def require(self, caller: Caller, action: str, scope: str) -> None:
        """403 AuthorizationFailed unless the caller may."""
        if not self.may(caller, action, scope):
            raise errors.authorization_failed(caller.client_id, caller.object_id, action, scope)

    def require_assign(self, request: ArmCall, identities: Sequence[str]) -> None:
        """403 LinkedAuthorizationFailed unless the caller may assign every one of the identities."""
        caller = request.caller
        if caller.object_id == self._world.directory.owner:
            return
        grants = tuple(self._world.grants(caller.object_id))
        linked = [identity for identity in identities if not allows(grants, _ASSIGN, identity)]
        if linked:
            raise errors.linked_authorization_failed(
                caller.client_id, caller.object_id, request.action, request.scope, linked
            )

    def throttle_principal(self, call: Call, caller: Caller, subscription: str) -> dict[str, str]:
        """Take from ARM's own bucket; the header that tells what is left, or 429."""
        limits = self._faults.now.arm_limits
        kind = {"GET": "reads", "HEAD": "reads", "DELETE": "deletes"}.get(call.method, "writes")
        if limits is None:
            return {}
        capacity, per_second = {"reads": limits.reads, "deletes": limits.deletes, "writes": limits.writes}[kind]
        name = f"{kind} {caller.object_id} {subscription.casefold()}"
        left, wait = self._buckets.take(name, capacity, per_second)
        if wait:
            raise errors.throttled_by_arm(kind.removesuffix("s"), subscription, caller.client_id, math.ceil(wait))
        return {f"x-ms-ratelimit-remaining-subscription-{kind}": str(left)}

    def throttle_host(self, host: Host, *, write: bool) -> dict[str, str]:
        """Take from compute's buckets of the host and its subscription; the header, or 429."""
        limits = self._faults.now.arm_limits
        if limits is None:
            return {}
        verb = "Update" if write else "Get"
        kind = "VM" if host.is_vm else "VMScaleSet"
        named = {f"{verb}{kind}Resource": (host.key, limits.host_update if write else limits.host_get)}
        if write:
            subscription = ids.subscription_of(host.id).casefold()
            named[f"{verb}{kind}SubscriptionMaximum"] = (subscription, limits.host_update_subscription)
        return self._take(named)

    def throttle_poll(self, host_key: str) -> dict[str, str]:
        """Take from the bucket of a host's operations; the header, or 429."""
        limits: ArmLimits | None = self._faults.now.arm_limits
        return {} if limits is None else self._take({"GetOperationResource": (host_key, limits.operation_poll)})

    def _take(self, named: Mapping[str, tuple[str, tuple[float, float]]]) -> dict[str, str]:
        remaining = []
        for policy, (owner, (capacity, per_minute)) in named.items():
            left, wait = self._buckets.take(f"{policy} {owner}", capacity, per_minute / _MINUTE)
            if wait:
                raise errors.throttled_by_compute(policy, math.ceil(wait))
            remaining.append(f"Microsoft.Compute/{policy};{left}")
        return {"x-ms-ratelimit-remaining-resource": ",".join(remaining)}


def _rejection(error: TokenError, now: float) -> tuple[str, str]:
    """Code and message for a refused token."""
    if error.fault == "expired":
        expiry, current = (f"{datetime.fromtimestamp(t, UTC):%m/%d/%Y %H:%M:%S}" for t in (float(error.found), now))
        message = f"The access token expiry UTC time '{expiry}' is earlier than current UTC time '{current}'."
        return "ExpiredAuthenticationToken", message
    if error.fault == "audience":
        message = (
            f"The access token has been obtained for wrong audience or resource '{error.found}'. It should exactly "
            f"match with one of the allowed audiences '{','.join(sorted(AUDIENCES))}'."
        )
        return "InvalidAuthenticationTokenAudience", message
    if error.fault == "issuer":
        return "InvalidAuthenticationTokenTenant", f"The access token is from the wrong issuer '{error.found}'."
    return "InvalidAuthenticationToken", "The access token is invalid."
