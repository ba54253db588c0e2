"""Edge configuration ⇄ collection schema.

A shard's configuration is the file `edge_config.json`; an engine that finds nothing but
that file in a directory makes an empty shard of it, so a schema is created verbatim.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recollect.engines.edge.binding import edge_library
from recollect.errors import IntegrityError, UnsupportedError
from recollect.values.schema import CollectionSchema, Datatype, Metric, PayloadIndex, VectorSpec

PRODUCT = "qdrant-edge"
CONFIG_FILE = "edge_config.json"

_METRICS: dict[str, Metric] = {
    "Cosine": "cosine",
    "Dot": "dot",
    "Euclid": "euclid",
    "Manhattan": "manhattan",
}
_DISTANCES = {metric: distance for distance, metric in _METRICS.items()}
_DATATYPES: dict[str, Datatype] = {"float32": "float32", "float16": "float16", "uint8": "uint8"}
_HNSW_DEFAULTS = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000, "max_indexing_threads": 0}
_HNSW_KEYS = {*_HNSW_DEFAULTS, "on_disk", "payload_m", "inline_storage", "memory"}
_DENSE_KEYS = {"on_disk", "hnsw_config", "quantization_config", "multivector_config", "memory"}
_SPARSE_INDEX_KEYS = {"full_scan_threshold", "on_disk", "memory"}
_OPTIMIZER_KEYS = {
    "deleted_threshold",
    "vacuum_min_vector_number",
    "default_segment_number",
    "max_segment_size",
    "indexing_threshold",
    "prevent_unoptimized",
}
_INDEX_CLASSES = {
    "keyword": "KeywordIndexParams",
    "integer": "IntegerIndexParams",
    "float": "FloatIndexParams",
    "geo": "GeoIndexParams",
    "bool": "BoolIndexParams",
    "datetime": "DatetimeIndexParams",
    "uuid": "UuidIndexParams",
    "text": "TextIndexParams",
}
_INDEX_ENUMS = {"tokenizer": "TokenizerType", "memory": "Memory"}


def read_config(directory: Path) -> dict[str, Any]:
    """Read a shard's configuration file.

    Raises:
        IntegrityError: It is missing or no JSON object.
    """
    path = directory / CONFIG_FILE
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise IntegrityError(
            f"{path} cannot be read: {error}", "restore the shard from a snapshot"
        ) from error
    if not isinstance(config, dict):
        raise IntegrityError(f"{path} holds no configuration", "restore the shard from a snapshot")
    return config


def read_payload_indexes(directory: Path) -> tuple[PayloadIndex, ...]:
    """Collect the payload indexes that the shard's segments have, with their parameters."""
    found: dict[str, PayloadIndex] = {}
    for path in sorted(directory.glob("segments/*/payload_index/config.json")):
        fields = json.loads(path.read_bytes()).get("indexed_fields", {})
        for field, description in fields.items():
            found[field] = _payload_index(field, description)
    return tuple(found[field] for field in sorted(found))


def schema_from_config(config: dict[str, Any], indexes: tuple[PayloadIndex, ...]) -> CollectionSchema:
    """Normalize a shard's configuration.

    Raises:
        UnsupportedError: A vector's datatype does not give its values back exactly.
    """
    vectors = [_dense_spec(name, params) for name, params in config.get("vectors", {}).items()]
    vectors += [_sparse_spec(name, params) for name, params in config.get("sparse_vectors", {}).items()]
    parameters = {
        "hnsw_config": config.get("hnsw_config"),
        "optimizers_config": config.get("optimizers"),
        "quantization_config": config.get("quantization_config"),
        "on_disk_payload": config.get("on_disk_payload"),
    }
    return CollectionSchema(
        vectors=tuple(sorted(vectors, key=lambda spec: spec.name)),
        payload_indexes=indexes,
        parameters=_present(parameters),
        native_engine=PRODUCT,
        native=config,
    )


def config_from_schema(schema: CollectionSchema) -> dict[str, Any]:
    """Make a shard configuration: verbatim from an Edge schema, else from the normalized form.

    Raises:
        UnsupportedError: Edge has no such vector.
    """
    if schema.native_engine == PRODUCT and schema.native:
        return schema.native
    dense, sparse = {}, {}
    for spec in schema.vectors:
        if spec.kind == "sparse":
            sparse[spec.name] = _sparse_config(spec)
        else:
            dense[spec.name] = _dense_config(spec, schema.parameters)
    parameters = schema.parameters
    config = {
        "vectors": dense,
        "sparse_vectors": sparse,
        "on_disk_payload": parameters.get("on_disk_payload"),
        "hnsw_config": _hnsw(parameters.get("hnsw_config"), {}),
        "quantization_config": parameters.get("quantization_config"),
        "optimizers": _only(parameters.get("optimizers_config") or {}, _OPTIMIZER_KEYS),
    }
    return _present(config)


