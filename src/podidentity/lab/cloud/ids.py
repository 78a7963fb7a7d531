"""ARM ids as the simulated Azure reads and writes them: pure text, compared case-folded."""

import re
import uuid
from typing import Final

_NAMESPACE = uuid.UUID("5f2d3a0e-8c1b-4c55-9d0e-2d9b7b1f6a11")
_IDENTITY = re.compile(
    r"/subscriptions/(?P<sub>[^/]+)/resourcegroups/(?P<group>[^/]+)"
    r"/providers/microsoft\.managedidentity/userassignedidentities/(?P<name>[^/]+)",
    re.IGNORECASE,
)
_HOST = re.compile(
    r"(?P<host>/subscriptions/(?P<sub>[^/]+)/resourcegroups/(?P<group>[^/]+)"
    r"/providers/microsoft\.compute/(?P<kind>virtualmachines|virtualmachinescalesets)/(?P<name>[^/]+))"
    r"(?:/virtualmachines/(?P<instance>[^/]+))?",
    re.IGNORECASE,
)
_SUBSCRIPTION = re.compile(r"/subscriptions/(?P<sub>[^/]+)", re.IGNORECASE)
_GROUP = re.compile(r"/subscriptions/(?P<sub>[^/]+)/resourcegroups/(?P<group>[^/]+)", re.IGNORECASE)

VM: Final = "virtualMachines"
VMSS: Final = "virtualMachineScaleSets"


def fold(arm_id: str) -> str:
    """How ids are compared everywhere: case-folded, one leading slash, no trailing one."""
    return "/" + arm_id.strip("/").casefold()


def guid(*parts: str) -> str:
    """A version-5 UUID that is the same for the same parts: generated ids repeat from run to run."""
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(parts)))


def is_guid(text: str) -> bool:
    """Whether the text is a UUID in its canonical, dashed form (any case)."""
    try:
        return str(uuid.UUID(text)) == text.casefold()
    except ValueError:
        return False


def group_id(subscription: str, group: str) -> str:
    """The id of a resource group."""
    return f"/subscriptions/{subscription}/resourceGroups/{group}"


def resource_id(subscription: str, group: str, provider_type: str, name: str) -> str:
    """The id of a resource; `provider_type` such as "Microsoft.Compute/virtualMachines"."""
    return f"{group_id(subscription, group)}/providers/{provider_type}/{name}"


def identity_parts(arm_id: str) -> tuple[str, str, str] | None:
    """Subscription, group and name of a user-assigned identity's id; None when it is not one."""
    match = _IDENTITY.fullmatch(arm_id)
    return (match["sub"], match["group"], match["name"]) if match else None


def host_of(arm_id: str) -> str | None:
    """The folded id of the VM or scale set that an id (also of a scale set's instance) belongs to."""
    match = _HOST.fullmatch(arm_id)
    if match is None or (match["instance"] and match["kind"].casefold() == VM.casefold()):
        return None
    return fold(match["host"])


def instance_of(arm_id: str) -> str:
    """The instance id in a scale-set instance's id; "" for a VM."""
    match = _HOST.fullmatch(arm_id)
    return (match["instance"] or "") if match else ""


def subscription_of(arm_id: str) -> str:
    """The subscription of an id; "" when the id names none (the root scope)."""
    match = _SUBSCRIPTION.match(arm_id)
    return match["sub"] if match else ""


def group_of(arm_id: str) -> str:
    """The resource group's name in an id; "" when the id is not inside one."""
    match = _GROUP.match(arm_id)
    return match["group"] if match else ""


def name_of(arm_id: str) -> str:
    """The last segment."""
    return arm_id.rstrip("/").rpartition("/")[2]


def within(scope: str, arm_id: str) -> bool:
    """Whether the id is the scope or lies below it; "/" is above everything."""
    outer, inner = fold(scope), fold(arm_id)
    return outer in ("/", inner) or inner.startswith(outer + "/")
