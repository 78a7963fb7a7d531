"""Which resources tokens may be asked for."""

from podidentity.lab.cloud.model import Directory

_KNOWN = frozenset(
    {
        "https://management.azure.com",
        "https://management.core.windows.net",
        "https://vault.azure.net",
        "https://managedhsm.azure.net",
        "https://storage.azure.com",
        "https://graph.microsoft.com",
        "https://graph.windows.net",
        "https://database.windows.net",
        "https://ossrdbms-aad.database.windows.net",
        "https://servicebus.azure.net",
        "https://eventhubs.azure.net",
        "https://containerregistry.azure.net",
        "https://monitor.azure.com",
        "https://api.loganalytics.io",
        "https://batch.core.windows.net",
        "https://datalake.azure.net",
    }
)


def known_resource(resource: str, directory: Directory) -> bool:
    """Whether the tenant knows a resource of this name, with or without a slash at the end."""
    wanted = resource.rstrip("/").casefold()
    return wanted in _KNOWN or any(wanted == extra.rstrip("/").casefold() for extra in directory.audiences)
