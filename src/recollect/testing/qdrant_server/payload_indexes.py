"""Payload index parameters: Qdrant's JSON → the engine's classes.

What the engine's Python face cannot take (stop words, stemmers) is kept and given back, not applied.
"""

from __future__ import annotations

from typing import Any

import qdrant_edge as edge

from recollect.testing.qdrant_server.failures import bad_request

_CLASSES = {
    "keyword": edge.KeywordIndexParams,
    "integer": edge.IntegerIndexParams,
    "float": edge.FloatIndexParams,
    "geo": edge.GeoIndexParams,
    "bool": edge.BoolIndexParams,
    "datetime": edge.DatetimeIndexParams,
    "uuid": edge.UuidIndexParams,
    "text": edge.TextIndexParams,
}
_SCALARS = (bool, int, str)


def brought(held: list[Any]) -> dict[str, dict[str, Any]]:
    """Describe the indexes that shards have, whoever made them: files may bring some along."""
    return {
        field: {"data_type": str(index.data_type).rpartition(".")[2].lower()}
        for info in held
        for field, index in info.payload_schema.items()
    }


def describe(schema: Any) -> tuple[dict[str, Any], Any]:
    """Return what the API reports of an index, and the engine's parameters."""
    given = {"type": schema} if isinstance(schema, str) else dict(schema)
    kind = given.get("type")
    if kind not in _CLASSES:
        raise bad_request(f"Format error in JSON body: unknown payload schema type {kind!r}")
    arguments = {
        name: value for name, value in given.items() if name != "type" and isinstance(value, _SCALARS)
    }
    if "tokenizer" in arguments:
        arguments["tokenizer"] = getattr(edge.TokenizerType, str(arguments["tokenizer"]).capitalize())
    if "memory" in arguments:
        arguments["memory"] = getattr(edge.Memory, str(arguments["memory"]).capitalize())
    arguments.pop("stemmer", None)
    arguments.pop("stopwords", None)
    try:
        parameters = _CLASSES[kind](**arguments)
    except TypeError as error:
        raise bad_request(f"Format error in JSON body: {error}") from error
    description: dict[str, Any] = {"data_type": kind}
    if not isinstance(schema, str):
        description["params"] = given
    return description, parameters
