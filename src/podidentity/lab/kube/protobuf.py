"""The few protobuf request bodies kubectl's typed clients send, decoded by field number (pure)."""

from __future__ import annotations

from typing import Any

from podidentity.lab.kube.errors import StatusError


def decode_object(raw: bytes) -> Any:
    """The object inside a ``k8s\\0`` envelope; StatusError 415 for a kind that is not among those known here."""
    raise StatusError(415, "the body of the request was in an unknown format")
