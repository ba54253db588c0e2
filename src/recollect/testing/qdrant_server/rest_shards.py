"""REST routes about single shards: streamed, stored and partial snapshots, and recovery from them.

Source: qdrant, src/actix/api/snapshot_api.rs; the partial calls are not in its OpenAPI.
"""

from __future__ import annotations

from typing import Any

from recollect.testing.qdrant_server import shard_snapshots as shards
from recollect.testing.qdrant_server import snapshots
from recollect.testing.qdrant_server.failures import bad_request
from recollect.testing.qdrant_server.rest_snapshots import check_priority, pieces, receive, streamed, waited
from recollect.testing.qdrant_server.routes import Raw, Request, Route, Streamed
from recollect.testing.qdrant_server.storage import Storage

NOT_MODIFIED = 304


def _stream(storage: Storage, request: Request) -> Any:
    replica = _replica(storage, request)
    return Streamed(
        streamed(request.faults.snapshots, shards.archive(replica, request.faults.snapshots)), None
    )


def _manifest(storage: Storage, request: Request) -> Any:
    return shards.manifest(_replica(storage, request))


def _partial(storage: Storage, request: Request) -> Any:
    replica = _replica(storage, request)
    if request.body == shards.manifest(replica):
        return Raw(status=NOT_MODIFIED)
    content = shards.archive(replica, request.faults.snapshots, base=request.body or {})
    return Streamed(streamed(request.faults.snapshots, content), None)


def _recover_partial(storage: Storage, request: Request) -> Any:
    received = snapshots.spool(storage)
    receive(request.body, received)
    return _recovered(storage, request, received, is_partial=True)


def _recover_from(storage: Storage, request: Request) -> Any:
    replica = _replica(storage, request)
    shard = f"/collections/{request.path['name']}/shards/{request.path['shard']}"
    received = snapshots.spool(storage)
    url = request.body["peer_url"].rstrip("/") + shard + "/snapshot/partial/create"
    if not shards.fetch_partial(url, request.body.get("api_key"), shards.manifest(replica), received):
        return True
    return _recovered(storage, request, received, is_partial=True)


def _list(storage: Storage, request: Request) -> Any:
    return shards.listed(_replica(storage, request), request.faults)


def _create(storage: Storage, request: Request) -> Any:
    replica = _replica(storage, request)
    return waited(request, lambda: shards.create(replica, request.faults))


def _download(storage: Storage, request: Request) -> Any:
    path = shards.find(_replica(storage, request), request.path["snapshot"])
    faults = request.faults.snapshots
    return Streamed(pieces(faults, path), path.stat().st_size if faults.declares_length else None)


def _delete(storage: Storage, request: Request) -> Any:
    shards.find(_replica(storage, request), request.path["snapshot"]).unlink()
    return True


def _recover(storage: Storage, request: Request) -> Any:
    check_priority(request.body.get("priority"))
    location = request.body["location"]
    replica = _replica(storage, request)
    if "://" in location:
        path = snapshots.located(storage, location, request.body.get("api_key"))
    else:
        path = shards.find(replica, location)
    return waited(request, lambda: shards.recover(replica, path, request.body.get("checksum")))


def _upload(storage: Storage, request: Request) -> Any:
    received = snapshots.spool(storage)
    receive(request.body, received)
    check_priority(request.query.get("priority"))
    return _recovered(storage, request, received, is_partial=False)


def _recovered(storage: Storage, request: Request, received: Any, *, is_partial: bool) -> Any:
    replica = _replica(storage, request)

    def work() -> bool:
        try:
            if is_partial:
                return shards.recover_partial(replica, received)
            return shards.recover(replica, received, request.query.get("checksum"))
        finally:
            received.unlink()

    return waited(request, work)


def _replica(storage: Storage, request: Request) -> shards.Replica:
    text = request.path["shard"]
    if not text.isdecimal():
        raise bad_request(f"Format error in path: {text!r} is no shard")
    return shards.replica(storage, request.path["name"], int(text), request.peer_id)


P = "/collections/{name}/shards/{shard}"
ROUTES = [
    Route("GET", P + "/snapshot", _stream),
    Route("GET", P + "/snapshot/partial/manifest", _manifest),
    Route("POST", P + "/snapshot/partial/create", _partial, "write"),
    Route("POST", P + "/snapshot/partial/recover", _recover_partial, "write", "upload"),
    Route("POST", P + "/snapshot/partial/recover_from", _recover_from, "write"),
    Route("GET", P + "/snapshots", _list),
    Route("POST", P + "/snapshots", _create, "write"),
    Route("GET", P + "/snapshots/{snapshot}", _download),
    Route("DELETE", P + "/snapshots/{snapshot}", _delete, "write"),
    Route("PUT", P + "/snapshots/recover", _recover, "write"),
    Route("POST", P + "/snapshots/upload", _upload, "write", "upload"),
]
