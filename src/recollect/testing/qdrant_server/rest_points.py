"""REST routes about points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recollect.testing.qdrant_server import changes, reading
from recollect.testing.qdrant_server.collection import Collection
from recollect.testing.qdrant_server.failures import ServerError
from recollect.testing.qdrant_server.points import json_record, json_vectors, record_id
from recollect.testing.qdrant_server.rest_collections import update_result
from recollect.testing.qdrant_server.routes import Function, Request, Route
from recollect.testing.qdrant_server.storage import Storage


def _change(function: Callable[[Collection, dict[str, Any]], int]) -> Function:
    def route(storage: Storage, request: Request) -> Any:
        return update_result(function(storage.get(request.path["name"]), request.body))

    return route


def _batch(storage: Storage, request: Request) -> Any:
    done = changes.batch(storage.get(request.path["name"]), request.body["operations"])
    return [update_result(operation) for operation in done]


def _count(storage: Storage, request: Request) -> Any:
    return {"count": reading.count(storage.get(request.path["name"]), request.body or {})}


def _retrieve(storage: Storage, request: Request) -> Any:
    return [
        json_record(record) for record in reading.retrieve(storage.get(request.path["name"]), request.body)
    ]


def _retrieve_one(storage: Storage, request: Request) -> Any:
    text = request.path["id"]
    wanted = {"ids": [int(text) if text.isdigit() else text], "with_vector": True}
    found = reading.retrieve(storage.get(request.path["name"]), wanted)
    if not found:
        raise ServerError(404, f"Not found: Point with id {text} does not exists!")
    return json_record(found[0])


def _scroll(storage: Storage, request: Request) -> Any:
    number = request.path.get("shard")
    shard_number = None if number is None else int(number)
    records, following = reading.scroll(storage.get(request.path["name"]), request.body or {}, shard_number)
    return {"points": [json_record(record) for record in records], "next_page_offset": following}


def _query(storage: Storage, request: Request) -> Any:
    return {"points": _answer(storage.get(request.path["name"]), request.body)}


def _query_batch(storage: Storage, request: Request) -> Any:
    collection = storage.get(request.path["name"])
    return [{"points": _answer(collection, each)} for each in request.body["searches"]]


def _answer(collection: Collection, request: dict[str, Any]) -> list[dict[str, Any]]:
    points = []
    for found in reading.query(collection, request):
        point = {"id": record_id(found), "version": found.version, "score": found.score}
        if found.payload is not None:
            point["payload"] = found.payload
        if found.vector is not None:
            point["vector"] = json_vectors(found.vector)
        points.append(point)
    return points


_POINTS = "/collections/{name}/points"

ROUTES = [
    Route("PUT", _POINTS, _change(changes.upsert), "write"),
    Route("POST", _POINTS, _retrieve),
    Route("POST", f"{_POINTS}/delete", _change(changes.delete), "write"),
    Route("PUT", f"{_POINTS}/vectors", _change(changes.update_vectors), "write"),
    Route("POST", f"{_POINTS}/vectors/delete", _change(changes.delete_vectors), "write"),
    Route("POST", f"{_POINTS}/payload", _change(changes.set_payload), "write"),
    Route("PUT", f"{_POINTS}/payload", _change(changes.overwrite_payload), "write"),
    Route("POST", f"{_POINTS}/payload/delete", _change(changes.delete_payload), "write"),
    Route("POST", f"{_POINTS}/payload/clear", _change(changes.clear_payload), "write"),
    Route("POST", f"{_POINTS}/batch", _batch, "write"),
    Route("POST", f"{_POINTS}/count", _count),
    Route("POST", f"{_POINTS}/scroll", _scroll),
    Route("POST", "/collections/{name}/shards/{shard}/points/scroll", _scroll),
    Route("POST", f"{_POINTS}/query", _query),
    Route("POST", f"{_POINTS}/query/batch", _query_batch),
    Route("GET", f"{_POINTS}/{{id}}", _retrieve_one),
]
