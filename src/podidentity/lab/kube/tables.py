"""Tables: what ``kubectl get`` asks for and prints."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache
from typing import Any, Final

from podidentity.lab.kube.ages import age
from podidentity.lab.kube.columns import AGE, COLUMNS, NAME, Column
from podidentity.lab.kube.errors import StatusError, bad_request, not_here
from podidentity.lab.kube.jsonpath import find
from podidentity.lab.kube.kinds import Kind
from podidentity.lab.kube.objects import Obj, encode, go_value
from podidentity.lab.kube.reading import Page
from podidentity.lab.kube.store import Stored

_HEAD: Final = {"kind": "Table", "apiVersion": "meta.k8s.io/v1"}
_OBJECTS: Final = frozenset(["None", "Metadata", "Object"])


def negotiate(accept: str) -> bool:
    """Whether the answer is a Table; StatusError 406 when neither that nor JSON is accepted."""
    if not accept:
        return False
    for part in accept.split(","):
        media, *parameters = (item.strip() for item in part.split(";"))
        options = dict(item.partition("=")[::2] for item in parameters)
        if media not in {"application/json", "application/*", "*/*"}:
            continue
        if "as" not in options:
            return False
        if options == {"as": "Table", "v": "v1", "g": "meta.k8s.io"}:
            return True
    if "as=" in accept:
        raise not_here(f"an answer as {accept}", 406)
    raise StatusError(406, "only the following media types are accepted: application/json")


def _custom_column(column: Obj) -> Column:
    path, type_ = str(column.get("jsonPath") or ""), str(column.get("type") or "string")

    def cell(obj: Obj, now: float) -> Any:
        value = find(path, obj)
        if value is None:
            return None
        if type_ == "date":
            return age(value, now)
        return value if type_ in {"integer", "number", "boolean"} else _plain(value)

    priority = int(column.get("priority") or 0)
    return Column(str(column.get("name") or ""), cell, type_, str(column.get("format") or ""), priority)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else encode(value).decode()


@lru_cache(maxsize=256)
def columns_of(kind: Kind) -> tuple[Column, ...]:
    """The columns of a kind."""
    if kind.custom:
        return (NAME, *map(_custom_column, kind.columns))
    return COLUMNS.get(kind.resource, (NAME, AGE))


class Tables:
    """Tables of one kind; ``include`` says what each row carries: None, Metadata or Object."""

    def __init__(self, kind: Kind, query: Mapping[str, str], now: Callable[[], float]) -> None:
        self._kind = kind
        self._columns = columns_of(kind)
        self._include = query.get("includeObject", "") or "Metadata"
        self._now = now
        if self._include not in _OBJECTS:
            why = f"Invalid value: {go_value(self._include)}: must be 'Metadata', 'Object', 'None', or empty"
            raise bad_request(f"Unable to convert to Table as requested: includeObject: {why}")
        self.key: Hashable = ("table", kind.api_version, self._include)

    def _row(self, stored: Stored) -> Obj:
        obj, now = stored.obj(), self._now()
        row: Obj = {"cells": [column.cell(obj, now) for column in self._columns], "object": None}
        if self._include == "Object":
            row["object"] = {"kind": self._kind.kind, "apiVersion": self._kind.api_version, **obj}
        elif self._include == "Metadata":
            partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
            row["object"] = {**partial, "metadata": obj["metadata"]}
        return row

    def _definitions(self) -> list[Obj]:
        return [column.definition() for column in self._columns]

    def page(self, page: Page) -> bytes:
        """The Table of a list."""
        rows = [self._row(stored) for stored in page.items]
        return encode({**_HEAD, "metadata": page.metadata, "columnDefinitions": self._definitions(), "rows": rows})

    def single(self, stored: Stored) -> bytes:
        """The Table of one object."""
        return self.page(Page([stored], {"resourceVersion": str(stored.revision)}))

    def first(self, stored: Stored) -> bytes:
        """The Table in a watch's first event: it has the column definitions."""
        return self.single(stored)

    def later(self, stored: Stored) -> bytes:
        """The Table in a later event."""
        metadata = {"resourceVersion": str(stored.revision)}
        return encode({**_HEAD, "metadata": metadata, "columnDefinitions": None, "rows": [self._row(stored)]})
