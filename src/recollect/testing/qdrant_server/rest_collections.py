"""REST routes about collections, aliases and payload indexes."""

from __future__ import annotations

from typing import Any

from recollect.testing.qdrant_server.cluster import PEER_ID
from recollect.testing.qdrant_server.failures import bad_request, no_collection
from recollect.testing.qdrant_server.routes import Request, Route
from recollect.testing.qdrant_server.storage import Storage


def update_result(operation: int) -> dict[str, Any]:
    """Answer of every update: all of them are complete when the call returns."""
    return {"operation_id": operation, "status": "completed"}


def cluster_info(storage: Storage, name: str, peer_id: int = PEER_ID) -> dict[str, Any]:
    """Describe the shards of a collection as one node sees them; without a cluster all are local."""
    collection = storage.get(name)
    local: list[dict[str, Any]] = []
    remote: list[dict[str, Any]] = []
    with collection.lock:
        for number, shard in enumerate(collection.shards):
            facts: dict[str, Any] = {"shard_id": number}
            if collection.shard_keys[number] is not None:
                facts["shard_key"] = collection.shard_keys[number]
            for peer, state in replica_states(storage, name, number).items():
                if peer == peer_id:
                    local.append({**facts, "points_count": shard.info().points_count, "state": state})
                else:
                    remote.append({**facts, "peer_id": peer, "state": state})
    return {
        "peer_id": peer_id,
        "shard_count": len(collection.shards),
        "local_shards": local,
        "remote_shards": remote,
        "shard_transfers": [],
    }


def replica_states(storage: Storage, name: str, shard: int) -> dict[int, str]:
    """Return the state of each replica of a shard, by peer."""
    state = storage.faults.replica_state
    if storage.cluster is None:
        return {PEER_ID: state}
    factor = storage.get(name).config["params"]["replication_factor"]
    return storage.cluster.replicas(storage.resolve(name), shard, factor, state)


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
    return cluster_info(storage, request.path["name"], request.peer_id)


def _create_shard_key(storage: Storage, request: Request) -> Any:
    collection = storage.get(request.path["name"])
    if collection.config["params"].get("sharding_method") != "custom":
        raise bad_request("Bad request: Shard Key creation is only supported for custom sharding")
    collection.create_shard_key(request.body["shard_key"], request.body.get("shards_number"))
    return True


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
    Route("PUT", "/collections/{name}/shards", _create_shard_key, "write"),
    Route("PUT", "/collections/{name}/index", _create_index, "write"),
    Route("DELETE", "/collections/{name}/index/{field}", _delete_index, "write"),
]
