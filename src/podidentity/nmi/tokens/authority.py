"""Where a service principal's proof may be sent (pure): judged before the proof is read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from podidentity.nmi.tokens.source import TokenRefused, TokenRequest

_GUID: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})+")


class Authorities:
    """The token endpoints that may be used: ``default``, which is the cloud's own, and ``others``; all https URLs."""

    def __init__(self, default: str, others: Iterable[str] = ()) -> None:
        self._default = default.rstrip("/")
        self._known = {_normal(url): url.rstrip("/") for url in (*others, default)}

    def of(self, request: TokenRequest) -> str:
        """Return the endpoint for a request, in our own words, so that no two parsers can read it differently.

        Raises TokenRefused when adEndpoint is none of ours, or tenantID neither a GUID nor a domain.
        """
        if not is_tenant(request.tenant_id):
            raise TokenRefused(403, "tenantID of the AzureIdentity is neither a GUID nor a domain name")
        if not request.ad_endpoint:
            return self._default
        known = self._known.get(_normal(request.ad_endpoint))
        if known is None:
            raise TokenRefused(
                403,
                "adEndpoint of the AzureIdentity is no token endpoint of this cloud; --allowed-ad-endpoints adds some",
            )
        return known


def is_tenant(text: str) -> bool:
    """Whether this is a tenant's GUID or one of its domain names."""
    folded = text.casefold()
    return bool(_GUID.fullmatch(folded) or _DOMAIN.fullmatch(folded))


def _normal(url: str) -> str:
    """Return what two spellings of an endpoint have in common; empty for what is no plain https URL."""
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return ""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme != "https" or parts.username is not None or parts.query or parts.fragment or not parts.hostname:
        return ""
    where = parts.hostname if port in (None, 443) else f"{parts.hostname}:{port}"
    return f"https://{where}{parts.path.rstrip('/')}".casefold()
