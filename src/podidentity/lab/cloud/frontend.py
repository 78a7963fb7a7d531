"""From the sockets to the services: which service a request is for, the faults in its way, the headers of all."""

import asyncio
from dataclasses import replace

from aiohttp import web

from podidentity.lab.cloud.admin import AdminService
from podidentity.lab.cloud.arm.service import Arm
from podidentity.lab.cloud.counters import Counters
from podidentity.lab.cloud.entra import HOSTS as ENTRA_HOSTS
from podidentity.lab.cloud.entra import Entra
from podidentity.lab.cloud.faults import FaultRule, FaultSwitch, Service
from podidentity.lab.cloud.imds import Imds
from podidentity.lab.cloud.keyvault import KeyVault
from podidentity.lab.cloud.wire import Call, Reply, ServiceError
from podidentity.lab.cloud.world import World

ARM_HOST = "management.azure.com"
VAULT_SUFFIX = ".vault.azure.net"
VAULT_PREFIX = "/_vault/"
_BODY_LIMIT = 4 * 1024 * 1024
_ARM_PATHS = ("/subscriptions", "/providers", "/tenants")


class Frontend:
    """The handlers that the listeners run."""

    def __init__(
        self,
        *,
        world: World,
        faults: FaultSwitch,
        counters: Counters,
        arm: Arm,
        entra: Entra,
        vaults: KeyVault,
        imds: Imds,
        admin: AdminService,
    ) -> None:
        self._world = world
        self._faults = faults
        self._counters = counters
        self._arm = arm
        self._entra = entra
        self._vaults = vaults
        self._imds = imds
        self._admin = admin

    async def https(self, request: web.BaseRequest) -> web.StreamResponse:
        """ARM, Entra ID and Key Vault, told apart by host name, else by path (`/_vault/NAME/...` for a vault)."""
        call = await _read(request)
        if call is None:
            return _send(Reply(413, {"error": {"code": "RequestEntityTooLarge", "message": "The body is too large."}}))
        service, vault, call = _address(call, request.headers.get("Host", ""))
        rule = self._faults.take(service, call)
        if rule is not None and rule.delay:
            await asyncio.sleep(rule.delay)
        if rule is not None and not rule.after:
            if rule.drop:
                return _abort(request)
            if rule.status:
                self._counters.count(service, "fault", call, rule.status)
                return _send(self._stamped(_injected(service, rule)))
        reply = self._serve(service, vault, call)
        if rule is not None and rule.after:
            return _abort(request) if rule.drop else _send(self._stamped(_injected(service, rule)))
        return _send(self._stamped(reply))

    def _serve(self, service: Service, vault: str, call: Call) -> Reply:
        if service == "arm":
            operation, reply = self._arm.handle(call)
        elif service == "vault":
            operation, reply = self._vaults.handle(call, vault)
            self._counters.count_secret(vault, call)
        else:
            operation, reply = self._entra.handle(call)
        self._counters.count(service, operation, call, reply.status)
        return reply

    def _stamped(self, reply: Reply) -> Reply:
        request_id = self._world.new_guid()
        stamps = {"x-ms-request-id": request_id, "x-ms-correlation-request-id": request_id, "Cache-Control": "no-cache"}
        return replace(reply, headers={**stamps, **reply.headers})

    async def imds(self, request: web.BaseRequest) -> web.StreamResponse:
        """IMDS: who asks is told by the peer's address."""
        call = await _read(request)
        if call is None:
            return _send_imds(Reply(413, {"error": "Request entity too large"}))
        nic = self._imds.source(call.peer)
        if nic is None:
            self._counters.count_imds("unknown", call, 403)
            return _send_imds(Reply(403, {"error": "Forbidden", "error_description": "No machine has this address"}))
        rule = self._faults.take("imds", call)
        if rule is not None:
            await asyncio.sleep(rule.delay)
            if rule.drop and not rule.after:
                return _abort(request)
        try:
            seconds = self._imds.begin(call, nic)
        except ServiceError as refusal:
            reply = refusal.reply
        else:
            try:
                await asyncio.sleep(seconds)
                injected = rule is not None and rule.status and not rule.after
                reply = _injected("imds", rule) if rule is not None and injected else self._imds.handle(call, nic)
            finally:
                self._imds.end(nic)
        self._counters.count_imds(nic.kind, call, reply.status)
        if rule is not None and rule.after:
            return _abort(request) if rule.drop else _send_imds(_injected("imds", rule))
        return _send_imds(reply)

    async def admin(self, request: web.BaseRequest) -> web.StreamResponse:
        """The owner's socket; with the Host header of one of Azure's names it is that service's front door too."""
        if _service_of_name(request.headers.get("Host", "")) is not None:
            return await self.https(request)
        call = await _read(request)
        if call is None:
            return _send(Reply(413, {"error": "the body is too large"}))
        return _send(self._admin.handle(call))


