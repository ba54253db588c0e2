"""Points between Qdrant's JSON and the engine's objects. Ids: an integer, or a UUID in text."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import qdrant_edge as edge
import xxhash

from recollect.testing.qdrant_server.failures import bad_request


def point_id(value: Any) -> int | str:
    """Check one id and bring it into the engine's form."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64:
        return value
    if isinstance(value, str):
        try:
            return str(UUID(value))
        except ValueError:
            pass
    raise bad_request(
        f"Format error in JSON body: value {value} is not a valid point ID, "
        "valid values are either an unsigned integer or a UUID"
    )


def sort_key(value: int | str) -> tuple[int, int]:
    """Order ids as the engine does: numbers, then UUIDs."""
    return (0, value) if isinstance(value, int) else (1, UUID(value).int)


def shard_of(value: int | str, shard_count: int) -> int:
    """Choose the shard of a point."""
    return xxhash.xxh3_64_intdigest(str(value).encode()) % shard_count


def edge_vectors(vectors: Any) -> Any:
    """Convert a point's `vector` member: a list, a list of lists, or a mapping by name."""
    if isinstance(vectors, dict):
        return {name: _edge_vector(vector) for name, vector in vectors.items()}
    return {} if vectors is None else vectors


def _edge_vector(vector: Any) -> Any:
    if isinstance(vector, dict):
        return edge.SparseVector(vector["indices"], vector["values"])
    return vector


def edge_point(spec: dict[str, Any]) -> Any:
    """Convert one JSON point."""
    if "vector" not in spec or spec["vector"] is None:
        raise bad_request("Format error in JSON body: missing field `vector`")
    payload = spec.get("payload") or {}
    return edge.Point(point_id(spec.get("id")), edge_vectors(spec["vector"]), payload)


def json_record(record: Any) -> dict[str, Any]:
    """Convert what the engine read."""
    found: dict[str, Any] = {"id": record_id(record)}
    if record.payload is not None:
        found["payload"] = record.payload
    if record.vector is not None:
        found["vector"] = json_vectors(record.vector)
    return found


def json_vectors(vectors: Any) -> Any:
    """Convert a record's vectors."""
    if isinstance(vectors, dict):
        return {name: _json_vector(vector) for name, vector in vectors.items()}
    return vectors


def _json_vector(vector: Any) -> Any:
    if isinstance(vector, edge.SparseVector):
        return {"indices": vector.indices, "values": vector.values}
    return vector


def record_id(record: Any) -> int | str:
    """Return a record's id in JSON's form."""
    return record.id if isinstance(record.id, int) else str(record.id)
