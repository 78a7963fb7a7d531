"""Lists and watches: what a query selects, and the answers' bytes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from podidentity.lab.kube.errors import bad_request
from podidentity.lab.kube.kinds import Kind
from podidentity.lab.kube.objects import Obj, decode, encode
from podidentity.lab.kube.selectors import matches, parse_fields, parse_labels
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
        raise bad_request(
            f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        )
    return int(text)


def list_page(store: Store, kind: Kind, target: Target, query: Mapping[str, str]) -> Page:
    """The objects selected, at most ``limit`` of them; a later page continues in the store as it is then."""
    selects = selection(kind, target, query)
    asked = revision_asked(query)
    after: Key = ("", "")
    revision = store.revision
    if token := query.get("continue"):
        revision, after = _read_continue(token)
        store.check_age(kind.resource, revision)
    elif asked is not None and asked > revision:
        store.check_age(kind.resource, asked)
    text = query.get("limit", "") or "0"
    if not (text.isascii() and text.isdigit()):
        raise bad_request(f'limit: Invalid value: "{text}"')
    limit = int(text)
    namespace = target.namespace if kind.namespaced else ""
    found = filter(selects, store.scan(kind.resource, namespace, after))
    items = list(islice(found, limit) if limit else found)
    metadata: Obj = {"resourceVersion": str(revision)}
    if limit and len(items) == limit and next(found, None) is not None:
        last = items[-1]
        metadata["continue"] = _continue(revision, (last.namespace, last.name))
    return Page(items, metadata)


def _continue(revision: int, key: Key) -> str:
    return base64.urlsafe_b64encode(encode([revision, *key])).decode()


def _read_continue(token: str) -> tuple[int, Key]:
    try:
        found: Any = decode(base64.urlsafe_b64decode(token))
        revision, namespace, name = found
        return int(revision), (str(namespace), str(name))
    except (binascii.Error, ValueError, TypeError) as error:
        raise bad_request("continue key is not valid") from error


def list_body(kind: Kind, page: Page) -> bytes:
    """The list object. Items of built-in kinds carry no apiVersion and kind, as on the real server."""
    head = encode({"kind": kind.list_of, "apiVersion": kind.api_version, "metadata": page.metadata})[:-1]
    start = prefix(kind) if kind.custom else b"{"
    items = b",".join(start + stored.body[1:] for stored in page.items)
    return head + b',"items":[' + items + b"]}"
