"""The Instance Metadata Service: which machine asks is told by the peer's address, nothing else.

It is lenient where a product must not rely on it being strict: encoded, doubled and dotted paths are resolved before
they are looked up, so that a proxy that lets them through is seen to have let them through.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote

from podidentity.lab.cloud import ids
from podidentity.lab.cloud.buckets import Buckets
from podidentity.lab.cloud.faults import FaultSwitch
from podidentity.lab.cloud.imds_instance import NEWEST, instance_document, leaf
from podidentity.lab.cloud.model import Host, Nic
from podidentity.lab.cloud.resources import known_resource
from podidentity.lab.cloud.tokens import Issuer, Subject
from podidentity.lab.cloud.wire import Call, Reply, ServiceError
from podidentity.lab.cloud.world import World

TOKEN = "/metadata/identity/oauth2/token"  # noqa: S105 - a path
_INFO = "/metadata/identity/info"
_MIN_TOKEN_API = "2018-02-01"  # noqa: S105 - a version
_MIN_INSTANCE_API = "2017-04-02"
_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}")
_SELECTORS = ("client_id", "object_id", "msi_res_id", "mi_res_id")
_CONCURRENT = 5
_TOKEN_RATE = 20.0
_OTHER_RATE = 5.0
_REFRESH_AHEAD = 300
_CACHE = 10_000


def refused(
    status: int, description: str, error: str = "invalid_request", headers: Mapping[str, str] | None = None
) -> ServiceError:
    """An error of the identity endpoints."""
    return ServiceError(Reply(status, {"error": error, "error_description": description}, headers or {}))


@dataclass(frozen=True, slots=True)
class _Cached:
    token: str
    subject: Subject
    not_before: int
    expires: int


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a token that may be answered, and how long that takes."""

    host: Host
    subject: Subject
    resource: str
    bypass: bool


