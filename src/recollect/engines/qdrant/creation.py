"""Schema → what creates the collection: first without indexing, then with its own settings.

Members that a schema of another product may hold and Qdrant does not know are left out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from recollect.engines.qdrant.schema import DATATYPES, METRICS
from recollect.errors import UnsupportedError
from recollect.values.schema import CollectionSchema, PayloadIndex, VectorSpec

DIMENSION_MAX = 65536

_DISTANCES = {metric: distance for distance, metric in METRICS.items()}
_DENSE = {"hnsw_config", "quantization_config", "on_disk", "multivector_config", "memory"}
_SPARSE = {"index", "modifier"}
_CREATED = {
    "hnsw_config",
    "optimizers_config",
    "wal_config",
    "quantization_config",
    "shard_number",
    "replication_factor",
    "write_consistency_factor",
    "on_disk_payload",
    "payload",
    "id_tracker",
    "metadata",
    "sharding_method",
}
_FAN_OUT = {"read_fan_out_factor", "read_fan_out_delay_ms"}
_INDEX_TYPES = {"keyword", "integer", "float", "geo", "text", "bool", "datetime", "uuid"}


class Creation(msgspec.Struct, frozen=True, kw_only=True):
    """How a collection comes about.

    Attributes:
        body: Of `PUT /collections/{c}`.
        indexes: Bodies of `PUT /collections/{c}/index`, after loading.
        shard_keys: Bodies of `PUT /collections/{c}/shards`, in order of creation.
        params: `params` of a `PATCH` after loading; what cannot be given at creation.
        guards: `PATCH` body when the collection goes into use: settings that would hide points from the
            verification (`prevent_unoptimized`) or limit its pages (strict mode).
    """

    body: dict[str, Any]
    indexes: tuple[dict[str, Any], ...] = ()
    shard_keys: tuple[dict[str, Any], ...] = ()
    params: dict[str, Any] = {}
    guards: dict[str, Any] = {}


def plan_creation(schema: CollectionSchema) -> Creation:
    """Plan the calls that create a collection of this schema.

    Raises:
        UnsupportedError: Qdrant has no such vector or index; it says which.
    """
    dense = {spec.name: _dense(spec) for spec in schema.vectors if spec.kind != "sparse"}
    sparse = {spec.name: _only(spec.parameters, _SPARSE) for spec in schema.vectors if spec.kind == "sparse"}
    parameters = dict(schema.parameters)
    optimizers = dict(parameters.get("optimizers_config") or {})
    guards: dict[str, Any] = {}
    if optimizers.pop("prevent_unoptimized", None):
        guards["optimizers_config"] = {"prevent_unoptimized": True}
    strict = parameters.get("strict_mode_config") or {}
    if strict.get("enabled"):
        guards["strict_mode_config"] = strict
    parameters["optimizers_config"] = optimizers or None
    body = _only(parameters, _CREATED)
    # One vector without a name is given bare; that form reads back as it was.
    body["vectors"] = dense[""] if list(dense) == [""] else dense
    if sparse:
        body["sparse_vectors"] = sparse
    return Creation(
        body=body,
        indexes=tuple(_index(each) for each in schema.payload_indexes),
        shard_keys=tuple(parameters.get("shard_keys") or ()),
        params=_only(parameters, _FAN_OUT),
        guards=guards,
    )


def _dense(spec: VectorSpec) -> dict[str, Any]:
    if spec.datatype not in DATATYPES:
        raise UnsupportedError(
            f"Qdrant has no {spec.datatype} vectors ({spec.name!r})", "restore into an engine that has them"
        )
    if not 1 <= spec.dimension <= DIMENSION_MAX:
        raise UnsupportedError(
            f"Qdrant takes vectors of 1 to {DIMENSION_MAX} dimensions, not {spec.dimension} ({spec.name!r})"
        )
    # Without a metric the dot product: it is the one that leaves the values as they are.
    config: dict[str, Any] = {"size": spec.dimension, "distance": _DISTANCES[spec.metric or "dot"]}
    config |= _only(spec.parameters, _DENSE)
    if spec.kind == "multi":
        config.setdefault("multivector_config", {"comparator": "max_sim"})
    if spec.datatype != "float32":
        config["datatype"] = spec.datatype
    return config


def _index(index: PayloadIndex) -> dict[str, Any]:
    if index.type not in _INDEX_TYPES:
        raise UnsupportedError(f"Qdrant has no payload index of type {index.type!r} ({index.field!r})")
    schema = {"type": index.type, **index.parameters} if index.parameters else index.type
    return {"field_name": index.field, "field_schema": schema}


def _only(values: dict[str, Any], keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key in keys and value is not None}
