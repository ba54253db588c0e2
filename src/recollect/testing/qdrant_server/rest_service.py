"""REST routes about the server itself: version, health, cluster."""

from __future__ import annotations

from typing import Any

import msgspec

from recollect.testing.qdrant_server.routes import Raw, Request, Route
from recollect.testing.qdrant_server.storage import Storage

VERSION = "1.19.0"
"""The server version that it claims: the one whose behaviour it follows."""

TITLE = "qdrant - vector search engine"
PEER_ID = 1


def _root(_storage: Storage, _request: Request) -> Any:
    return Raw(msgspec.json.encode({"title": TITLE, "version": VERSION, "commit": ""}), "application/json")


def _healthz(_storage: Storage, _request: Request) -> Any:
    return Raw(b"healthz check passed")


def _readyz(_storage: Storage, _request: Request) -> Any:
    return Raw(b"all shards are ready")


def _livez(_storage: Storage, _request: Request) -> Any:
    return Raw(b"healthz check passed")


def _cluster(_storage: Storage, _request: Request) -> Any:
    return {"status": "disabled"}


ROUTES = [
    Route("GET", "/", _root),
    Route("GET", "/healthz", _healthz, "none"),
    Route("GET", "/readyz", _readyz, "none"),
    Route("GET", "/livez", _livez, "none"),
    Route("GET", "/cluster", _cluster),
]
