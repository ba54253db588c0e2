"""Qdrant's collection configuration (REST JSON) → schema.

Normalized parameters keep Qdrant's words and values, so that a schema also creates a collection
(`creation`). `native` is the configuration and the payload indexes verbatim, without what changes
by itself (counts, status): two backups of an unchanged collection have equal schemas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recollect.errors import UnsupportedError
from recollect.values.schema import CollectionSchema, Datatype, Metric, PayloadIndex, VectorSpec

PRODUCT = "qdrant"

METRICS: dict[str, Metric] = {"Cosine": "cosine", "Dot": "dot", "Euclid": "euclid", "Manhattan": "manhattan"}
DATATYPES: dict[str, Datatype] = {"float32": "float32", "float16": "float16", "uint8": "uint8"}

_DENSE_NORMALIZED = {"size", "distance", "datatype"}


def schema_from_info(
    info: dict[str, Any], where: str, shard_keys: Mapping[str | int, int] | None = None
) -> CollectionSchema:
    """Normalize the answer of `GET /collections/{c}`; `where` names the collection in messages.

    `shard_keys`, with the number of shards of each, become part of the parameters.

    Raises:
        UnsupportedError: A vector's datatype does not give its values back.
    """
    config = info["config"]
    params = config["params"]
    vectors = params.get("vectors") or {}
    dense = {"": vectors} if "size" in vectors else vectors
    specs = [_dense_spec(name, given, where) for name, given in dense.items()]
    specs += [_sparse_spec(name, given or {}) for name, given in (params.get("sparse_vectors") or {}).items()]
    indexes = info.get("payload_schema") or {}
    return CollectionSchema(
        vectors=tuple(sorted(specs, key=lambda spec: spec.name)),
        payload_indexes=tuple(_payload_index(field, indexes[field]) for field in sorted(indexes)),
        parameters=_collection_parameters(config) | _key_parameters(shard_keys),
        native_engine=PRODUCT,
        native={"config": config, "payload_schema": {field: _stable(indexes[field]) for field in indexes}},
    )


def _dense_spec(name: str, given: dict[str, Any], where: str) -> VectorSpec:
    datatype = given.get("datatype") or "float32"
    if datatype not in DATATYPES:
        raise UnsupportedError(
            f"vector {name!r} of {where} has the datatype {datatype}, which does not keep values exactly",
            "take a native snapshot of the collection; its records cannot be backed up one by one",
        )
    return VectorSpec(
        name=name,
        kind="multi" if given.get("multivector_config") else "dense",
        datatype=DATATYPES[datatype],
        dimension=given["size"],
        metric=METRICS[given["distance"]],
        parameters={key: value for key, value in _present(given).items() if key not in _DENSE_NORMALIZED},
    )


def _sparse_spec(name: str, given: dict[str, Any]) -> VectorSpec:
    # The datatype of a sparse index is that of the index alone: values come back as they were.
    return VectorSpec(name=name, kind="sparse", parameters=_present(given))


def _collection_parameters(config: dict[str, Any]) -> dict[str, Any]:
    parameters = {
        key: value for key, value in config["params"].items() if key not in {"vectors", "sparse_vectors"}
    }
    for key, value in config.items():
        if key != "params":
            # The server answers `optimizer_config` and asks for `optimizers_config`.
            parameters["optimizers_config" if key == "optimizer_config" else key] = value
    return _present(
        {key: _present(value) if isinstance(value, dict) else value for key, value in parameters.items()}
    )


def _key_parameters(shard_keys: Mapping[str | int, int] | None) -> dict[str, Any]:
    if not shard_keys:
        return {}
    return {"shard_keys": [{"shard_key": key, "shards_number": shard_keys[key]} for key in shard_keys]}


def _payload_index(field: str, given: dict[str, Any]) -> PayloadIndex:
    parameters = _present(given.get("params") or {})
    parameters.pop("type", None)
    return PayloadIndex(field=field, type=given["data_type"], parameters=parameters)


def _stable(index: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in index.items() if key != "points"}


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
