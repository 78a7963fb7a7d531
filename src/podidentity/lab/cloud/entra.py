"""Entra ID: the token endpoint for applications, and the discovery documents."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from podidentity.lab.cloud.assertions import ProofError, check_assertion
from podidentity.lab.cloud.faults import FaultSwitch
from podidentity.lab.cloud.model import ServicePrincipal
from podidentity.lab.cloud.resources import known_resource
from podidentity.lab.cloud.tokens import Issuer, Subject
from podidentity.lab.cloud.wire import Call, MethodError, Reply, Route, Routes, ServiceError
from podidentity.lab.cloud.world import World

HOSTS = ("login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net")
_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_DEFAULT = "/.default"
_ANY_TENANT = frozenset({"common", "organizations"})
_Handler = Callable[[Call, dict[str, str]], Reply]


class Entra:
    """The directory's token service. Errors carry AADSTS codes in the words of the real one."""

    def __init__(self, world: World, issuer: Issuer, faults: FaultSwitch) -> None:
        self._world = world
        self._issuer = issuer
        self._faults = faults
        self._routes: Routes[_Handler] = Routes(self._list_routes())

    def _list_routes(self) -> Sequence[Route[_Handler]]:
        well_known = "/.well-known/openid-configuration"
        return (
            Route("GET", "/common/discovery/instance", self._instance, "discovery/instance"),
            Route("GET", "/{tenant}/discovery/keys", self._keys, "discovery/keys"),
            Route("GET", "/{tenant}/discovery/v2.0/keys", self._keys, "discovery/keys"),
            Route("GET", "/{tenant}/v2.0" + well_known, self._configuration_v2, "openid-configuration"),
            Route("GET", "/{tenant}" + well_known, self._configuration, "openid-configuration"),
            Route("POST", "/{tenant}/oauth2/v2.0/token", self._token_v2, "token"),
            Route("POST", "/{tenant}/oauth2/token", self._token_v1, "token"),
        )

    def handle(self, call: Call) -> tuple[str, Reply]:
        """The route's name, for counting, and the reply."""
        try:
            found = self._routes.find(call.method, "/" + call.path.strip("/"))
        except MethodError:
            text = f"The endpoint does not support {call.method}. Please use a POST or a GET request."
            return "unknown", self._refused(405, "invalid_request", 900561, text).reply
        if found is None:
            return "unknown", Reply(404, {"error": "Not Found"})
        route, params = found
        try:
            self._check_tenant(params.get("tenant", "common"), route.name)
            return route.name, route.handler(call, params)
        except ServiceError as refusal:
            return route.name, refusal.reply

    def _refused(self, status: int, error: str, code: int, text: str) -> ServiceError:
        trace, correlation = self._world.new_guid(), self._world.new_guid()
        stamp = f"{datetime.fromtimestamp(self._world.now(), UTC):%Y-%m-%d %H:%M:%SZ}"
        description = (
            f"AADSTS{code}: {text}\r\nTrace ID: {trace}\r\nCorrelation ID: {correlation}\r\nTimestamp: {stamp}"
        )
        body = {
            "error": error,
            "error_description": description,
            "error_codes": [code],
            "timestamp": stamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://login.microsoftonline.com/error?code={code}",
        }
        return ServiceError(Reply(status, body))

    def _check_tenant(self, tenant: str, route: str) -> None:
        ours = tenant.casefold() == self._world.directory.tenant_id.casefold()
        if ours or (route != "token" and tenant.casefold() in _ANY_TENANT):
            return
        text = (
            f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the "
            "correct cloud. Check with your subscription administrator, this may happen if there are no active "
            "subscriptions for the tenant."
        )
        raise self._refused(400, "invalid_request", 90002, text)

    def _keys(self, _call: Call, _params: dict[str, str]) -> Reply:
        return Reply(200, self._issuer.jwks())

    def _instance(self, call: Call, _params: dict[str, str]) -> Reply:
        endpoint = call.parameter("authorization_endpoint")
        host = endpoint.partition("://")[2].partition("/")[0].partition(":")[0]
        if host not in HOSTS and f"://{host}" not in call.base:
            text = f"The authority '{host}' is not known."
            raise self._refused(400, "invalid_instance", 50049, text)
        metadata = {"preferred_network": HOSTS[0], "preferred_cache": HOSTS[1], "aliases": list(HOSTS)}
        tenant = self._world.directory.tenant_id
        discovery = f"{call.base}/{tenant}/v2.0/.well-known/openid-configuration"
        return Reply(200, {"tenant_discovery_endpoint": discovery, "api-version": "1.1", "metadata": [metadata]})

    def _configuration_v2(self, call: Call, params: dict[str, str]) -> Reply:
        tenant = params["tenant"]
        base = f"{call.base}/{tenant}"
        return Reply(
            200,
            self._common_configuration(base)
            | {
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "jwks_uri": f"{base}/discovery/v2.0/keys",
                "issuer": f"https://login.microsoftonline.com/{self._world.directory.tenant_id}/v2.0",
            },
        )

    def _configuration(self, call: Call, params: dict[str, str]) -> Reply:
        base = f"{call.base}/{params['tenant']}"
        return Reply(
            200,
            self._common_configuration(base)
            | {
                "token_endpoint": f"{base}/oauth2/token",
                "authorization_endpoint": f"{base}/oauth2/authorize",
                "jwks_uri": f"{call.base}/common/discovery/keys",
                "issuer": self._issuer.issuer,
            },
        )

    def _common_configuration(self, base: str) -> dict[str, object]:
        return {
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
            "response_modes_supported": ["query", "fragment", "form_post"],
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
            "tenant_region_scope": "EU",
            "cloud_instance_name": "microsoftonline.com",
        }

    def _token_v2(self, call: Call, _params: dict[str, str]) -> Reply:
        form = self._form(call)
        scope = self._required(form, "scope")
        if not scope.endswith(_DEFAULT) or " " in scope:
            text = (
                f"The provided request must include a 'scope' input parameter. The scope {scope} is not valid. "
                "The scope format is invalid: it must be of the form <resource>/.default"
            )
            raise self._refused(400, "invalid_scope", 70011, text)
        return self._issue(call, form, scope.removesuffix(_DEFAULT), version=2)

    def _token_v1(self, call: Call, _params: dict[str, str]) -> Reply:
        form = self._form(call)
        return self._issue(call, form, self._required(form, "resource"), version=1)

    def _form(self, call: Call) -> dict[str, str]:
        try:
            form = dict(parse_qsl(call.body.decode(), keep_blank_values=True, max_num_fields=100))
        except ValueError as error:
            raise self._refused(
                400, "invalid_request", 90013, f"Invalid input received from the user: {error}"
            ) from error
        grant = self._required(form, "grant_type")
        if grant != "client_credentials":
            text = f"The app requested an unsupported grant type '{grant}'."
            raise self._refused(400, "unsupported_grant_type", 70003, text)
        return form

    def _required(self, form: dict[str, str], name: str) -> str:
        value = form.get(name, "")
        if not value:
            text = f"The request body must contain the following parameter: '{name}'."
            raise self._refused(400, "invalid_request", 900144, text)
        return value

    def _issue(self, call: Call, form: dict[str, str], resource: str, *, version: int) -> Reply:
        client_id = self._required(form, "client_id")
        tenant = self._world.directory.tenant_id
        principal = self._world.principals.get(client_id.casefold())
        if principal is None:
            text = (
                f"Application with identifier '{client_id}' was not found in the directory '{tenant}'. This can happen "
                "if the application has not been installed by the administrator of the tenant."
            )
            raise self._refused(400, "unauthorized_client", 700016, text)
        proof = self._prove(call, form, principal)
        if not known_resource(resource, self._world.directory):
            text = (
                f"The resource principal named {resource} was not found in the tenant named {tenant}. This can happen "
                "if the application has not been installed by the administrator of the tenant."
            )
            raise self._refused(400, "invalid_resource", 500011, text)
        return self._grant(Subject(principal.client_id, principal.object_id, proof=proof), resource, version)

    def _grant(self, subject: Subject, resource: str, version: int) -> Reply:
        now, lifetime = self._world.now(), self._faults.now.token_lifetime
        token = self._issuer.mint(subject, resource, now=now, lifetime=lifetime, token_id=self._world.new_guid())
        if version > 1:
            body = {"token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime, "access_token": token}
            return Reply(200, body, {"Cache-Control": "no-store, no-cache"})
        body = {
            "token_type": "Bearer",
            "expires_in": str(lifetime),
            "ext_expires_in": str(lifetime),
            "expires_on": str(int(now) + lifetime),
            "not_before": str(int(now)),
            "resource": resource,
            "access_token": token,
        }
        return Reply(200, body, {"Cache-Control": "no-store, no-cache"})

    def _prove(self, call: Call, form: dict[str, str], principal: ServicePrincipal) -> str:
        """How the client proved itself: "1" by secret, "2" by certificate; 401 otherwise."""
        if form.get("client_assertion"):
            self._check_assertion(call, form, principal)
            return "2"
        if form.get("client_secret", "") in principal.secrets and form.get("client_secret"):
            return "1"
        if "client_secret" not in form:
            text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
            raise self._refused(401, "invalid_client", 7000218, text)
        text = (
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, "
            f"not the client secret ID, for a secret added to app '{principal.client_id}'."
        )
        raise self._refused(401, "invalid_client", 7000215, text)

    def _check_assertion(self, call: Call, form: dict[str, str], principal: ServicePrincipal) -> None:
        if form.get("client_assertion_type") != _JWT_BEARER:
            text = "The request body must contain the following parameter: 'client_assertion_type'."
            raise self._refused(400, "invalid_request", 900144, text)
        tenant = self._world.directory.tenant_id
        endpoints = [f"{call.base}{call.path}", f"{call.base}/{tenant}/v2.0"]
        endpoints += [
            f"https://{host}/{tenant}{tail}"
            for host in HOSTS
            for tail in ("/oauth2/v2.0/token", "/oauth2/token", "/v2.0")
        ]
        try:
            check_assertion(form["client_assertion"], principal, endpoints, now=self._world.now())
        except ProofError as error:
            raise self._refused(401, "invalid_client", error.code, str(error)) from error
