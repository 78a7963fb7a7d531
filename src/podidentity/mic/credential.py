"""The cluster's credential at ARM, exchanged when azure.json changes."""

from __future__ import annotations

from collections.abc import Callable

from podidentity.azure.config import AzureConfig
from podidentity.azure.credentials import AccessToken, Credential
from podidentity.config.redact import redact_client_id


class CurrentCredential:
    """Asks the credential of the configuration as it is now; the one before is closed when it is no longer asked."""

    def __init__(self, current: Callable[[], AzureConfig], make: Callable[[AzureConfig], Credential]) -> None:
        self._current = current
        self._make = make
        self._config: AzureConfig | None = None
        self._credential: Credential | None = None
        self._retired: list[Credential] = []

    async def token(self, resource: str) -> AccessToken:
        """A token for ``resource``. Raises TokenError and AzureUnavailable."""
        config = self._current()
        if self._credential is None or config != self._config:
            if self._credential is not None:
                self._retired.append(self._credential)
            self._config, self._credential = config, self._make(config)
        return await self._credential.token(resource)

    async def close(self) -> None:
        """Close whatever was opened."""
        opened = [*self._retired, *([self._credential] if self._credential is not None else [])]
        self._retired, self._credential = [], None
        for credential in opened:
            await credential.close()


def described(config: AzureConfig) -> str:
    """The start-up line that says who the controller is at Azure; the client id is redacted."""
    if not config.use_managed_identity:
        return f"MIC using service principal: {redact_client_id(config.client_id)} for authentication."
    if config.user_assigned_identity_id:
        shown = redact_client_id(config.user_assigned_identity_id)
        return f"MIC using user assigned identity: {shown} for authentication."
    return "MIC using system assigned identity for authentication."
