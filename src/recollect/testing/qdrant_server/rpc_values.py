"""Payloads and vectors between protobuf messages and the engine's objects."""

from __future__ import annotations

from typing import Any

import qdrant_edge as edge
from qdrant_client import grpc as wire

from recollect.testing.qdrant_server.failures import bad_request


def plain(model: Any) -> Any:
    """Turn a pydantic model of the client library into what JSON would have brought."""
    return model.model_dump(mode="json", exclude_none=True)


def payload_from_wire(fields: Any) -> dict[str, Any]:
    """Convert a map of values."""
    return {key: _value_from_wire(value) for key, value in fields.items()}


def _value_from_wire(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    if kind == "struct_value":
        return payload_from_wire(value.struct_value.fields)
    if kind == "list_value":
        return [_value_from_wire(each) for each in value.list_value.values]
    return getattr(value, kind)


def payload_to_wire(payload: dict[str, Any], fields: Any) -> None:
    """Fill a map of values. As in Qdrant, an integer beyond int64 becomes a double and loses bits."""
    for key, value in payload.items():
        _value_to_wire(value, fields[key])


def _value_to_wire(value: Any, message: Any) -> None:
    if value is None:
        message.null_value = wire.NullValue.NULL_VALUE
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int) and value < 2**63:
        message.integer_value = value
    elif isinstance(value, (int, float)):
        message.double_value = value
    elif isinstance(value, str):
        message.string_value = value
    elif isinstance(value, dict):
        message.struct_value.SetInParent()
        payload_to_wire(value, message.struct_value.fields)
    else:
        message.list_value.SetInParent()
        for each in value:
            _value_to_wire(each, message.list_value.values.add())


def vectors_from_wire(message: Any) -> Any:
    """Convert a point's vectors: one without a name, or a mapping."""
    kind = message.WhichOneof("vectors_options")
    if kind == "vector":
        return _vector_from_wire(message.vector)
    return {name: _vector_from_wire(vector) for name, vector in message.vectors.vectors.items()}


def _vector_from_wire(message: Any) -> Any:
    kind = message.WhichOneof("vector")
    if kind == "dense":
        return list(message.dense.data)
    if kind == "sparse":
        return edge.SparseVector(list(message.sparse.indices), list(message.sparse.values))
    if kind == "multi_dense":
        return [list(row.data) for row in message.multi_dense.vectors]
    if kind is not None:
        raise bad_request("Bad request: this test server has no inference")
    return _old_vector(message)


def _old_vector(message: Any) -> Any:
    data = list(message.data)
    if message.HasField("indices"):
        return edge.SparseVector(list(message.indices.data), data)
    if message.HasField("vectors_count"):
        width = len(data) // message.vectors_count
        return [data[start : start + width] for start in range(0, len(data), width)]
    return data


def vectors_to_wire(vectors: Any, message: Any) -> None:
    """Fill the vectors of a point that goes out."""
    if not isinstance(vectors, dict):
        _vector_to_wire(vectors, message.vector)
        return
    message.vectors.SetInParent()
    for name, vector in vectors.items():
        _vector_to_wire(vector, message.vectors.vectors[name])


def _vector_to_wire(vector: Any, message: Any) -> None:
    if isinstance(vector, edge.SparseVector):
        message.sparse.indices.extend(vector.indices)
        message.sparse.values.extend(vector.values)
        message.sparse.SetInParent()
    elif vector and isinstance(vector[0], list):
        for row in vector:
            message.multi_dense.vectors.add().data.extend(row)
    else:
        message.dense.data.extend(vector)
