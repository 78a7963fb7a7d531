"""Key Vault's data plane. Tokens are checked in full: signature, issuer, audience, expiry, permission."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from podidentity.lab.cloud import ids
from podidentity.lab.cloud.keyvault_objects import BadObjectError, VaultObjects, paged, read_certificate
from podidentity.lab.cloud.model import Secret, SecretVersion, Vault
from podidentity.lab.cloud.roles import allows
from podidentity.lab.cloud.tokens import Claims, Issuer, TokenError
from podidentity.lab.cloud.wire import Call, MethodError, Reply, Route, Routes, ServiceError
from podidentity.lab.cloud.world import World

RESOURCE = "https://vault.azure.net"
_AUDIENCES = frozenset({RESOURCE, RESOURCE + "/"})
_RECOVERABLE_DAYS = 90
_DATA_ACTIONS = {
    "secrets": {
        "get": "Microsoft.KeyVault/vaults/secrets/getSecret/action",
        "list": "Microsoft.KeyVault/vaults/secrets/readMetadata/action",
        "set": "Microsoft.KeyVault/vaults/secrets/setSecret/action",
        "delete": "Microsoft.KeyVault/vaults/secrets/delete",
    },
    "keys": {
        "get": "Microsoft.KeyVault/vaults/keys/read",
        "list": "Microsoft.KeyVault/vaults/keys/read",
        "create": "Microsoft.KeyVault/vaults/keys/create/action",
    },
    "certificates": {
        "get": "Microsoft.KeyVault/vaults/certificates/read",
        "list": "Microsoft.KeyVault/vaults/certificates/read",
        "import": "Microsoft.KeyVault/vaults/certificates/import/action",
    },
}
_ONE = {"secrets": "secret", "keys": "key", "certificates": "certificate"}


class _SetBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    value: str
    content_type: str = ""
    tags: dict[str, str] = {}
    attributes: dict[str, object] = {}


@dataclass(frozen=True, slots=True)
class _Request:
    call: Call
    vault: Vault
    claims: Claims
    params: dict[str, str]

    @property
    def name(self) -> str:
        return self.params["name"]

    @property
    def kind(self) -> str:
        """The collection: secrets, keys or certificates."""
        return self.call.path.split("/")[1].lower()


_Handler = Callable[[_Request], Reply]


def refused(
    status: int, code: str, message: str, inner: str = "", headers: dict[str, str] | None = None
) -> ServiceError:
    """A Key Vault error."""
    error: dict[str, object] = {"code": code, "message": message}
    if inner:
        error["innererror"] = {"code": inner}
    return ServiceError(Reply(status, {"error": error}, headers or {}))


class KeyVault:
    """All vaults; which one is asked is in the host name."""

    def __init__(self, world: World, issuer: Issuer) -> None:
        self._world = world
        self._issuer = issuer
        self._objects = VaultObjects(world)
        self._routes: Routes[_Handler] = Routes(self._list_routes())

    def _list_routes(self) -> Sequence[Route[_Handler]]:
        one = "/secrets/{name}"
        routes: list[Route[_Handler]] = [
            Route("GET", "/secrets", self._list, "secrets (list)", "list"),
            Route("GET", one + "/versions", self._versions, "secrets/versions", "list"),
            Route("GET", one, self._get, "secrets", "get"),
            Route("GET", one + "/{version}", self._get, "secrets", "get"),
            Route("PUT", one, self._set, "secrets", "set"),
            Route("DELETE", one, self._delete, "secrets", "delete"),
            Route("POST", "/keys/{name}/create", self._create_key, "keys/create", "create"),
            Route("POST", "/certificates/{name}/import", self._import, "certificates/import", "import"),
        ]
        for kind in ("keys", "certificates"):
            one = f"/{kind}/{{name}}"
            routes += (
                Route("GET", one + "/versions", self._object_versions, f"{kind}/versions", "list"),
                Route("GET", one, self._object, kind, "get"),
                Route("GET", one + "/{version}", self._object, kind, "get"),
            )
        return routes

    def handle(self, call: Call, vault_name: str) -> tuple[str, Reply]:
        """The route's name, for counting, and the reply."""
        path = "/" + call.path.strip("/")
        try:
            found = self._routes.find(call.method, path)
        except MethodError:
            return "unknown", refused(405, "MethodNotAllowed", f"{call.method} is not allowed here.").reply
        vault = self._world.vaults.get(vault_name.casefold())
        if vault is None:
            return "unknown", refused(404, "VaultNotFound", f"There is no vault '{vault_name}'.").reply
        if found is None:
            return "unknown", refused(404, "NotFound", f"Path {path} was not found.").reply
        route, params = found
        try:
            claims = self._authenticate(call)
            _check_version(call)
            kind = route.path.split("/")[1]
            self._authorize(vault, claims, (kind, route.action), params.get("name", ""))
            return route.name, route.handler(_Request(call, vault, claims, params))
        except ServiceError as refusal:
            return route.name, refusal.reply

    def _challenged(self, message: str) -> ServiceError:
        tenant = self._world.directory.tenant_id
        challenge = f'Bearer authorization="https://login.windows.net/{tenant}", resource="{RESOURCE}"'
        return refused(401, "Unauthorized", message, headers={"WWW-Authenticate": challenge})

    def _authenticate(self, call: Call) -> Claims:
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        if scheme.casefold() != "bearer" or not token.strip():
            raise self._challenged("AKV10000: Request is missing a Bearer or PoP token.")
        try:
            return self._issuer.check(token.strip(), _AUDIENCES, now=self._world.now())
        except TokenError as error:
            raise self._challenged(self._rejection(error)) from error

    def _rejection(self, error: TokenError) -> str:
        return {
            "audience": f"AKV10022: Invalid audience. Expected {RESOURCE}, found: {error.found}.",
            "issuer": f"AKV10032: Invalid issuer. Expected {self._issuer.issuer}, found {error.found}.",
            "expired": "[TokenExpired] Error validating token: 'S2S12005: The token has expired.'",
            "not_yet": "[TokenInvalid] Error validating token: 'S2S12006: The token is not valid yet.'",
            "malformed": "[BearerReadAccessTokenFailed] Error validating token: 'S2S12005'.",
            "signature": "AKV10046: Unable to resolve the key used for signature validation.",
        }[error.fault]

    def _authorize(self, vault: Vault, claims: Claims, wanted: tuple[str, str], name: str) -> None:
        if claims.oid == self._world.directory.owner:
            return
        kind, permission = wanted
        if vault.rbac:
            scope = f"{vault.id}/{kind}/{name}" if name else vault.id
            self._authorize_role(vault, claims, _DATA_ACTIONS[kind][permission], scope)
            return
        mine = (policy for policy in vault.policies if policy.object_id.casefold() == claims.oid)
        allowed = (set(getattr(policy, kind)) for policy in mine)
        if any({permission, "all"} & permissions for permissions in allowed):
            return
        caller = f"appid={claims.appid};oid={claims.oid};iss={claims.iss}"
        message = (
            f"The user, group or application '{caller}' does not have {kind} {permission} permission on key vault "
            f"'{vault.name};location={vault.location}'. For help resolving this issue, please see "
            "https://go.microsoft.com/fwlink/?linkid=2125287"
        )
        raise refused(403, "Forbidden", message, "AccessDenied")

    def _authorize_role(self, vault: Vault, claims: Claims, action: str, scope: str) -> None:
        if allows(self._world.grants(claims.oid), action, scope, data=True):
            return
        message = (
            "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role "
            "definitions were changed recently, please observe propagation time.\r\n"
            f"Caller: appid={claims.appid};oid={claims.oid};iss={claims.iss}\r\nAction: '{action}'\r\n"
            f"Resource: '{scope.casefold()}'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\n"
            f"DecisionReason: null \r\nVault: {vault.name};location={vault.location}\r\n"
        )
        raise refused(403, "Forbidden", message, "ForbiddenByRbac")

    def _secret(self, request: _Request) -> Secret:
        secret = self._world.secret(request.vault.name, request.name)
        if secret is None or secret.deleted:
            raise _not_found(request.name, "")
        return secret

    def _get(self, request: _Request) -> Reply:
        secret, wanted = self._secret(request), request.params.get("version", "")
        versions = [version for version in secret.versions if wanted in ("", version.version)]
        if not versions:
            raise _not_found(request.name, wanted)
        if not versions[-1].enabled:
            message = "Operation get is not allowed on a disabled secret."
            raise refused(403, "Forbidden", message, "SecretDisabled")
        return Reply(200, {"value": versions[-1].value} | self._describe(secret, versions[-1]))

    def _describe(self, secret: Secret, version: SecretVersion, *, with_version: bool = True) -> dict[str, object]:
        base = f"https://{secret.vault}.vault.azure.net/secrets/{secret.name}"
        described: dict[str, object] = {
            "id": f"{base}/{version.version}" if with_version else base,
            "attributes": {
                "enabled": version.enabled,
                "created": int(version.created),
                "updated": int(version.created),
                "recoveryLevel": "Recoverable+Purgeable",
                "recoverableDays": _RECOVERABLE_DAYS,
            },
            "tags": version.tags,
        }
        if version.content_type:
            described["contentType"] = version.content_type
        if version.kid:
            described |= {"kid": version.kid, "managed": True}
        return described

    def _versions(self, request: _Request) -> Reply:
        secret = self._secret(request)
        return paged([self._describe(secret, version) for version in secret.versions], request.call)

    def _list(self, request: _Request) -> Reply:
        mine = (s for s in self._world.secrets.values() if s.vault.casefold() == request.vault.name.casefold())
        shown = [self._describe(s, s.versions[-1], with_version=False) for s in mine if not s.deleted]
        return paged(shown, request.call)

    def _object(self, request: _Request) -> Reply:
        version = request.params.get("version", "")
        found = self._objects.get(request.kind, request.vault, request.name, version)
        if found is None:
            raise _not_found(request.name, version, _ONE[request.kind])
        return found

    def _object_versions(self, request: _Request) -> Reply:
        found = self._objects.versions(request.kind, request.vault, request.name, request.call)
        if found is None:
            raise _not_found(request.name, "", _ONE[request.kind])
        return found

    def _create_key(self, request: _Request) -> Reply:
        try:
            return self._objects.create_key(request.vault, request.name, request.call.body)
        except BadObjectError as error:
            raise refused(400, "BadParameter", f"The request body is invalid: {error}") from error

    def _import(self, request: _Request) -> Reply:
        try:
            given = read_certificate(request.call.body)
        except BadObjectError as error:
            raise refused(400, "BadParameter", f"The request body is invalid: {error}") from error
        return self._objects.import_certificate(request.vault, request.name, given, self.add_version)

    def _set(self, request: _Request) -> Reply:
        try:
            body = msgspec.json.decode(request.call.body, type=_SetBody)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise refused(400, "BadParameter", f"The request body is invalid: {error}") from error
        version = SecretVersion(
            version=self._world.new_guid().replace("-", ""),
            value=body.value,
            created=self._world.now(),
            content_type=body.content_type,
            enabled=body.attributes.get("enabled", True) is not False,
            tags=body.tags,
        )
        secret = self.add_version(request.vault, request.name, version)
        return Reply(200, {"value": version.value} | self._describe(secret, version))

    def add_version(self, vault: Vault, name: str, version: SecretVersion) -> Secret:
        """A new latest version; 409 while a deleted secret of that name can be recovered."""
        old = self._world.secret(vault.name, name)
        if old and old.deleted:
            message = f"Secret {name} is currently in a deleted but recoverable state, and its name cannot be reused."
            raise refused(409, "Conflict", message, "ObjectIsDeletedButRecoverable")
        versions = (*(old.versions if old else ()), version)
        secret = Secret(vault=vault.name, name=old.name if old else name, versions=versions)
        self._world.commit(self._world.secrets.put(self._world.secret_key(vault.name, name), secret))
        return secret

    def _delete(self, request: _Request) -> Reply:
        secret, now = self._secret(request), self._world.now()
        gone = msgspec.structs.replace(secret, deleted=now)
        self._world.commit(self._world.secrets.put(self._world.secret_key(secret.vault, secret.name), gone))
        described = self._describe(secret, secret.versions[-1]) | {
            "recoveryId": f"https://{secret.vault}.vault.azure.net/deletedsecrets/{secret.name}",
            "deletedDate": int(now),
            "scheduledPurgeDate": int(now) + _RECOVERABLE_DAYS * 86_400,
        }
        return Reply(200, described)


def _check_version(call: Call) -> None:
    version = call.parameter("api-version")
    if not version:
        raise refused(400, "BadParameter", "AKV10001: api-version must be specified.")


def _not_found(name: str, version: str, kind: str = "secret") -> ServiceError:
    message = (
        f"A {kind} with (name/id) {name}{'/' + version if version else ''} was not found in this key vault. If you "
        f"recently deleted this {kind} you may be able to recover it using the correct recovery command. For help "
        "resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182"
    )
    return refused(404, f"{kind.capitalize()}NotFound", message)


def new_version_name(seed_id: str, vault: str, name: str) -> str:
    """The version of a seeded secret: the same for the same seed."""
    return ids.guid(seed_id, "secret", vault, name).replace("-", "")
