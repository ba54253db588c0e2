"""A collection's configuration: Qdrant's JSON in and out, the engine's file beside it.

Defaults are those of a Qdrant server 1.17; a request overrides them member by member.
"""

from __future__ import annotations

from typing import Any

from recollect.testing.qdrant_server.failures import bad_request

HNSW_DEFAULTS = {
    "m": 16,
    "ef_construct": 100,
    "full_scan_threshold": 10000,
    "max_indexing_threads": 0,
    "on_disk": False,
}
OPTIMIZER_DEFAULTS = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1000,
    "default_segment_number": 0,
    "max_segment_size": None,
    "memmap_threshold": None,
    "indexing_threshold": 10000,
    "flush_interval_sec": 5,
    "max_optimization_threads": None,
}
WAL_DEFAULTS = {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1}
PARAMETER_DEFAULTS = {
    "shard_number": 1,
    "replication_factor": 1,
    "write_consistency_factor": 1,
    "on_disk_payload": True,
}

_PARAMETERS = {
    *PARAMETER_DEFAULTS,
    "sharding_method",
    "payload",
    "id_tracker",
    "read_fan_out_factor",
    "read_fan_out_delay_ms",
}
_DISTANCES = {"Cosine", "Dot", "Euclid", "Manhattan"}
_EDGE_DENSE = {
    "size",
    "distance",
    "on_disk",
    "hnsw_config",
    "quantization_config",
    "multivector_config",
    "datatype",
    "memory",
}
_EDGE_OPTIMIZER = {
    "deleted_threshold",
    "vacuum_min_vector_number",
    "default_segment_number",
    "max_segment_size",
    "indexing_threshold",
}


def new_configuration(request: dict[str, Any]) -> dict[str, Any]:
    """Make the stored configuration of a `PUT /collections/{c}` body, as `GET` gives it back."""
    vectors = request.get("vectors") or {}
    for params in _dense_parameters(vectors).values():
        _check_dense(params)
    parameters = {"vectors": vectors, **PARAMETER_DEFAULTS, **_present(request, _PARAMETERS)}
    if request.get("sparse_vectors"):
        parameters["sparse_vectors"] = request["sparse_vectors"]
    config = {
        "params": parameters,
        "hnsw_config": {**HNSW_DEFAULTS, **_nonnull(request.get("hnsw_config"))},
        "optimizer_config": {**OPTIMIZER_DEFAULTS, **_nonnull(request.get("optimizers_config"))},
        "wal_config": {**WAL_DEFAULTS, **_nonnull(request.get("wal_config"))},
        "quantization_config": request.get("quantization_config"),
        "strict_mode_config": {"enabled": False, **_nonnull(request.get("strict_mode_config"))},
    }
    if request.get("metadata"):
        config["metadata"] = request["metadata"]
    return config


def updated_configuration(config: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """Merge a `PATCH /collections/{c}` body: given members change, all others stay."""
    merged = {**config}
    for ours, theirs in (
        ("hnsw_config", "hnsw_config"),
        ("optimizer_config", "optimizers_config"),
        ("strict_mode_config", "strict_mode_config"),
        ("params", "params"),
        ("metadata", "metadata"),
    ):
        if request.get(theirs):
            merged[ours] = {**(config.get(ours) or {}), **_nonnull(request[theirs])}
    if "quantization_config" in request:
        given = request["quantization_config"]
        merged["quantization_config"] = None if given == "Disabled" else given
    if request.get("vectors"):
        merged["params"] = {
            **merged["params"],
            "vectors": _merge_vectors(merged["params"], request["vectors"]),
        }
    return merged


def edge_configuration(config: dict[str, Any]) -> dict[str, Any]:
    """Return the engine's own configuration file for one shard of the collection."""
    parameters = config["params"]
    dense = {
        name: _present(params, _EDGE_DENSE)
        for name, params in _dense_parameters(parameters["vectors"]).items()
    }
    for params in dense.values():
        if "hnsw_config" in params:
            params["hnsw_config"] = {**config["hnsw_config"], **_nonnull(params["hnsw_config"])}
    sparse = {}
    for name, params in (parameters.get("sparse_vectors") or {}).items():
        sparse[name] = _nonnull(params.get("index"))
        if (params.get("modifier") or "none") != "none":
            sparse[name]["modifier"] = params["modifier"]
    return {
        "vectors": dense,
        "sparse_vectors": sparse,
        "on_disk_payload": parameters["on_disk_payload"],
        "hnsw_config": config["hnsw_config"],
        "optimizers": _present(config["optimizer_config"], _EDGE_OPTIMIZER),
        **_present(config, {"quantization_config"}),
    }


def has_only_unnamed_vector(config: dict[str, Any]) -> bool:
    """Tell whether the collection was made with one vector without a name."""
    return "size" in config["params"]["vectors"]


def _dense_parameters(vectors: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {"": vectors} if "size" in vectors else vectors


def _check_dense(params: dict[str, Any]) -> None:
    if params.get("distance") not in _DISTANCES:
        raise bad_request(f"Format error in JSON body: unknown variant `{params.get('distance')}`")
    size = params.get("size")
    if not isinstance(size, int) or not 1 <= size <= 65536:
        raise bad_request("Validation error in JSON body: [vectors.size: value must be from 1 to 65536]")


def _merge_vectors(parameters: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    vectors = parameters["vectors"]
    if "size" in vectors:
        return {**vectors, **_nonnull(changes.get("", changes))}
    return {name: {**params, **_nonnull(changes.get(name))} for name, params in vectors.items()}


def _nonnull(values: dict[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (values or {}).items() if value is not None}


def _present(values: dict[str, Any], keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key in keys and value is not None}
