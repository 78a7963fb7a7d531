"""Request bodies to plain JSON: JSON, YAML and the protobuf of kubectl's typed clients (pure)."""

from __future__ import annotations

from typing import Any

from podidentity.lab.kube import protobuf
from podidentity.lab.kube.errors import StatusError, bad_request
from podidentity.lab.kube.objects import Obj, decode

_MEDIA = "application/json, application/yaml, application/vnd.kubernetes.protobuf"


def read_object(raw: bytes, content_type: str) -> Obj:
    """The JSON object of a body; StatusError 400 or 415."""
    match content_type:
        case "application/json" | "application/octet-stream" | "":
            found = _json(raw)
        case "application/vnd.kubernetes.protobuf":
            found = protobuf.decode_object(raw)
        case "application/yaml":
            found = _yaml(raw)
        case _:
            message = f"the body of the request was in an unknown format - accepted media types include: {_MEDIA}"
            raise StatusError(415, message)
    if not isinstance(found, dict):
        raise bad_request("the body of the request is not an object")
    return found


def read_patch(raw: bytes) -> Any:
    """The JSON value of a patch; StatusError 400."""
    return _json(raw)


def _json(raw: bytes) -> Any:
    try:
        return decode(raw)
    except ValueError as error:
        raise bad_request(f"couldn't get version/kind; json parse error: {error}") from error


def _yaml(raw: bytes) -> Any:
    import yaml  # noqa: PLC0415 - only for bodies nobody sends often

    try:
        return yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise bad_request(f"error converting YAML to JSON: {error}") from error