async def _read(request: web.BaseRequest) -> Call | None:
    """The request as a value; None when its body is too large."""
    body = await request.content.read(_BODY_LIMIT + 1) if request.body_exists else b""
    while request.body_exists and len(body) <= _BODY_LIMIT:
        more = await request.content.read(_BODY_LIMIT + 1 - len(body))
        if not more:
            break
        body += more
    if len(body) > _BODY_LIMIT:
        return None
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        headers.setdefault(name.lower(), value)
    peer = request.transport.get_extra_info("peername") if request.transport else None
    address = peer[0] if isinstance(peer, tuple) else ""
    target = request.raw_path
    if not target.startswith("/"):
        target = "/" + target.partition("://")[2].partition("/")[2]
    base = f"{request.scheme}://{request.headers.get('Host', '')}"
    return Call(request.method, target, headers, body, address, base)


def _service_of_name(host_header: str) -> tuple[Service, str] | None:
    """The service, and the vault, that one of Azure's host names stands for; None for any other name."""
    host = host_header.partition(":")[0].casefold()
    if host == ARM_HOST:
        return "arm", ""
    if host in ENTRA_HOSTS:
        return "entra", ""
    if host.endswith(VAULT_SUFFIX):
        return "vault", host.removesuffix(VAULT_SUFFIX)
    return None


def _address(call: Call, host_header: str) -> tuple[Service, str, Call]:
    """Which service, and which vault, a request is for; a vault's prefix is taken off the path."""
    named = _service_of_name(host_header)
    if named is not None:
        return *named, call
    if call.target.startswith(VAULT_PREFIX):
        vault, _, rest = call.target.removeprefix(VAULT_PREFIX).partition("/")
        vault = vault.partition("?")[0]
        return "vault", vault, replace(call, target="/" + rest, base=f"{call.base}{VAULT_PREFIX}{vault}")
    is_arm = call.path.casefold().startswith(_ARM_PATHS)
    return ("arm" if is_arm else "entra"), "", call


def _injected(service: Service, rule: FaultRule) -> Reply:
    """A rule's answer, in the service's form of an error."""
    code, message = rule.code or "InjectedFault", rule.message or "Injected fault"
    if service in ("arm", "vault"):
        return Reply(rule.status, {"error": {"code": code, "message": message}}, rule.headers)
    return Reply(rule.status, {"error": rule.code or "invalid_request", "error_description": message}, rule.headers)


def _abort(request: web.BaseRequest) -> web.StreamResponse:
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def _send_imds(reply: Reply) -> web.Response:
    """With the header that tells IMDS from whoever else answers on its address."""
    return _send(replace(reply, headers={"Server": "IMDS/150.870.65.1854", **reply.headers}))


def _send(reply: Reply) -> web.Response:
    payload = reply.payload()
    headers = dict(reply.headers)
    if payload:
        headers["Content-Type"] = reply.content_type
    return web.Response(status=reply.status, body=payload, headers=headers)
