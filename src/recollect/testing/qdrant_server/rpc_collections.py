"""gRPC methods about collections, aliases and the server: translations onto the REST functions."""

from __future__ import annotations

from typing import Any

from qdrant_client import grpc as wire
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.grpc import collections_service_pb2, qdrant_pb2
from qdrant_client.http import models

from recollect.testing.qdrant_server.failures import no_collection
from recollect.testing.qdrant_server.rest_collections import cluster_info
from recollect.testing.qdrant_server.rest_service import TITLE, VERSION
from recollect.testing.qdrant_server.rpc import Method, Service
from recollect.testing.qdrant_server.rpc_values import payload_from_wire, plain
from recollect.testing.qdrant_server.storage import Storage


def _health(_storage: Storage, _request: Any) -> Any:
    return wire.HealthCheckReply(title=TITLE, version=VERSION)


def _get(storage: Storage, request: Any) -> Any:
    info = models.CollectionInfo.model_validate(storage.get(request.collection_name).info())
    return wire.GetCollectionInfoResponse(result=RestToGrpc.convert_collection_info(info))


def _list(storage: Storage, _request: Any) -> Any:
    names = storage.names()
    return wire.ListCollectionsResponse(collections=[wire.CollectionDescription(name=each) for each in names])


def _exists(storage: Storage, request: Any) -> Any:
    found = storage.exists(request.collection_name)
    return wire.CollectionExistsResponse(result=wire.CollectionExists(exists=found))


_CREATE_MEMBERS = {
    "hnsw_config": GrpcToRest.convert_hnsw_config_diff,
    "wal_config": GrpcToRest.convert_wal_config_diff,
    "optimizers_config": GrpcToRest.convert_optimizers_config_diff,
    "quantization_config": GrpcToRest.convert_quantization_config,
    "strict_mode_config": GrpcToRest.convert_strict_mode_config,
}


def _create(storage: Storage, request: Any) -> Any:
    body: dict[str, Any] = {}
    for member, convert in _CREATE_MEMBERS.items():
        if request.HasField(member):
            body[member] = plain(convert(getattr(request, member)))
    for member in ("shard_number", "on_disk_payload", "replication_factor", "write_consistency_factor"):
        if request.HasField(member):
            body[member] = getattr(request, member)
    if request.HasField("vectors_config"):
        body["vectors"] = _vectors(GrpcToRest.convert_vectors_config(request.vectors_config))
    if request.HasField("sparse_vectors_config"):
        sparse = GrpcToRest.convert_sparse_vector_config(request.sparse_vectors_config)
        body["sparse_vectors"] = _vectors(sparse)
    if request.metadata:
        body["metadata"] = payload_from_wire(request.metadata)
    return wire.CollectionOperationResponse(result=storage.create(request.collection_name, body))


def _vectors(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: plain(params) for name, params in found.items()}
    return plain(found)


def _update(storage: Storage, request: Any) -> Any:
    body = plain(GrpcToRest.convert_update_collection(request))
    storage.get(request.collection_name).reconfigure(body)
    return wire.CollectionOperationResponse(result=True)


def _delete(storage: Storage, request: Any) -> Any:
    return wire.CollectionOperationResponse(result=storage.delete(request.collection_name))


def _change_aliases(storage: Storage, request: Any) -> Any:
    actions = [plain(GrpcToRest.convert_alias_operations(each)) for each in request.actions]
    return wire.CollectionOperationResponse(result=storage.change_aliases(actions))


def _aliases(storage: Storage, _request: Any) -> Any:
    return wire.ListAliasesResponse(aliases=[wire.AliasDescription(**each) for each in storage.aliases()])


def _collection_aliases(storage: Storage, request: Any) -> Any:
    if not storage.exists(request.collection_name):
        raise no_collection(request.collection_name)
    found = storage.aliases(request.collection_name)
    return wire.ListAliasesResponse(aliases=[wire.AliasDescription(**each) for each in found])


def _cluster(storage: Storage, request: Any) -> Any:
    info = models.CollectionClusterInfo.model_validate(cluster_info(storage, request.collection_name))
    return RestToGrpc.convert_collection_cluster_info(info)


COLLECTIONS = Service(
    collections_service_pb2.DESCRIPTOR.services_by_name["Collections"],
    {
        "Get": Method(_get),
        "List": Method(_list),
        "CollectionExists": Method(_exists),
        "Create": Method(_create, "write"),
        "Update": Method(_update, "write"),
        "Delete": Method(_delete, "write"),
        "UpdateAliases": Method(_change_aliases, "write"),
        "ListAliases": Method(_aliases),
        "ListCollectionAliases": Method(_collection_aliases),
        "CollectionClusterInfo": Method(_cluster),
    },
)
HEALTH = Service(qdrant_pb2.DESCRIPTOR.services_by_name["Qdrant"], {"HealthCheck": Method(_health, "none")})
