"""gRPC methods about points. Scroll and Upsert are written for speed, the rest for brevity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qdrant_edge as edge
from qdrant_client import grpc as wire
from qdrant_client.conversions.conversion import GrpcToRest
from qdrant_client.grpc import points_service_pb2

from recollect.testing.qdrant_server import changes, reading
from recollect.testing.qdrant_server.collection import Collection
from recollect.testing.qdrant_server.failures import bad_request
from recollect.testing.qdrant_server.points import point_id, record_id
from recollect.testing.qdrant_server.rpc import Method, RpcFunction, Service
from recollect.testing.qdrant_server.rpc_values import (
    payload_from_wire,
    payload_to_wire,
    plain,
    vectors_from_wire,
    vectors_to_wire,
)
from recollect.testing.qdrant_server.storage import Storage


def _result(operation: int) -> Any:
    return wire.UpdateResult(operation_id=operation, status=wire.UpdateStatus.Completed)


def _upsert(storage: Storage, request: Any) -> Any:
    points = [_edge_point(each) for each in request.points]
    operation = storage.get(request.collection_name).upsert(points, _shard_key(request))
    return wire.PointsOperationResponse(result=_result(operation))


def _edge_point(point: Any) -> Any:
    if not point.HasField("id"):
        raise bad_request("Empty ID is not allowed")
    if not point.HasField("vectors") or point.vectors.WhichOneof("vectors_options") is None:
        raise bad_request("Expected some vectors")
    return edge.Point(
        _id_from_wire(point.id), vectors_from_wire(point.vectors), payload_from_wire(point.payload)
    )


def _id_from_wire(message: Any) -> int | str:
    return point_id(getattr(message, message.WhichOneof("point_id_options")))


def _id_to_wire(value: int | str) -> Any:
    return wire.PointId(num=value) if isinstance(value, int) else wire.PointId(uuid=value)


def _scroll(storage: Storage, request: Any) -> Any:
    wanted = {
        "limit": request.limit if request.HasField("limit") else None,
        "offset": _id_from_wire(request.offset) if request.HasField("offset") else None,
        "filter": _filter(request),
        "with_payload": _payload_selection(request.with_payload, default=True),
        "with_vector": _vector_selection(request.with_vectors),
        "order_by": request.HasField("order_by"),
        "shard_key": _shard_key(request),
    }
    records, following = reading.scroll(storage.get(request.collection_name), wanted)
    return wire.ScrollResponse(
        result=[_retrieved(record) for record in records],
        next_page_offset=None if following is None else _id_to_wire(following),
    )


def _retrieved(record: Any) -> Any:
    message = wire.RetrievedPoint(id=_id_to_wire(record_id(record)))
    if record.payload:
        payload_to_wire(record.payload, message.payload)
    if record.vector is not None:
        vectors_to_wire(record.vector, message.vectors)
    return message


def _get(storage: Storage, request: Any) -> Any:
    wanted = {
        "ids": [_id_from_wire(each) for each in request.ids],
        "with_payload": _payload_selection(request.with_payload, default=False),
        "with_vector": _vector_selection(request.with_vectors),
    }
    found = reading.retrieve(storage.get(request.collection_name), wanted)
    return wire.GetResponse(result=[_retrieved(record) for record in found])


def _count(storage: Storage, request: Any) -> Any:
    wanted = {
        "filter": _filter(request),
        "exact": request.exact if request.HasField("exact") else True,
        "shard_key": _shard_key(request),
    }
    found = reading.count(storage.get(request.collection_name), wanted)
    return wire.CountResponse(result=wire.CountResult(count=found))


def _query(storage: Storage, request: Any) -> Any:
    return wire.QueryResponse(result=_scored(storage.get(request.collection_name), request))


def _query_batch(storage: Storage, request: Any) -> Any:
    collection = storage.get(request.collection_name)
    found = [wire.BatchResult(result=_scored(collection, each)) for each in request.query_points]
    return wire.QueryBatchResponse(result=found)


def _scored(collection: Collection, request: Any) -> list[Any]:
    asked = plain(GrpcToRest.convert_query_points(request))
    asked["with_payload"] = _payload_selection(request.with_payload, default=False)
    asked["with_vector"] = _vector_selection(request.with_vectors)
    points = []
    for found in reading.query(collection, asked):
        identity = _id_to_wire(record_id(found))
        point = wire.ScoredPoint(id=identity, version=found.version, score=found.score)
        payload_to_wire(found.payload or {}, point.payload)
        if found.vector is not None:
            vectors_to_wire(found.vector, point.vectors)
        points.append(point)
    return points


def _update_vectors(storage: Storage, request: Any) -> Any:
    moved = [
        edge.PointVectors(_id_from_wire(each.id), vectors_from_wire(each.vectors)) for each in request.points
    ]
    operation = storage.get(request.collection_name).update_vectors(moved)
    return wire.PointsOperationResponse(result=_result(operation))


def _change(
    function: Callable[[Collection, dict[str, Any]], int], body: Callable[[Any], dict[str, Any]]
) -> RpcFunction:
    def method(storage: Storage, request: Any) -> Any:
        operation = function(storage.get(request.collection_name), body(request))
        return wire.PointsOperationResponse(result=_result(operation))

    return method


def _delete_body(request: Any) -> dict[str, Any]:
    return {**_selector(request.points), "shard_key": _shard_key(request)}


def _clear_body(request: Any) -> dict[str, Any]:
    return _selector(request.points)


def _delete_vectors_body(request: Any) -> dict[str, Any]:
    return {"vector": list(request.vectors.names), **_selector(request.points_selector)}


def _set_payload_body(request: Any) -> dict[str, Any]:
    key = request.key if request.HasField("key") else None
    payload = payload_from_wire(request.payload)
    return {"payload": payload, "key": key, **_selector(request.points_selector)}


def _delete_payload_body(request: Any) -> dict[str, Any]:
    return {"keys": list(request.keys), **_selector(request.points_selector)}


def _batch(storage: Storage, request: Any) -> Any:
    operations = [plain(GrpcToRest.convert_points_update_operation(each)) for each in request.operations]
    done = changes.batch(storage.get(request.collection_name), operations)
    return wire.UpdateBatchResponse(result=[_result(operation) for operation in done])


def _create_index(storage: Storage, request: Any) -> Any:
    if request.HasField("field_index_params"):
        schema: Any = plain(GrpcToRest.convert_payload_schema_params(request.field_index_params))
    else:
        schema = wire.FieldType.Name(request.field_type).removeprefix("FieldType").lower()
    operation = storage.get(request.collection_name).create_index(request.field_name, schema)
    return wire.PointsOperationResponse(result=_result(operation))


def _delete_index(storage: Storage, request: Any) -> Any:
    operation = storage.get(request.collection_name).delete_index(request.field_name)
    return wire.PointsOperationResponse(result=_result(operation))


def _selector(message: Any) -> dict[str, Any]:
    kind = message.WhichOneof("points_selector_one_of")
    if kind == "filter":
        return {"filter": plain(GrpcToRest.convert_filter(message.filter))}
    return {"points": [_id_from_wire(each) for each in message.points.ids]}


def _filter(request: Any) -> Any:
    return plain(GrpcToRest.convert_filter(request.filter)) if request.HasField("filter") else None


def _shard_key(request: Any) -> Any:
    if not request.HasField("shard_key_selector"):
        return None
    return [getattr(each, each.WhichOneof("key")) for each in request.shard_key_selector.shard_keys]


def _payload_selection(message: Any, *, default: bool) -> Any:
    kind = message.WhichOneof("selector_options")
    if kind is None:
        return default
    if kind == "enable":
        return message.enable
    return {kind: list(getattr(message, kind).fields)}


def _vector_selection(message: Any) -> Any:
    kind = message.WhichOneof("selector_options")
    if kind is None:
        return False
    return message.enable if kind == "enable" else list(message.include.names)


_WRITES: dict[str, RpcFunction] = {
    "Upsert": _upsert,
    "Delete": _change(changes.delete, _delete_body),
    "UpdateVectors": _update_vectors,
    "DeleteVectors": _change(changes.delete_vectors, _delete_vectors_body),
    "SetPayload": _change(changes.set_payload, _set_payload_body),
    "OverwritePayload": _change(changes.overwrite_payload, _set_payload_body),
    "DeletePayload": _change(changes.delete_payload, _delete_payload_body),
    "ClearPayload": _change(changes.clear_payload, _clear_body),
    "UpdateBatch": _batch,
    "CreateFieldIndex": _create_index,
    "DeleteFieldIndex": _delete_index,
}
_READS: dict[str, RpcFunction] = {
    "Scroll": _scroll,
    "Get": _get,
    "Count": _count,
    "Query": _query,
    "QueryBatch": _query_batch,
}

SERVICE = Service(
    points_service_pb2.DESCRIPTOR.services_by_name["Points"],
    {name: Method(function, "write") for name, function in _WRITES.items()}
    | {name: Method(function) for name, function in _READS.items()},
)
