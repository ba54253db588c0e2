"""gRPC methods about snapshots: translations onto the REST functions. There is no download and no recover."""

from __future__ import annotations

from typing import Any

from qdrant_client import grpc as wire
from qdrant_client.conversions.conversion import RestToGrpc
from qdrant_client.grpc import snapshots_service_pb2
from qdrant_client.http import models

from recollect.testing.qdrant_server import snapshots
from recollect.testing.qdrant_server.rpc import Method, Service
from recollect.testing.qdrant_server.storage import Storage


def _described(facts: dict[str, Any]) -> Any:
    described = {"creation_time": "1970-01-01T00:00:00", **{key: facts[key] for key in facts if facts[key]}}
    return RestToGrpc.convert_snapshot_description(models.SnapshotDescription.model_validate(described))


def _create(storage: Storage, request: Any) -> Any:
    made = snapshots.create(storage, request.collection_name)
    return wire.CreateSnapshotResponse(snapshot_description=_described(made))


def _list(storage: Storage, request: Any) -> Any:
    found = snapshots.listed(storage, request.collection_name)
    return wire.ListSnapshotsResponse(snapshot_descriptions=[_described(each) for each in found])


def _delete(storage: Storage, request: Any) -> Any:
    snapshots.delete(storage, request.collection_name, request.snapshot_name)
    return wire.DeleteSnapshotResponse()


def _create_full(storage: Storage, _request: Any) -> Any:
    return wire.CreateSnapshotResponse(snapshot_description=_described(snapshots.create_full(storage)))


def _list_full(storage: Storage, _request: Any) -> Any:
    found = snapshots.listed(storage, None)
    return wire.ListSnapshotsResponse(snapshot_descriptions=[_described(each) for each in found])


def _delete_full(storage: Storage, request: Any) -> Any:
    snapshots.delete(storage, None, request.snapshot_name)
    return wire.DeleteSnapshotResponse()


SERVICE = Service(
    snapshots_service_pb2.DESCRIPTOR.services_by_name["Snapshots"],
    {
        "Create": Method(_create, "write"),
        "List": Method(_list),
        "Delete": Method(_delete, "write"),
        "CreateFull": Method(_create_full, "write"),
        "ListFull": Method(_list_full),
        "DeleteFull": Method(_delete_full, "write"),
    },
)
