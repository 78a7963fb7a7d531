"""ARM as one function from a call to a reply."""

import re
from collections.abc import Sequence

from podidentity.lab.cloud import ids
from podidentity.lab.cloud.arm import errors
from podidentity.lab.cloud.arm.authorization import Authorization
from podidentity.lab.cloud.arm.compute import Compute
from podidentity.lab.cloud.arm.gate import ArmCall, ArmHandler, Caller, Gate
from podidentity.lab.cloud.arm.groups import Groups
from podidentity.lab.cloud.arm.identities import Identities
from podidentity.lab.cloud.arm.vaults import Vaults
from podidentity.lab.cloud.buckets import Buckets
from podidentity.lab.cloud.faults import FaultSwitch
from podidentity.lab.cloud.tokens import Issuer
from podidentity.lab.cloud.wire import Call, MethodError, Reply, Route, Routes, ServiceError
from podidentity.lab.cloud.world import World

_API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")


class Arm:
    """Routes, and what comes before each: authentication, version, budget, role."""

    def __init__(self, world: World, issuer: Issuer, faults: FaultSwitch, buckets: Buckets) -> None:
        self._world = world
        self._gate = Gate(world, issuer, faults, buckets)
        providers: Sequence[Sequence[Route[ArmHandler]]] = (
            Compute(world, self._gate, faults).routes(),
            Identities(world).routes(),
            Authorization(world, faults).routes(),
            Vaults(world).routes(),
            Groups(world, self._gate).routes(),
        )
        self._routes = Routes(route for routes in providers for route in routes)

    def handle(self, call: Call) -> tuple[str, Reply]:
        """The route's name, for counting, and the reply."""
        try:
            found = self._routes.find(call.method, _normal(call.path))
        except MethodError:
            return "unknown", _method_not_allowed(call).reply
        if found is None:
            return "unknown", _no_such_type(call).reply
        route, params = found
        try:
            return route.name, self._admit(call, route, params)
        except ServiceError as refusal:
            return route.name, refusal.reply

    def _admit(self, call: Call, route: Route[ArmHandler], params: dict[str, str]) -> Reply:
        scope = _normal(call.path)
        caller = self._gate.authenticate(call)
        self._check_version(call)
        headers = self._gate.throttle_principal(call, caller, params.get("sub", ""))
        self._check_subscription(params)
        request = ArmCall(call, caller, scope, params, route.action)
        try:
            reply = self._authorized(request, caller, route)
        except ServiceError as refusal:
            reply = refusal.reply
        return _with_headers(reply, headers)

    def _authorized(self, request: ArmCall, caller: Caller, route: Route[ArmHandler]) -> Reply:
        if route.action:
            self._gate.require(caller, route.action, request.scope)
        return route.handler(request)

    def _check_version(self, call: Call) -> None:
        version = call.parameter("api-version")
        if not version:
            message = "The api-version query parameter (?api-version=) is required for all requests."
            raise errors.arm_error(400, "MissingApiVersionParameter", message)
        if not _API_VERSION.fullmatch(version):
            message = f"The api-version '{version}' is invalid."
            raise errors.arm_error(400, "InvalidApiVersionParameter", message)

    def _check_subscription(self, params: dict[str, str]) -> None:
        subscription = params.get("sub")
        known = {found.casefold() for found in self._world.subscriptions()}
        if subscription is not None and subscription.casefold() not in known:
            raise errors.subscription_not_found(subscription)


def _with_headers(reply: Reply, headers: dict[str, str]) -> Reply:
    """The reply with more headers."""
    return Reply(reply.status, reply.body, {**headers, **reply.headers}, reply.content_type)


def _normal(path: str) -> str:
    """One leading slash, none doubled, none at the end, as ARM reads paths."""
    return "/" + "/".join(part for part in path.split("/") if part)


def _method_not_allowed(call: Call) -> ServiceError:
    message = f"The requested resource does not support http method '{call.method}'."
    return errors.arm_error(405, "MethodNotAllowed", message)


def _no_such_type(call: Call) -> ServiceError:
    if ids.subscription_of(call.path):
        message = f"The resource type could not be found for the path '{call.path}'."
        return errors.arm_error(404, "InvalidResourceType", message)
    return errors.arm_error(404, "NotFound", f"No HTTP resource was found that matches the request URI '{call.path}'.")
