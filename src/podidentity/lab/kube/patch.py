"""JSON Patch (RFC 6902) and JSON Merge Patch (RFC 7386), on plain JSON values (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from podidentity.lab.kube.errors import StatusError, bad_request
from podidentity.lab.kube.objects import Obj, decode, encode, json_name


def merge_patch(target: Any, patch: Any) -> Any:
    """The value after a merge patch; ``target`` is not changed."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def json_patch(target: Obj, operations: object) -> Any:
    """The value after a JSON patch; StatusError 400 for a malformed patch, 422 for one that does not apply."""
    if not isinstance(operations, list):
        text = f"json: cannot unmarshal {json_name(operations)} into Go value of type []handlers.jsonPatchOp"
        raise bad_request(f"error decoding patch: {text}")
    value = decode(encode(target))
    for operation in operations:
        if not isinstance(operation, dict):
            text = f"json: cannot unmarshal {json_name(operation)} into Go value of type handlers.jsonPatchOp"
            raise bad_request(f"error decoding patch: {text}")
        if not isinstance(operation.get("path"), str):
            raise _unprocessable()
        value = _apply(value, operation)
    return value


def _unprocessable() -> StatusError:
    """The real server does not say why either."""
    return StatusError(422, "the server rejected our request due to an error in our request", details={})


def _apply(document: Any, operation: Obj) -> Any:
    kind, path = operation.get("op"), _pointer(operation["path"])
    if kind in {"add", "replace", "test"} and "value" not in operation:
        raise _unprocessable()
    match kind:
        case "add":
            return _add(document, path, operation["value"])
        case "remove":
            return _remove(document, path)
        case "replace":
            return _replace(document, path, operation["value"])
        case "test":
            if _tested(document, path) != operation["value"]:
                raise _unprocessable()
            return document
        case "move" | "copy":
            return _transfer(document, operation, path)
        case _:
            raise _unprocessable()


def _transfer(document: Any, operation: Obj, path: list[str]) -> Any:
    source = operation.get("from")
    if not isinstance(source, str):
        raise _unprocessable()
    value = decode(encode(_find(document, _pointer(source))))
    if operation["op"] == "move":
        document = _remove(document, _pointer(source))
    return _add(document, path, value)


def _pointer(text: str) -> list[str]:
    if not text:
        return []
    if not text.startswith("/"):
        raise _unprocessable()
    return [part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/")]


def _index(items: Sequence[Any], part: str, *, append: bool = False) -> int:
    """The position a pointer's part names; a negative one counts from the end."""
    size = len(items) + append
    if append and part == "-":
        return len(items)
    digits = part.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or not -size <= int(part) < size:
        raise _unprocessable()
    return int(part) % size


def _find(document: Any, path: list[str]) -> Any:
    for part in path:
        if isinstance(document, list):
            document = document[_index(document, part)]
        elif isinstance(document, dict) and part in document:
            document = document[part]
        else:
            raise _unprocessable()
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _find(document, path[:-1])
    if isinstance(parent, list):
        parent.insert(_index(parent, path[-1], append=True), value)
    elif isinstance(parent, dict):
        parent[path[-1]] = value
    else:
        raise _unprocessable()
    return document


def _replace(document: Any, path: list[str], value: Any) -> Any:
    """A member that is not there is added, as by the library Kubernetes uses; an element has to be there."""
    parent = _find(document, path[:-1]) if path else None
    if isinstance(parent, list):
        parent[_index(parent, path[-1])] = value
        return document
    return _add(document, path, value)


def _tested(document: Any, path: list[str]) -> Any:
    """What a test compares: a member that is not there is null."""
    parent = _find(document, path[:-1]) if path else None
    return parent.get(path[-1]) if isinstance(parent, dict) else _find(document, path)


def _remove(document: Any, path: list[str]) -> Any:
    if not path:
        return None
    _find(document, path)
    parent = _find(document, path[:-1])
    if isinstance(parent, list):
        del parent[_index(parent, path[-1])]
    else:
        del parent[path[-1]]
    return document
