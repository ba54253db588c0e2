"""REST routes about the server itself: version, health, cluster."""

from __future__ import annotations

from typing import Any

import msgspec

from recollect.testing.qdrant_server.routes import Raw, Request, Route
from recollect.testing.qdrant_server.storage import Storage

VERSION = "1.19.0"
"""The server version that it claims: the one whose behaviour it follows."""

TITLE = "qdrant - vector search engine"


def _root(_storage: Storage, request: Request) -> Any:
    version = request.faults.version or VERSION
    return Raw(msgspec.json.encode({"title": TITLE, "version": version, "commit": ""}), "application/json")


def _healthz(_storage: Storage, _request: Request) -> Any:
    return Raw(b"healthz check passed")


def _readyz(_storage: Storage, _request: Request) -> Any:
    return Raw(b"all shards are ready")


def _livez(_storage: Storage, _request: Request) -> Any:
    return Raw(b"healthz check passed")


def _cluster(storage: Storage, request: Request) -> Any:
    if storage.cluster is None:
        return {"status": "disabled"}
    return {
        "status": "enabled",
        "peer_id": request.peer_id,
        "peers": {str(peer): {"uri": uri} for peer, uri in storage.cluster.peers.items()},
        "raft_info": {"term": 1, "commit": 1, "pending_operations": 0, "leader": 1, "role": "Follower"},
        "consensus_thread_status": {"consensus_thread_status": "working"},
        "message_send_failures": {},
    }


ROUTES = [
    Route("GET", "/", _root),
    Route("GET", "/healthz", _healthz, "none"),
    Route("GET", "/readyz", _readyz, "none"),
    Route("GET", "/livez", _livez, "none"),
    Route("GET", "/cluster", _cluster),
]
