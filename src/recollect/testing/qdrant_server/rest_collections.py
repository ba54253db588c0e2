"""REST routes about collections, aliases and payload indexes."""

from __future__ import annotations

from typing import Any

from recollect.testing.qdrant_server.failures import bad_request, no_collection
from recollect.testing.qdrant_server.rest_service import PEER_ID
from recollect.testing.qdrant_server.routes import Request, Route
from recollect.testing.qdrant_server.storage import Storage


def update_result(operation: int) -> dict[str, Any]:
    """Answer of every update: all of them are complete when the call returns."""
    return {"operation_id": operation, "status": "completed"}


def cluster_info(storage: Storage, name: str) -> dict[str, Any]:
    """Describe the shards of a collection: all are local."""
    collection = storage.get(name)
    with collection.lock:
        shards = [
            {
                "shard_id": number,
                "points_count": shard.info().points_count,
                "state": storage.faults.replica_state,
            }
            for number, shard in enumerate(collection.shards)
        ]
    return {
        "peer_id": PEER_ID,
        "shard_count": len(shards),
        "local_shards": shards,
        "remote_shards": [],
        "shard_transfers": [],
    }


def _list(storage: Storage, _request: Request) -> Any:
    return {"collections": [{"name": name} for name in storage.names()]}


def _get(storage: Storage, request: Request) -> Any:
    return storage.get(request.path["name"]).info()


def _exists(storage: Storage, request: Request) -> Any:
    return {"exists": storage.exists(request.path["name"])}


def _create(storage: Storage, request: Request) -> Any:
    return storage.create(request.path["name"], request.body)


def _update(storage: Storage, request: Request) -> Any:
    storage.get(request.path["name"]).reconfigure(request.body)
    return True


def _delete(storage: Storage, request: Request) -> Any:
    return storage.delete(request.path["name"])


def _cluster(storage: Storage, request: Request) -> Any:
    return cluster_info(storage, request.path["name"])


def _aliases(storage: Storage, _request: Request) -> Any:
    return {"aliases": storage.aliases()}


def _collection_aliases(storage: Storage, request: Request) -> Any:
    if not storage.exists(request.path["name"]):
        raise no_collection(request.path["name"])
    return {"aliases": storage.aliases(request.path["name"])}


def _change_aliases(storage: Storage, request: Request) -> Any:
    return storage.change_aliases(request.body["actions"])


def _create_index(storage: Storage, request: Request) -> Any:
    field, schema = request.body.get("field_name"), request.body.get("field_schema")
    if not field or not schema:
        raise bad_request("Format error in JSON body: field_name and field_schema are needed")
    return update_result(storage.get(request.path["name"]).create_index(field, schema))


def _delete_index(storage: Storage, request: Request) -> Any:
    return update_result(storage.get(request.path["name"]).delete_index(request.path["field"]))


ROUTES = [
    Route("GET", "/collections", _list),
    Route("GET", "/aliases", _aliases),
    Route("POST", "/collections/aliases", _change_aliases, "write"),
    Route("GET", "/collections/{name}", _get),
    Route("PUT", "/collections/{name}", _create, "write"),
    Route("PATCH", "/collections/{name}", _update, "write"),
    Route("DELETE", "/collections/{name}", _delete, "write"),
    Route("GET", "/collections/{name}/exists", _exists),
    Route("GET", "/collections/{name}/aliases", _collection_aliases),
    Route("GET", "/collections/{name}/cluster", _cluster),
    Route("PUT", "/collections/{name}/index", _create_index, "write"),
    Route("DELETE", "/collections/{name}/index/{field}", _delete_index, "write"),
]