def index_operation(index: PayloadIndex) -> Any:
    """Return the engine's update operation that creates this payload index.

    Raises:
        UnsupportedError: Edge lacks the type or one of the parameters.
    """
    library = edge_library()
    class_name = _INDEX_CLASSES.get(index.type)
    if class_name is None:
        raise UnsupportedError(f"Qdrant Edge has no payload index of type {index.type!r} ({index.field!r})")
    arguments: dict[str, Any] = {}
    for name, value in index.parameters.items():
        enum = _INDEX_ENUMS.get(name)
        if enum is not None:
            arguments[name] = getattr(getattr(library, enum), str(value).capitalize())
        elif isinstance(value, (bool, int, str)):
            arguments[name] = value
        elif value is not None:
            raise UnsupportedError(
                f"Qdrant Edge takes no {name!r} for the {index.type} index of {index.field!r}",
                "drop that index from the source, or restore into a Qdrant server",
            )
    try:
        parameters = getattr(library, class_name)(**arguments)
    except (TypeError, AttributeError) as error:
        raise UnsupportedError(f"Qdrant Edge cannot create the index of {index.field!r}: {error}") from error
    return library.UpdateOperation.create_field_index(index.field, parameters)


def _dense_spec(name: str, params: dict[str, Any]) -> VectorSpec:
    text = params.get("datatype") or "float32"
    if text not in _DATATYPES:
        raise UnsupportedError(
            f"vector {name!r} has the datatype {text}, which does not give back the values exactly",
            "copy the shard's files instead; records of that datatype cannot be backed up one by one",
        )
    return VectorSpec(
        name=name,
        kind="multi" if params.get("multivector_config") else "dense",
        datatype=_DATATYPES[text],
        dimension=params["size"],
        metric=_METRICS[params["distance"]],
        parameters=_only(params, _DENSE_KEYS),
    )


def _sparse_spec(name: str, params: dict[str, Any]) -> VectorSpec:
    index = _only(params, {*_SPARSE_INDEX_KEYS, "datatype"})
    parameters = _present({"index": index or None, "modifier": params.get("modifier")})
    return VectorSpec(name=name, kind="sparse", parameters=parameters)


def _dense_config(spec: VectorSpec, defaults: dict[str, Any]) -> dict[str, Any]:
    if spec.datatype == "int8":
        raise UnsupportedError(f"Qdrant Edge has no int8 vectors ({spec.name!r})", "choose another target")
    config: dict[str, Any] = {"size": spec.dimension, "distance": _DISTANCES[spec.metric or "dot"]}
    config |= _only(spec.parameters, _DENSE_KEYS)
    if "hnsw_config" in config:
        config["hnsw_config"] = _hnsw(config["hnsw_config"], defaults.get("hnsw_config") or {})
    if spec.kind == "multi":
        config.setdefault("multivector_config", {"comparator": "max_sim"})
    if spec.datatype != "float32":
        config["datatype"] = spec.datatype
    return config


def _sparse_config(spec: VectorSpec) -> dict[str, Any]:
    index = spec.parameters.get("index") or {}
    config = _only(index, {*_SPARSE_INDEX_KEYS, "datatype"})
    if spec.parameters.get("modifier") == "idf":
        config["modifier"] = "idf"
    return config


def _hnsw(config: dict[str, Any] | None, defaults: dict[str, Any]) -> dict[str, Any] | None:
    """Complete a partial HNSW configuration: Edge wants every required number."""
    if config is None:
        return None
    return {**_HNSW_DEFAULTS, **_only(defaults, _HNSW_KEYS), **_only(config, _HNSW_KEYS)}


def _payload_index(field: str, description: Any) -> PayloadIndex:
    if isinstance(description, str):
        return PayloadIndex(field=field, type=description)
    parameters = {key: value for key, value in description.items() if key != "type" and value is not None}
    return PayloadIndex(field=field, type=description["type"], parameters=parameters)


def _only(values: dict[str, Any], keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key in keys and value is not None}


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
