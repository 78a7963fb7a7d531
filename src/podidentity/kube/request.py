"""Build requests and parse answers, one function an operation. Pure, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from podidentity.api.meta import KubeObject, ObjectMeta
from podidentity.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    KubeUnavailable,
    NotFound,
    Unauthorized,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from podidentity.api.resources import Resource

T = TypeVar("T", bound=KubeObject)

JSON: Final = "application/json"
JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
PAGE: Final = 500
"""Objects asked for in one page of a list."""

_MESSAGE_LIMIT: Final = 1000
_NOT_A_NAME: Final = frozenset({"", ".", ".."})


@dataclass(frozen=True, slots=True)
class Request:
    """One request, ready to send. ``path`` is percent-encoded; ``operation`` is for messages and metrics."""

    operation: str
    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    content_type: str = JSON
    accept: str = JSON

    @property
    def reads(self) -> bool:
        """Whether it changes nothing, so that it may be sent again after any failure."""
        return self.method == "GET"

    @property
    def target(self) -> str:
        """Path and query as they go on the wire."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path


@dataclass(frozen=True, slots=True)
class ObjectList(Generic[T]):
    """A list. ``unreadable`` names the objects that do not fit their type (``key: why``); they are left out."""

    items: tuple[T, ...]
    resource_version: str
    continue_token: str = ""
    unreadable: tuple[str, ...] = ()


def get(resource: Resource[T], name: str, namespace: str = "") -> Request:
    """Read one object."""
    return Request(f"get {resource.plural}", "GET", _object_path(resource, name, namespace))


def list_page(
    resource: Resource[T],
    *,
    namespace: str = "",
    label_selector: str = "",
    field_selector: str = "",
    limit: int = PAGE,
    continue_token: str = "",
) -> Request:
    """Read one page of a collection; ``limit`` 0 asks for everything at once."""
    query = [*_selectors(label_selector, field_selector)]
    if limit:
        query.append(("limit", str(limit)))
    if continue_token:
        query.append(("continue", continue_token))
    return Request(f"list {resource.plural}", "GET", _collection_path(resource, namespace), tuple(query))


def watch(
    resource: Resource[T],
    *,
    namespace: str = "",
    label_selector: str = "",
    field_selector: str = "",
    resource_version: str,
    timeout: float,
) -> Request:
    """Watch a collection from ``resource_version`` on; the server ends it after ``timeout`` seconds."""
    query = (
        *_selectors(label_selector, field_selector),
        ("watch", "true"),
        ("allowWatchBookmarks", "true"),
        ("resourceVersion", resource_version),
        ("timeoutSeconds", str(max(1, int(timeout)))),
    )
    return Request(f"watch {resource.plural}", "GET", _collection_path(resource, namespace), query)


def create(resource: Resource[T], obj: T) -> Request:
    """Create an object in the namespace its metadata names."""
    path = _collection_path(resource, obj.namespace)
    return Request(f"create {resource.plural}", "POST", path, body=encode(resource, obj))


def replace(resource: Resource[T], obj: T) -> Request:
    """Replace an object; its resource version, when set, must be the current one."""
    path = _object_path(resource, obj.name, obj.namespace)
    return Request(f"update {resource.plural}", "PUT", path, body=encode(resource, obj))


def patch(  # noqa: PLR0917 - the words of a PATCH, all named by the caller
    resource: Resource[T], name: str, namespace: str, content_type: str, body: object, subresource: str = ""
) -> Request:
    """Patch an object; ``content_type`` says which kind of patch ``body`` is."""
    path = _object_path(resource, name, namespace, subresource)
    what = f"patch {resource.plural}/{subresource}" if subresource else f"patch {resource.plural}"
    return Request(what, "PATCH", path, body=msgspec.json.encode(body), content_type=content_type)


def delete(resource: Resource[T], name: str, namespace: str = "", *, uid: str = "") -> Request:
    """Delete an object; with ``uid`` only if it still is that object."""
    options: dict[str, object] = {"propagationPolicy": "Background"}
    if uid:
        options["preconditions"] = {"uid": uid}
    path = _object_path(resource, name, namespace)
    return Request(f"delete {resource.plural}", "DELETE", path, body=msgspec.json.encode(options))


def encode(resource: Resource[T], obj: T) -> bytes:
    """Return the object as JSON, with its apiVersion and kind."""
    return msgspec.json.encode(_named(resource, obj))


class _Status(msgspec.Struct, frozen=True):
    """A ``Status`` answer: an error, or the result of a deletion."""

    kind: str = ""
    message: str = ""
    reason: str = ""
    code: int = 0


class _ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    continue_token: str = msgspec.field(default="", name="continue")


class _RawList(msgspec.Struct, frozen=True):
    metadata: _ListMeta = _ListMeta()
    items: list[msgspec.Raw] | None = None


