"""What users read in Events: what happened, and what to do. Pure text."""

from __future__ import annotations

import re
from typing import Final

from podidentity.azure.errors import (
    ApiVersionRefused,
    AuthorizationFailed,
    AzureError,
    LinkedAuthorizationFailed,
    SubscriptionNotFound,
    TokenError,
)
from podidentity.mic.wanted import Wanted
from podidentity.rules.resource_id import HostId

APPLIED: Final = "binding applied"
APPLY_ERROR: Final = "binding apply error"
REMOVED: Final = "binding removed"
STATUS_ERROR: Final = "status update error"
MALFORMED: Final = "identity malformed"
DUPLICATE: Final = "identity ambiguous"
NO_BINDING: Final = "binding missing"
NO_IDENTITY: Final = "identity missing"

OPERATOR_ROLE: Final = "Managed Identity Operator"
MACHINE_ROLE: Final = "Virtual Machine Contributor"


def applied(want: Wanted, assigned_id: str) -> str:
    """The assignment is reached; the wording is documented."""
    return f"Binding {want.binding.name} applied on node {want.node} for pod {assigned_id}"


def apply_error(want: Wanted, assigned_id: str, why: str) -> str:
    """The assignment is not reached."""
    return f"Applying binding {want.binding.name} on node {want.node} for pod {assigned_id} failed: {why}"


def removed(binding: str, node: str, pod: str) -> str:
    """A record was removed whose node is gone."""
    return f"Binding {binding} removed from node {node} for pod {pod}"


def status_error(assigned_id: str, state: str, why: str) -> str:
    """A record's state could not be written."""
    return f"Updating the status of {assigned_id} to {state} failed: {why}"


def malformed(identity: str, why: str) -> str:
    """An AzureIdentity nothing can be assigned for."""
    return f"AzureIdentity {identity} is ignored: {why}"


def not_on_azure(node: str) -> str:
    """A node without a machine on Azure."""
    return (
        f"node {node} has no Azure machine in its providerID, so no user-assigned identity can be attached; "
        f"run the pod on an Azure node, or wait until the cloud controller has set spec.providerID"
    )


def host_gone(host: HostId) -> str:
    """ARM has no such machine."""
    return (
        f"{host.path} does not exist in Azure; check that the node is alive and that the controller's subscription "
        f"access covers it"
    )


def wrong_client_id(want: Wanted, found: str) -> str:
    """The AzureIdentity's two ids are of two identities."""
    return (
        f"spec.clientID {want.identity.spec.client_id} of AzureIdentity {want.identity.key} is not the client id of "
        f"{want.identity.spec.resource_id}, which is {found}; correct spec.clientID or spec.resourceID"
    )


def created_anew(want: Wanted) -> str:
    """An identity without a principal that is not mic's to detach."""
    return (
        f"{want.identity.spec.resource_id} has no principal on its machine: it was deleted and created anew under its "
        f"name, and was on the machine before the controller; detach it from the machine and attach it again by hand"
    )


def attach_error(error: AzureError, resource: str, host: HostId) -> str:
    """ARM would not attach one identity: which role is missing where, or Azure's own words."""
    if isinstance(error, LinkedAuthorizationFailed):
        return (
            f"the controller's identity may not assign {resource}; give it the role '{OPERATOR_ROLE}' on that scope "
            f"({error})"
        )
    return f"{resource} could not be attached to {host.path}; check that the identity exists ({error})"


def host_error(error: AzureError, host: HostId) -> str:
    """ARM would not read or change a host at all."""
    if isinstance(error, AuthorizationFailed):
        return (
            f"the controller's identity may not change {host.path}; give it the role '{MACHINE_ROLE}' on that scope "
            f"({error})"
        )
    if isinstance(error, ApiVersionRefused):
        newest = [version for version in error.supported if "preview" not in version][-1:] or ["one that Azure names"]
        return (
            f"Azure does not take the controller's api-version for {host.path}; give mic the flag "
            f"--compute-api-version={newest[0]} ({error})"
        )
    if isinstance(error, SubscriptionNotFound):
        return (
            f"the subscription of {host.path} is not known to the controller's tenant; if it was moved, check tenantId "
            f"and the identity in azure.json ({error})"
        )
    if isinstance(error, TokenError):
        return f"the controller cannot sign in to Azure; check azure.json and its identity ({error})"
    return f"{host.path} could not be changed, will try again ({error})"


_PER_ATTEMPT = re.compile(
    r"(trace|correlation|request|client|operation)[ -]?id:?\s*'?[0-9a-f-]{36}'?|timestamp:?\s*\S+(\s\d\S+)?",
    re.IGNORECASE,
)


def gist(why: str) -> str:
    """``why`` without what differs at every attempt (trace ids, times): two of one gist are one trouble."""
    return _PER_ATTEMPT.sub("", why)
