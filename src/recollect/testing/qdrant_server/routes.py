"""The table of REST routes: a method, a path, a function.

A function takes the `Storage` and a `Request` and returns the `result` member of the answer;
one that returns `Raw` answers with plain bytes instead. Groups of routes are modules; a new
group is a list of routes that `server` adds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote

from recollect.testing.qdrant_server.failures import ServerError
from recollect.testing.qdrant_server.faults import Faults
from recollect.testing.qdrant_server.storage import Storage


class Upload(NamedTuple):
    """A body that a route reads by itself: `length` bytes of `stream`."""

    stream: BufferedIOBase
    length: int
    content_type: str


class Request(NamedTuple):
    """One REST call: path parameters, query parameters, the decoded JSON body or an `Upload`.

    `peer_id` and `faults` are those of the node that was called.
    """

    path: dict[str, str]
    query: dict[str, str]
    body: Any
    peer_id: int
    faults: Faults


class Raw(NamedTuple):
    """An answer outside of the usual envelope."""

    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200


class Accepted(NamedTuple):
    """202: the work goes on after the answer."""


class Streamed(NamedTuple):
    """An answer that is sent piece by piece; without `length` it ends where the connection does.

    A stream that ends before its length breaks the connection.
    """

    pieces: Iterator[bytes]
    length: int | None


Function: TypeAlias = Callable[[Storage, Request], Any]


class Route(NamedTuple):
    """One call of the API; `path` holds parameters in braces.

    `access` is "none" (no key needed), "read" or "write"; `body` is "json", or "upload" for a route
    that gets an `Upload`.
    """

    method: str
    path: str
    function: Function
    access: str = "read"
    body: str = "json"


class RouteTable:
    """Finds the route of a call."""

    def __init__(self, routes: list[Route]) -> None:
        self._routes = [(route, _pattern(route.path)) for route in routes]

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """Return the route and its path parameters; 404 if there is none."""
        for route, pattern in self._routes:
            match = pattern.fullmatch(path)
            if match is not None and route.method == method:
                return route, {name: unquote(value) for name, value in match.groupdict().items()}
        raise ServerError(404, f"Not found: {method} {path}")


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))