class _Identified(msgspec.Struct, frozen=True):
    metadata: ObjectMeta = ObjectMeta()


_STATUS: Final = msgspec.json.Decoder(_Status)
_LIST: Final = msgspec.json.Decoder(_RawList)
_IDENTIFIED: Final = msgspec.json.Decoder(_Identified)


class Parser(Generic[T]):
    """Decodes the answers about one resource; made once a resource, then reused."""

    def __init__(self, resource: Resource[T]) -> None:
        self._resource = resource
        self._decoder = msgspec.json.Decoder(resource.type)

    def object(self, body: bytes | msgspec.Raw) -> T:
        """One object. Raises KubeUnavailable when it is none."""
        try:
            obj = self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise KubeUnavailable(f"the answer is no {self._resource.kind}: {error}") from error
        if not obj.metadata.name:
            raise KubeUnavailable(f"the answer is no {self._resource.kind}: it has no name")
        return _named(self._resource, obj)

    def list(self, body: bytes) -> ObjectList[T]:
        """One page. An object that does not fit its type is left out and named in ``unreadable``.

        Anything without a resource version is no list: an empty one must never be concluded from another answer.
        """
        try:
            page = _LIST.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise KubeUnavailable(f"the answer is no list of {self._resource.plural}: {error}") from error
        if not page.metadata.resource_version:
            raise KubeUnavailable(f"the answer is no list of {self._resource.plural}: it has no resourceVersion")
        items: list[T] = []
        unreadable: list[str] = []
        for raw in page.items or ():
            try:
                items.append(self.object(raw))
            except KubeUnavailable as error:
                unreadable.append(f"{identify(raw)[0]}: {error}")
        meta = page.metadata
        return ObjectList(tuple(items), meta.resource_version, meta.continue_token, tuple(unreadable))

    def deleted(self, body: bytes) -> T | None:
        """Read the answer to a deletion: the object, still terminating, or None when it is gone.

        The API sends the object also when it removed it at once; then it has no finalizer and no grace period left.
        """
        try:
            kind = _STATUS.decode(body).kind
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise KubeUnavailable(f"the answer to a deletion is no Kubernetes object: {error}") from error
        if kind == "Status":
            return None
        obj = self.object(body)
        meta = obj.metadata
        terminating = meta.deletion_timestamp is not None
        return obj if terminating and (meta.finalizers or meta.deletion_grace_period_seconds) else None


def identify(raw: bytes | msgspec.Raw) -> tuple[str, str]:
    """Key and resource version of any object, ``("?", "")`` when even its metadata cannot be read."""
    try:
        meta = _IDENTIFIED.decode(raw).metadata
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return "?", ""
    return (f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name), meta.resource_version


_CLASSES: Final[Mapping[int, type[ApiError]]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
}


def error(code: int, body: bytes, retry_after: str = "") -> ApiError:
    """Make the error an answer of status ``code`` stands for; ``retry_after`` is the header, seconds."""
    try:
        status = _STATUS.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        status = _Status()
    reason = status.reason
    text = status.message if status.kind == "Status" else body[:_MESSAGE_LIMIT].decode(errors="replace").strip()
    cls = AlreadyExists if reason == "AlreadyExists" else _CLASSES.get(code, ApiError)
    message = text[:_MESSAGE_LIMIT] or f"the API answered {code} without a message"
    return cls(code, reason, message, seconds(retry_after))


def seconds(retry_after: str) -> float | None:
    """Read the ``Retry-After`` header in seconds; None when absent or not a number (the API sends no dates)."""
    text = retry_after.strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else None  # noqa: PLR2004 - 11 days


def _named(resource: Resource[T], obj: T) -> T:
    """Fill in apiVersion and kind: the items of a list have none."""
    if obj.kind and obj.api_version:
        return obj
    return msgspec.structs.replace(obj, api_version=resource.api_version, kind=resource.kind)


def _selectors(label_selector: str, field_selector: str) -> Sequence[tuple[str, str]]:
    pairs = (("labelSelector", label_selector), ("fieldSelector", field_selector))
    return [pair for pair in pairs if pair[1]]


def _collection_path(resource: Resource[T], namespace: str) -> str:
    return resource.path(_segment(resource, namespace) if namespace else "")


def _object_path(resource: Resource[T], name: str, namespace: str, subresource: str = "") -> str:
    namespace = _segment(resource, namespace) if resource.namespaced else ""
    return resource.path(namespace, _segment(resource, name), subresource)


def _segment(resource: Resource[T], name: str) -> str:
    """Quote a name as part of a path. One that cannot exist is NotFound at once: it must not reach another path."""
    if name in _NOT_A_NAME or "/" in name or "%" in name:
        raise NotFound(404, "NotFound", f'{resource.plural} "{name}" not found: no object can have this name')
    return quote(name, safe="")
