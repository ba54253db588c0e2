"""JSON bodies to commands, with nvecd's checks and messages."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np

from recollect.compat.nvecd.protocol import command as cmd
from recollect.compat.nvecd.protocol.command import Scalar
from recollect.compat.nvecd.protocol.filters import parse_filter
from recollect.compat.nvecd.protocol.parse import check_score
from recollect.errors import RequestError

_KINDS = {"ADD": 0, "SET": 1, "DEL": 2}
_MODES: dict[str, cmd.Mode] = {"events": "events", "vectors": "vectors", "fusion": "fusion"}
_INT_MAX = 2**31 - 1


def parse_body(data: bytes) -> dict[str, Any]:
    """Decode a JSON object."""
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError("Invalid JSON body") from error
    if not isinstance(body, dict):
        raise RequestError("Invalid JSON body")
    return body


def event(body: dict[str, Any]) -> cmd.Event:
    """Read POST /event."""
    _require(body, "ctx", "id", "type")
    context, item, kind = body["ctx"], body["id"], body["type"]
    if not all(isinstance(value, str) for value in (context, item, kind)):
        raise RequestError("Fields ctx, id, type must be strings")
    _check_name("Context", context)
    _check_name("ID", item)
    name = kind.upper()
    if name not in _KINDS:
        raise RequestError(f"Invalid type: {kind} (must be ADD, SET, or DEL)")
    score = 0
    if name != "DEL":
        if "score" not in body:
            raise RequestError(f"{name} type requires 'score' field")
        score = _integer(body, "score")
        if not -_INT_MAX - 1 <= score <= _INT_MAX:
            raise RequestError(f"Field 'score' is out of range, got {score}")
    timestamp = None
    if "timestamp" in body:
        timestamp = body["timestamp"]
        if not isinstance(timestamp, int) or isinstance(timestamp, bool) or timestamp < 0:
            raise RequestError("Field 'timestamp' must be an unsigned integer")
    return cmd.Event(context, item, _KINDS[name], check_score(score), timestamp or None)


def vecset(body: dict[str, Any]) -> list[cmd.Write]:
    """Read POST /vecset: the vector, and its metadata if there is some."""
    _require(body, "id", "vector")
    item = _text(body, "id")
    _check_name("ID", item)
    writes: list[cmd.Write] = [cmd.VecSet(item, _vector(body))]
    if "metadata" in body:
        writes.append(cmd.MetaSet(item, _metadata(body)))
    return writes


def vecdel(body: dict[str, Any]) -> cmd.VecDel:
    """Read DELETE /vecset."""
    if not isinstance(body.get("id"), str):
        raise RequestError("Missing or invalid required field: id")
    if not body["id"]:
        raise RequestError("Field 'id' must not be empty")
    return cmd.VecDel(body["id"])


def metaset(body: dict[str, Any]) -> cmd.MetaSet:
    """Read POST /metaset."""
    _require(body, "id", "metadata")
    return cmd.MetaSet(_text(body, "id"), _metadata(body))


def sim(body: dict[str, Any], default_top_k: int) -> cmd.Sim:
    """Read POST /sim."""
    _require(body, "id")
    item = _text(body, "id")
    mode = _text(body, "mode") if "mode" in body else "fusion"
    if mode not in _MODES:
        raise RequestError("Invalid mode. Must be one of: events, vectors, fusion")
    adaptive = body.get("adaptive")
    if adaptive is not None and not isinstance(adaptive, bool):
        raise RequestError("Field 'adaptive' must be a boolean")
    return cmd.Sim(
        item=item,
        top_k=_integer(body, "top_k") if "top_k" in body else default_top_k,
        mode=_MODES[mode],
        adaptive=adaptive,
        conditions=parse_filter(_text(body, "filter")) if "filter" in body else (),
        min_score=_min_score(body),
    )


def simv(body: dict[str, Any], default_top_k: int) -> cmd.Simv:
    """Read POST /simv."""
    _require(body, "vector")
    return cmd.Simv(
        vector=_vector(body),
        top_k=_integer(body, "top_k") if "top_k" in body else default_top_k,
        conditions=parse_filter(_text(body, "filter")) if "filter" in body else (),
        min_score=_min_score(body),
    )


def file_path(body: dict[str, Any]) -> str:
    """Read the `filepath` of a dump that must be there."""
    _require(body, "filepath")
    return _text(body, "filepath")


def _require(body: dict[str, Any], *names: str) -> None:
    if any(name not in body for name in names):
        plural = "s" if len(names) > 1 else ""
        raise RequestError(f"Missing required field{plural}: {', '.join(names)}")


def _text(body: dict[str, Any], name: str) -> str:
    value = body[name]
    if not isinstance(value, str):
        raise RequestError(f"Field '{name}' must be a string")
    return value


def _integer(body: dict[str, Any], name: str) -> int:
    value = body[name]
    if not isinstance(value, int) or isinstance(value, bool):
        raise RequestError(f"Field '{name}' must be an integer")
    return value


def _min_score(body: dict[str, Any]) -> float:
    value = body.get("min_score", 0.0)
    if not _is_finite(value):
        raise RequestError("Field 'min_score' must be a finite number")
    return float(value)


def _vector(body: dict[str, Any]) -> tuple[float, ...]:
    values = body["vector"]
    if not isinstance(values, list):
        raise RequestError("Field 'vector' must be an array of numbers")
    if not all(map(_is_finite, values)):
        raise RequestError("Field 'vector' must contain only finite numbers")
    if not values:
        raise RequestError("Vector cannot be empty")
    with np.errstate(over="ignore"):
        if not np.isfinite(np.array(values, dtype=np.float32)).all():
            raise RequestError("Field 'vector' component exceeds the finite float range")
    return tuple(map(float, values))


def _metadata(body: dict[str, Any]) -> dict[str, Scalar]:
    metadata = body["metadata"]
    if not isinstance(metadata, dict):
        raise RequestError("Field 'metadata' must be an object")
    for key, value in metadata.items():
        if not key:
            raise RequestError("Metadata keys must not be empty")
        if not isinstance(value, (str, int, float)):
            raise RequestError("Metadata values must be string, integer, float, or bool")
    return metadata


def _check_name(what: str, name: str) -> None:
    """Refuse names that would break the lines of the other protocol."""
    if not name:
        raise RequestError(f"{what} cannot be empty")
    if any(ord(character) <= 0x20 or ord(character) == 0x7F for character in name):
        raise RequestError(f"{what} must not contain whitespace or control characters")


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False
