"""Calls and replies as values, and lists of routes: a service is a function from the one to the other."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import parse_qsl

import msgspec

F = TypeVar("F")

JSON = "application/json; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it came: `target` is the raw request target, `base` the scheme and authority links begin with.

    Header names are lower-case; of a header sent twice the first counts.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    peer: str = ""
    base: str = ""

    @property
    def path(self) -> str:
        """The target without its query; as sent, not decoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> list[tuple[str, str]]:
        """The decoded query, in order, with duplicates."""
        return parse_qsl(self.target.partition("?")[2], keep_blank_values=True)

    def parameter(self, name: str) -> str:
        """The first query parameter of that name in any case, "" when there is none."""
        return next((value for key, value in self.query if key.casefold() == name.casefold()), "")


@dataclass(frozen=True, slots=True)
class Reply:
    """A response. `body` is sent as JSON, except bytes, which go as they are, and None, which is no body."""

    status: int
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON

    def payload(self) -> bytes:
        """The bytes of the body."""
        if self.body is None:
            return b""
        return self.body if isinstance(self.body, bytes) else msgspec.json.encode(self.body)


class MethodError(Exception):
    """The path is served, but not with this method."""


class ServiceError(Exception):
    """A service's error, with the reply that tells the client."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"{reply.status} {reply.body!r}")
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Route(Generic[F]):
    """A method and a path to what handles it. `{x}` in a path stands for one segment, `{x*}` for any number."""

    method: str
    path: str
    handler: F
    name: str = ""
    action: str = ""

    def pattern(self) -> re.Pattern[str]:
        """The path as a case-insensitive expression with a group for each `{x}`."""
        text = re.escape(self.path).replace(r"\{", "{").replace(r"\}", "}").replace(r"\*", "*")
        text = re.sub(r"\{(\w+)\*\}", r"(?P<\1>.*)", text)
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", text), re.IGNORECASE)


class Routes(Generic[F]):
    """Routes in order; the first whose path and method fit is taken."""

    def __init__(self, routes: Iterable[Route[F]]) -> None:
        self._routes = [(route.pattern(), route) for route in routes]

    def find(self, method: str, path: str) -> tuple[Route[F], dict[str, str]] | None:
        """The route and the values of its segments; None when no path fits, MethodError when only the path does."""
        known_path = False
        for pattern, route in self._routes:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            if route.method == method:
                return route, match.groupdict()
            known_path = True
        if known_path:
            raise MethodError(method)
        return None
