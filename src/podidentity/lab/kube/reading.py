"""Lists and watches: what a query selects, and the answers' bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice

from podidentity.lab.kube import continuing, listoptions
from podidentity.lab.kube.errors import StatusError, bad_request
from podidentity.lab.kube.kinds import Kind
from podidentity.lab.kube.labelselector import parse_labels
from podidentity.lab.kube.objects import Obj, encode
from podidentity.lab.kube.selectors import matches, parse_fields
from podidentity.lab.kube.store import Key, Store, Stored
from podidentity.lab.kube.target import Target
from podidentity.lab.kube.watching import prefix

_ALWAYS = frozenset(["metadata.name", "metadata.namespace"])


def selection(kind: Kind, target: Target, query: Mapping[str, str]) -> Callable[[Stored], bool]:
    """Whether an object is of the namespace (and name) asked for and matches the selectors; 400 when unreadable."""
    labels = parse_labels(query.get("labelSelector", ""))
    fields = parse_fields(query.get("fieldSelector", ""), lambda key: _check_field(kind, key))
    namespace = target.namespace if kind.namespaced else ""
    name = target.name

    def selects(stored: Stored) -> bool:
        return (
            (not namespace or stored.namespace == namespace)
            and (not name or stored.name == name)
            and (not labels or matches(labels, stored.labels))
            and (not fields or matches(fields, stored.fields))
        )

    return selects


def _check_field(kind: Kind, key: str) -> None:
    if key in _ALWAYS or key in kind.fields:
        return
    if kind.fields or kind.custom:
        raise bad_request(f"field label not supported: {key}")
    raise bad_request(f'"{key}" is not a known field selector: only "metadata.name", "metadata.namespace"')


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list: its objects and the list's ``metadata``."""

    items: list[Stored]
    metadata: Obj


def revision_asked(query: Mapping[str, str]) -> int | None:
    """``resourceVersion`` as a number; None when absent or 0, which both mean "as it is now"."""
    text = query.get("resourceVersion", "")
    if not text or text == "0":
        return None
    if not (text.isascii() and text.isdigit()):
        why = f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        raise bad_request(f"invalid resource version: resourceVersion: {why}")
    return int(text)


def revision_watched(query: Mapping[str, str]) -> int | None:
    """As :func:`revision_asked`, for a watch: kube-apiserver calls one that is no number an error of its own."""
    try:
        return revision_asked(query)
    except StatusError as error:
        raise StatusError(500, error.message.removeprefix("invalid resource version: "), reason="") from error


def check_get(store: Store, kind: Kind, query: Mapping[str, str]) -> None:
    """Raise 504 when an object of a version to come is asked for."""
    asked = revision_watched(query)
    if asked is not None and asked > store.revision:
        store.check_age(kind.resource, asked)


def list_page(store: Store, kind: Kind, target: Target, query: Mapping[str, str]) -> Page:
    """The objects selected, at most ``limit`` of them; later pages show the store as it was at the first one."""
    listoptions.check_list(query)
    selects = selection(kind, target, query)
    limit = 0 if query.get("resourceVersion") == "0" else listoptions.number(query, "limit")
    namespace = target.namespace if kind.namespaced else ""
    revision, after = _start(store, kind, query, namespace, limit)
    found = filter(selects, store.scan_at(kind.resource, revision, namespace, after))
    items = list(islice(found, limit)) if limit > 0 else list(found)
    metadata: Obj = {"resourceVersion": str(revision)}
    left = sum(1 for _ in found)
    if left:
        metadata["continue"] = continuing.token(revision, (items[-1].namespace, items[-1].name), namespace)
        if not (query.get("labelSelector") or query.get("fieldSelector")):
            metadata["remainingItemCount"] = left
    return Page(items, metadata)


def _start(store: Store, kind: Kind, query: Mapping[str, str], namespace: str, limit: int) -> tuple[int, Key]:
    """At which revision the list shows the store, and behind which object it begins."""
    if token := query.get("continue"):
        revision, after = continuing.read(token, namespace)
        if query.get("resourceVersion", "0") != "0":
            raise bad_request("specifying resource version is not allowed when using continue")
        if store.forgotten(kind.resource, revision):
            raise continuing.expired(after, namespace)
        return (revision or store.revision), after
    asked = revision_asked(query)
    if asked is None:
        return store.revision, ("", "")
    match = query.get("resourceVersionMatch", "")
    if match == "Exact" or (limit and not match):
        if store.forgotten(kind.resource, asked):
            raise StatusError(410, "The resourceVersion for the provided list is too old.")
        return asked, ("", "")
    if asked > store.revision:
        store.check_age(kind.resource, asked)
    return store.revision, ("", "")


def list_body(kind: Kind, page: Page) -> bytes:
    """The list object. Items of built-in kinds carry no apiVersion and kind, as on the real server."""
    head = encode({"kind": kind.list_of, "apiVersion": kind.api_version, "metadata": page.metadata})[:-1]
    start = prefix(kind) if kind.custom else b"{"
    items = b",".join(start + stored.body[1:] for stored in page.items)
    return head + b',"items":[' + items + b"]}"
