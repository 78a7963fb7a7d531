"""The instance document of IMDS (pure)."""

from podidentity.lab.cloud import ids
from podidentity.lab.cloud.model import Host
from podidentity.lab.cloud.wire import Reply

NEWEST = (
    "2017-04-02",
    "2017-08-01",
    "2018-02-01",
    "2019-06-01",
    "2020-09-01",
    "2021-02-01",
    "2021-12-13",
    "2023-07-01",
)


def instance_document(host: Host, instance: str, peer: str) -> dict[str, object]:
    """What a machine is told about itself; `peer` becomes its private address."""
    name = f"{host.name}_{instance}" if instance else host.name
    full_id = f"{host.id}/virtualMachines/{instance}" if instance else host.id
    compute: dict[str, object] = {
        "azEnvironment": "AzurePublicCloud",
        "location": host.location,
        "name": name,
        "osType": "Linux",
        "provider": "Microsoft.Compute",
        "resourceGroupName": ids.group_of(host.id),
        "resourceId": full_id,
        "sku": "",
        "subscriptionId": ids.subscription_of(host.id),
        "tags": ";".join(f"{key}:{value}" for key, value in host.tags.items()),
        "tagsList": [{"name": key, "value": value} for key, value in host.tags.items()],
        "vmId": ids.guid(host.unique_id, instance) if instance else host.unique_id,
        "vmScaleSetName": host.name if instance else "",
        "vmSize": "Standard_DS2_v2",
        "zone": "",
    }
    address = {"privateIpAddress": peer, "publicIpAddress": ""}
    interface = {"ipv4": {"ipAddress": [address], "subnet": []}, "ipv6": {"ipAddress": []}, "macAddress": ""}
    return {"compute": compute, "network": {"interface": [interface]}}


def leaf(document: object, path: str, *, text: bool) -> Reply:
    """The part of a document that a path leads to; single values are served as text only, as in Azure."""
    for part in filter(None, path.split("/")):
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list) and part.isdecimal() and int(part) < len(document):
            document = document[int(part)]
        else:
            return Reply(404, {"error": "Not found"})
    if isinstance(document, (dict, list)):
        return Reply(200, _listing(document), content_type="text/plain") if text else Reply(200, document)
    if not text:
        return Reply(404, {"error": "Bad request. Use format=text for single values"})
    return Reply(200, str(document).encode(), content_type="text/plain")


def _listing(node: dict[str, object] | list[object]) -> bytes:
    """The names below a node, a slash after those that have more below."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    return "\n".join(f"{key}/" if isinstance(value, (dict, list)) else str(key) for key, value in items).encode()