class Imds:
    """One for all machines. `begin`/`end` bracket a request: five at a time may be under way for a machine."""

    def __init__(self, world: World, issuer: Issuer, faults: FaultSwitch, buckets: Buckets) -> None:
        self._world = world
        self._issuer = issuer
        self._faults = faults
        self._buckets = buckets
        self._cache: dict[tuple[str, str, str], _Cached] = {}
        self._running: Counter[str] = Counter()

    def source(self, peer: str) -> Nic | None:
        """Whose address this is."""
        return self._world.nic(peer)

    def begin(self, call: Call, nic: Nic) -> float:
        """Admit a request: seconds its answer takes. Raises 429; `end` is due for what was admitted only."""
        if self._faults.now.imds_limits:
            machine = ids.fold(nic.resource_id)
            self._limit(machine, is_identity=normal(call.path).startswith("/metadata/identity/"))
        self._running[ids.fold(nic.resource_id)] += 1
        return self._faults.now.imds_delay if self._misses(call, nic) else 0.0

    def _limit(self, machine: str, *, is_identity: bool) -> None:
        rate, name = (_TOKEN_RATE, "identity") if is_identity else (_OTHER_RATE, "other")
        _, wait = self._buckets.take(f"imds {name} {machine}", rate, rate)
        if wait or self._running[machine] >= _CONCURRENT:
            raise refused(429, "Temporarily throttled, too many requests")

    def end(self, nic: Nic) -> None:
        """An admitted request has been answered."""
        self._running[ids.fold(nic.resource_id)] -= 1

    def _misses(self, call: Call, nic: Nic) -> bool:
        if not self._faults.now.imds_delay or normal(call.path) != TOKEN:
            return False
        try:
            asked = self._asked(call, nic)
        except ServiceError:
            return False
        return self._cached(asked) is None

    def handle(self, call: Call, nic: Nic) -> Reply:
        """The answer to an admitted request."""
        try:
            return self._answer(call, nic)
        except ServiceError as refusal:
            return refusal.reply

    def _answer(self, call: Call, nic: Nic) -> Reply:
        path = normal(call.path)
        if "x-forwarded-for" in call.headers:
            raise refused(400, "The X-Forwarded-For header is not allowed")
        if call.headers.get("metadata") != "true":
            raise refused(400, "Required metadata header not specified")
        if call.method != "GET":
            raise ServiceError(Reply(405, {"error": "Method Not Allowed"}, {"Allow": "GET"}))
        duplicates = [name for name, count in Counter(key for key, _ in call.query).items() if count > 1]
        if duplicates:
            raise refused(400, f"Query parameter '{duplicates[0]}' is specified more than once")
        if path == TOKEN:
            return self._token(call, nic)
        if path == _INFO:
            return Reply(200, {"tenantId": self._world.directory.tenant_id})
        if path == "/metadata/scheduledevents":
            return Reply(200, {"DocumentIncarnation": 1, "Events": []})
        if path == "/metadata/versions":
            return Reply(200, {"apiVersions": list(NEWEST)})
        if path == "/metadata/instance" or path.startswith("/metadata/instance/"):
            return self._instance(call, path, nic)
        raise ServiceError(Reply(404, {"error": "Not Found"}))

    def _token(self, call: Call, nic: Nic) -> Reply:
        faults = self._faults.now
        if faults.imds_status:
            headers = {"Retry-After": str(faults.imds_retry_after)} if faults.imds_retry_after else {}
            throttled = "Temporarily throttled, too many requests"
            raise refused(
                faults.imds_status,
                throttled if faults.imds_status == HTTPStatus.TOO_MANY_REQUESTS else "Injected fault",
                headers=headers,
            )
        asked = self._asked(call, nic)
        cached = None if asked.bypass else self._cached(asked)
        return self._render(cached or self._mint(asked), asked.resource)

    def _asked(self, call: Call, nic: Nic) -> Asked:
        """What is asked for, and of which identity of the machine."""
        query = dict(call.query)
        version = query.get("api-version", "")
        if not version:
            raise refused(400, "Required query variable 'api-version' is missing")
        if not _VERSION.fullmatch(version) or version < _MIN_TOKEN_API:
            raise refused(400, f"api-version '{version}' is not supported")
        resource = query.get("resource", "")
        if not resource:
            raise refused(400, "Required query variable 'resource' is missing")
        if query.get("bypass_cache", "true").casefold() != "true":
            raise refused(400, "bypass_cache must be 'true'")
        given = [name for name in _SELECTORS if query.get(name)]
        if len(given) > 1:
            raise refused(400, f"Only one of {', '.join(_SELECTORS)} may be specified")
        host = self._host(nic)
        subject = self._select(host, given[0] if given else "", query.get(given[0], "") if given else "")
        if not known_resource(resource, self._world.directory):
            tenant = self._world.directory.tenant_id
            text = f"AADSTS500011: The resource principal named {resource} was not found in the tenant named {tenant}."
            raise refused(400, text, "invalid_resource")
        return Asked(host, subject, resource, "bypass_cache" in query)

    def _host(self, nic: Nic) -> Host:
        key = ids.host_of(nic.resource_id)
        host = self._world.host(key) if key else None
        instance = ids.instance_of(nic.resource_id)
        if host is None or (instance and int(instance) >= host.instances):
            raise refused(400, "Identity not found")
        return host

    def _select(self, host: Host, selector: str, value: str) -> Subject:
        wanted, identity = value.casefold(), host.effective
        system = Subject(identity.system_client, identity.system, host.id) if identity.system else None
        users = [Subject(user.client_id, user.principal_id, user.id) for user in identity.user.values()]
        if not selector:
            if system:
                return system
            if len(users) > 1:
                raise refused(
                    400,
                    "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity "
                    "in the token request",
                )
            found = users
        elif selector == "client_id":
            found = [subject for subject in (*users, *filter(None, [system])) if subject.client_id.casefold() == wanted]
        elif selector == "object_id":
            found = [subject for subject in (*users, *filter(None, [system])) if subject.object_id.casefold() == wanted]
        else:
            found = [subject for subject in users if ids.fold(subject.resource_id) == ids.fold(value)]
        if not found:
            raise refused(400, "Identity not found")
        return found[0]

    def _cached(self, asked: Asked) -> _Cached | None:
        cached = self._cache.get((asked.host.key, ids.fold(asked.subject.resource_id), asked.resource))
        if cached is None or (cached.subject != asked.subject and not self._faults.now.imds_stale_ids):
            return None
        ahead = min(_REFRESH_AHEAD, (cached.expires - cached.not_before) / 2)
        return cached if self._world.now() < cached.expires - ahead else None

    def _mint(self, asked: Asked) -> _Cached:
        if not self._world.knows_principal(asked.subject.object_id):
            raise refused(400, "Identity not found")
        now, lifetime = self._world.now(), self._faults.now.token_lifetime
        token = self._issuer.mint(
            asked.subject, asked.resource, now=now, lifetime=lifetime, token_id=self._world.new_guid()
        )
        cached = _Cached(token, asked.subject, int(now), int(now) + lifetime)
        if len(self._cache) >= _CACHE:
            self._cache.clear()
        self._cache[asked.host.key, ids.fold(asked.subject.resource_id), asked.resource] = cached
        return cached

    def _render(self, cached: _Cached, resource: str) -> Reply:
        left = max(0, cached.expires - int(self._world.now()))
        body = {
            "access_token": cached.token,
            "client_id": cached.subject.client_id,
            "expires_in": str(left),
            "expires_on": str(cached.expires),
            "ext_expires_in": str(cached.expires - cached.not_before - 1),
            "not_before": str(cached.not_before),
            "resource": resource,
            "token_type": "Bearer",
        }
        return Reply(200, body)

    def _instance(self, call: Call, path: str, nic: Nic) -> Reply:
        version = call.parameter("api-version")
        if not _VERSION.fullmatch(version) or version < _MIN_INSTANCE_API:
            text = (
                "Bad request. api-version is invalid or was not specified. For more information refer to "
                "aka.ms/azureimds"
            )
            raise ServiceError(Reply(400, {"error": text, "newest-versions": list(NEWEST[-3:])}))
        document = instance_document(self._host(nic), ids.instance_of(nic.resource_id), call.peer)
        return leaf(document, path.removeprefix("/metadata/instance"), text=call.parameter("format") == "text")


def normal(path: str) -> str:
    """The path as the service reads it: decoded, resolved, `/metadata` in any case, no slash at the end."""
    parts: list[str] = []
    for part in unquote(path).split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    if parts:
        parts[0] = "metadata" if parts[0].casefold() == "metadata" else parts[0]
    return "/" + "/".join(parts)
