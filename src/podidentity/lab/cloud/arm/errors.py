"""ARM's errors: one function a kind, each giving the ServiceError with status, code and words of the real service."""

from collections.abc import Mapping, Sequence

from podidentity.lab.cloud.ids import group_of, name_of
from podidentity.lab.cloud.wire import Reply, ServiceError


def arm_error(
    status: int,
    code: str,
    message: str,
    *,
    target: str = "",
    details: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> ServiceError:
    """The general form: {"error": {"code", "message", "target"?, "details"?}}."""
    error: dict[str, object] = {"code": code, "message": message}
    if target:
        error["target"] = target
    if details:
        error["details"] = list(details)
    return ServiceError(Reply(status, {"error": error}, headers or {}))


def bad_body(reason: str) -> ServiceError:
    """400: the body is not what the operation takes."""
    return arm_error(
        400, "InvalidRequestContent", f"The request content was invalid and could not be deserialized: '{reason}'."
    )


def invalid_parameter(message: str, target: str) -> ServiceError:
    """400: a value in the body."""
    return arm_error(400, "InvalidParameter", message, target=target)


def resource_not_found(arm_id: str) -> ServiceError:
    """404: no such resource."""
    kind = "/".join(arm_id.strip("/").split("/")[-3:])
    message = (
        f"The Resource '{kind}' under resource group '{group_of(arm_id)}' was not found. "
        "For more details please go to https://aka.ms/ARMResourceNotFoundFix"
    )
    return arm_error(404, "ResourceNotFound", message)


def group_not_found(arm_id: str) -> ServiceError:
    """404: no such resource group."""
    return arm_error(404, "ResourceGroupNotFound", f"Resource group '{group_of(arm_id)}' could not be found.")


def subscription_not_found(subscription: str) -> ServiceError:
    """404: no such subscription."""
    return arm_error(404, "SubscriptionNotFound", f"The subscription '{subscription}' could not be found.")


def unauthenticated(code: str, message: str, tenant_id: str) -> ServiceError:
    """401 with the challenge that names the tenant's authority."""
    challenge = (
        f'Bearer authorization_uri="https://login.windows.net/{tenant_id}", '
        f'error="invalid_token", error_description="{message}"'
    )
    return arm_error(401, code, message, headers={"WWW-Authenticate": challenge})


def authorization_failed(client: str, object_id: str, action: str, scope: str) -> ServiceError:
    """403: no role at or above the scope allows the action."""
    message = (
        f"The client '{client}' with object id '{object_id}' does not have authorization to perform action "
        f"'{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, "
        "please refresh your credentials."
    )
    return arm_error(403, "AuthorizationFailed", message)


def linked_authorization_failed(
    client: str, object_id: str, action: str, scope: str, linked: Sequence[str]
) -> ServiceError:
    """403: the resource may be written, but not these identities assigned."""
    message = (
        f"The client '{client}' with object id '{object_id}' has permission to perform action '{action}' on scope "
        f"'{scope}'; however, it does not have permission to perform action "
        "'Microsoft.ManagedIdentity/userAssignedIdentities/assign/action' on the linked scope(s) "
        f"'{','.join(linked)}' or the linked scope(s) are invalid."
    )
    return arm_error(403, "LinkedAuthorizationFailed", message)


def failed_identity_operation(host: str, missing: str) -> ServiceError:
    """400: one of the identities does not exist."""
    inner = f'{{"error":{{"code":"BadRequest","message":"Resource \'{missing}\' was not found."}}}}'
    message = (
        f"Identity operation for resource '{host}' failed with error 'Failed to perform resource identity operation. "
        f"Status: 'BadRequest'. Response: '{inner}'.'."
    )
    return arm_error(400, "FailedIdentityOperation", message)


def concurrent_write(code: str, host: str) -> ServiceError:
    """409: another write on the resource is still running."""
    if code == "Conflict":
        message = (
            "The request failed due to conflict with a concurrent request. To resolve it, please refer to "
            "https://aka.ms/activitylog to get more details on the conflicting requests."
        )
    else:
        message = (
            f"The request on resource '{name_of(host)}' failed because another write operation on it is in progress. "
            "Please retry when it has ended."
        )
    return arm_error(409, code, message)


def throttled_by_arm(kind: str, subscription: str, client: str, seconds: int) -> ServiceError:
    """429 of ARM's own bucket for a principal and a subscription."""
    message = (
        f"Number of '{kind}' requests for subscription '{subscription}' actor '{client}' exceeded. Please try again "
        f"after '{seconds}' seconds after additional tokens are available. "
        "Refer to https://aka.ms/arm-throttling for additional information."
    )
    return arm_error(429, "SubscriptionRequestsThrottled", message, headers={"Retry-After": str(seconds)})


def throttled_by_compute(policy: str, seconds: int) -> ServiceError:
    """429 of the compute provider."""
    message = "The server rejected the request because too many requests have been received for this subscription."
    detail = {"code": "TooManyRequests", "target": policy, "message": f'{{"operationGroup":"{policy}"}}'}
    headers = {"Retry-After": str(seconds)}
    return arm_error(429, "OperationNotAllowed", message, details=[detail], headers=headers)
