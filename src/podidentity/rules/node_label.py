"""The ``nodename`` label of an AzureAssignedIdentity: the node's name, as far as it fits a label."""

from __future__ import annotations

import hashlib
from typing import Final

MAX_LABEL: Final = 63
_DIGEST: Final = 10


def node_label(node: str) -> str:
    """Label value for a node: its name, or for more than 63 characters a prefix and a hash of the whole."""
    if len(node) <= MAX_LABEL:
        return node
    digest = hashlib.sha256(node.encode()).hexdigest()[:_DIGEST]
    return f"{node[: MAX_LABEL - _DIGEST - 1].rstrip('.-_')}-{digest}"
