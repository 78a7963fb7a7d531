"""What a client connects to, and as whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from podidentity.kube.auth import TokenSource


@dataclass(frozen=True, slots=True)
class KubeSettings:
    """Everything the client needs to know. ``server`` is a URL; certificates are PEM, as file name or as data.

    ``insecure`` skips the check of the server's certificate; ``tls_server_name`` is checked instead of the URL's
    host; ``unix_socket`` is dialled instead of it. ``token_source`` is only used over https.
    """

    server: str
    ca_file: str = ""
    ca_data: bytes = b""
    insecure: bool = False
    tls_server_name: str = ""
    client_cert_file: str = ""
    client_key_file: str = ""
    client_cert_data: bytes = b""
    client_key_data: bytes = field(default=b"", repr=False)
    token_source: TokenSource | None = None
    namespace: str = "default"
    unix_socket: str = ""
