"""Changes to points, in the words of the REST API; gRPC translates into them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import qdrant_edge as edge

from recollect.testing.qdrant_server.collection import Collection
from recollect.testing.qdrant_server.failures import bad_request
from recollect.testing.qdrant_server.points import edge_point, edge_vectors, point_id

_Update = edge.UpdateOperation


def upsert(collection: Collection, body: dict[str, Any]) -> int:
    """Insert or overwrite points given as a list or as a batch of columns."""
    if body.get("batch"):
        rows = [edge_point(point) for point in _rows(body["batch"])]
        return collection.upsert(rows, body.get("shard_key"))
    if body.get("points") is None:
        raise bad_request("Format error in JSON body: data did not match any variant of untagged enum")
    return collection.upsert([edge_point(point) for point in body["points"]], body.get("shard_key"))


def delete(collection: Collection, body: dict[str, Any]) -> int:
    """Delete points."""
    return collection.change(body, _Update.delete_points, _Update.delete_points_by_filter)


def update_vectors(collection: Collection, body: dict[str, Any]) -> int:
    """Replace the given vectors of points."""
    changes = [
        edge.PointVectors(point_id(each["id"]), edge_vectors(each["vector"])) for each in body["points"]
    ]
    return collection.update_vectors(changes)


def delete_vectors(collection: Collection, body: dict[str, Any]) -> int:
    """Remove vectors of points."""
    names = body["vector"]
    return collection.change(
        _selected(body),
        lambda ids: _Update.delete_vectors(ids, names),
        lambda chosen: _Update.delete_vectors_by_filter(chosen, names),
    )


def set_payload(collection: Collection, body: dict[str, Any]) -> int:
    """Merge fields into payloads."""
    payload, key = body["payload"], body.get("key")
    return collection.change(
        _selected(body),
        lambda ids: _Update.set_payload(ids, payload, key),
        lambda chosen: _Update.set_payload_by_filter(chosen, payload, key),
    )


def overwrite_payload(collection: Collection, body: dict[str, Any]) -> int:
    """Replace whole payloads."""
    payload, key = body["payload"], body.get("key")
    return collection.change(
        _selected(body),
        lambda ids: _Update.overwrite_payload(ids, payload, key),
        lambda chosen: _Update.overwrite_payload_by_filter(chosen, payload, key),
    )


def delete_payload(collection: Collection, body: dict[str, Any]) -> int:
    """Remove fields from payloads."""
    keys = body["keys"]
    return collection.change(
        _selected(body),
        lambda ids: _Update.delete_payload(ids, keys),
        lambda chosen: _Update.delete_payload_by_filter(chosen, keys),
    )


def clear_payload(collection: Collection, body: dict[str, Any]) -> int:
    """Empty payloads."""
    return collection.change(_selected(body), _Update.clear_payload, _Update.clear_payload_by_filter)


OPERATIONS: dict[str, Callable[[Collection, dict[str, Any]], int]] = {
    "upsert": upsert,
    "delete": delete,
    "update_vectors": update_vectors,
    "delete_vectors": delete_vectors,
    "set_payload": set_payload,
    "overwrite_payload": overwrite_payload,
    "delete_payload": delete_payload,
    "clear_payload": clear_payload,
}
"""By the name that `POST points/batch` uses."""


def batch(collection: Collection, operations: list[dict[str, Any]]) -> list[int]:
    """Apply several changes in their order; the first wrong one ends it."""
    planned = []
    for operation in operations:
        ((name, body),) = [item for item in operation.items() if item[1] is not None]
        if name not in OPERATIONS:
            raise bad_request(f"Format error in JSON body: unknown operation {name!r}")
        planned.append(partial(OPERATIONS[name], collection, body))
    return [apply() for apply in planned]


def _selected(body: dict[str, Any]) -> Any:
    return body if body.get("points") is None else body["points"]


def _rows(columns: dict[str, Any]) -> list[dict[str, Any]]:
    ids, vectors = columns["ids"], columns["vectors"]
    payloads = columns.get("payloads") or [None] * len(ids)
    if isinstance(vectors, dict):
        vectors = [{name: values[number] for name, values in vectors.items()} for number in range(len(ids))]
    return [
        {"id": each, "vector": vector, "payload": payload}
        for each, vector, payload in zip(ids, vectors, payloads, strict=True)
    ]
