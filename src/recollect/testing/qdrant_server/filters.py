"""Qdrant's filter JSON → the engine's filter objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qdrant_edge as edge

from recollect.testing.qdrant_server.failures import bad_request

_MATCHES: dict[str, Callable[[Any], Any]] = {
    "value": edge.MatchValue,
    "any": edge.MatchAny,
    "except": edge.MatchExcept,
    "text": edge.MatchText,
    "phrase": edge.MatchPhrase,
}


def edge_filter(spec: dict[str, Any] | None) -> Any:
    """Convert one filter; None stays None."""
    if not spec:
        return None
    clauses: dict[str, Any] = {}
    for clause in ("must", "should", "must_not"):
        given = spec.get(clause)
        if given is not None:
            listed = given if isinstance(given, list) else [given]
            clauses[clause] = [_condition(each) for each in listed]
    if spec.get("min_should"):
        conditions = [_condition(each) for each in spec["min_should"]["conditions"]]
        clauses["min_should"] = edge.MinShould(conditions, spec["min_should"]["min_count"])
    return edge.Filter(**clauses)


def _condition(spec: dict[str, Any]) -> Any:
    if "has_id" in spec:
        return edge.HasIdCondition(set(spec["has_id"]))
    if "has_vector" in spec:
        return edge.HasVectorCondition(spec["has_vector"])
    if "nested" in spec:
        return edge.NestedCondition(spec["nested"]["key"], edge_filter(spec["nested"]["filter"]))
    for name, kind in (("is_empty", edge.IsEmptyCondition), ("is_null", edge.IsNullCondition)):
        if isinstance(spec.get(name), dict):
            return kind(spec[name]["key"])
    if "key" in spec:
        return _field_condition(spec)
    return edge_filter(spec)


def _field_condition(spec: dict[str, Any]) -> Any:
    arguments: dict[str, Any] = {}
    if spec.get("match") is not None:
        ((kind, value),) = [item for item in spec["match"].items() if item[1] is not None]
        if kind not in _MATCHES:
            raise bad_request(f"Format error in JSON body: unknown match {kind!r}")
        arguments["match"] = _MATCHES[kind](value)
    if spec.get("range") is not None:
        bounds = {key: value for key, value in spec["range"].items() if value is not None}
        is_time = any(isinstance(value, str) for value in bounds.values())
        arguments["range"] = (edge.RangeDateTime if is_time else edge.RangeFloat)(**bounds)
    if spec.get("values_count") is not None:
        arguments["values_count"] = edge.ValuesCount(**spec["values_count"])
    for flag in ("is_empty", "is_null"):
        if isinstance(spec.get(flag), bool):
            arguments[flag] = spec[flag]
    return edge.FieldCondition(spec["key"], **arguments)
