"""Reads of a collection: count, retrieve, scroll, query. Results of several shards are merged."""

from __future__ import annotations

import heapq
from typing import Any

import qdrant_edge as edge

from recollect.testing.qdrant_server.collection import Collection
from recollect.testing.qdrant_server.failures import ServerError, bad_request, from_engine
from recollect.testing.qdrant_server.filters import edge_filter
from recollect.testing.qdrant_server.points import edge_vectors, point_id, record_id, sort_key

DEFAULT_SCROLL_LIMIT = 10


def count(collection: Collection, request: dict[str, Any]) -> int:
    """Count the points that a filter lets through."""
    strict = collection.config["strict_mode_config"]
    is_forbidden = strict.get("enabled") and strict.get("search_allow_exact") is False
    if request.get("exact", True) and is_forbidden:
        raise bad_request("Bad request: Exact search disabled! Help: Set exact=false.")
    wanted = edge.CountRequest(filter=edge_filter(request.get("filter")), exact=True)
    with collection.lock:
        shards = _shards(collection, None, request.get("shard_key"))
        total = sum(int(shard.count(wanted)) for shard in shards)
        return total - len(collection.hidden_ids())


def retrieve(collection: Collection, request: dict[str, Any]) -> list[Any]:
    """Return the points with these ids that exist."""
    ids = [point_id(each) for each in request["ids"]]
    with collection.lock:
        hidden = collection.hidden_ids()
        found = {}
        for number in collection.shards_of(request.get("shard_key")):
            held = collection.shards[number].retrieve(ids, *_selection(request, with_payload=True))
            found.update({record_id(record): record for record in held})
        return [found[each] for each in ids if each in found and each not in hidden]


def scroll(
    collection: Collection, request: dict[str, Any], shard_number: int | None = None
) -> tuple[list[Any], int | str | None]:
    """Return one page by id and the id that the next page starts with, inclusive."""
    if request.get("order_by"):
        raise bad_request("Bad request: this test server does not order by payload")
    limit = DEFAULT_SCROLL_LIMIT if request.get("limit") is None else request["limit"]
    if limit < 1:
        raise bad_request("Validation error in JSON body: [limit: value 0 invalid, must be 1 or larger]")
    collection.check_limit("max_query_limit", limit, "limit")
    offset = None if request.get("offset") is None else point_id(request["offset"])
    payload, vector = _selection(request, with_payload=True)
    with collection.lock:
        hidden = collection.hidden_ids()
        wanted = edge.ScrollRequest(
            offset=offset,
            limit=limit + 1 + len(hidden),
            filter=edge_filter(request.get("filter")),
            with_payload=payload,
            with_vector=vector,
        )
        pages = [
            shard.scroll(wanted)[0] for shard in _shards(collection, shard_number, request.get("shard_key"))
        ]
    merged = heapq.merge(*pages, key=lambda record: sort_key(record_id(record)))
    records = [record for record in merged if record_id(record) not in hidden]
    following = record_id(records[limit]) if len(records) > limit else None
    page = records[:limit]
    return (page[::-1] if collection.faults.backwards else page), following


def query(collection: Collection, request: dict[str, Any]) -> list[Any]:
    """Return the nearest points to a vector, or to a point by its id."""
    limit = request.get("limit") or 10
    collection.check_limit("max_query_limit", limit, "limit")
    vector, using = _query_vector(collection, request), request.get("using") or ""
    payload, vectors = _selection(request, with_payload=False)
    wanted = edge.QueryRequest(
        limit=limit,
        offset=request.get("offset"),
        query=None if vector is None else edge.Query.Nearest(vector, using=using),
        with_payload=payload,
        with_vector=vectors,
        filter=edge_filter(request.get("filter")),
        score_threshold=request.get("score_threshold"),
    )
    with collection.lock:
        try:
            pages = [shard.query(wanted) for shard in collection.shards]
        except Exception as error:
            raise from_engine(error) from error
    config = collection.config["params"]["vectors"]
    params = config if "size" in config else config.get(using, {})
    ascending = params.get("distance") in {"Euclid", "Manhattan"}
    scored = [point for page in pages for point in page]
    scored.sort(key=lambda point: point.score if ascending else -point.score)
    return scored[:limit]


def _query_vector(collection: Collection, request: dict[str, Any]) -> Any:
    wanted = request.get("query")
    if isinstance(wanted, dict) and "nearest" in wanted:
        wanted = wanted["nearest"]
    if isinstance(wanted, dict) and "indices" in wanted:
        return edge_vectors({"": wanted})[""]
    if wanted is None or isinstance(wanted, list):
        return wanted
    if isinstance(wanted, dict):
        raise bad_request("Bad request: this test server answers nearest-neighbour queries only")
    using = request.get("using") or ""
    found = retrieve(collection, {"ids": [wanted], "with_vector": True})
    if not found:
        raise ServerError(404, f"Not found: No point with id {wanted} found")
    vectors = found[0].vector
    return vectors[using] if isinstance(vectors, dict) else vectors


def _selection(request: dict[str, Any], *, with_payload: bool) -> tuple[Any, Any]:
    payload = request.get("with_payload")
    if isinstance(payload, dict):
        if payload.get("include") is None:
            raise bad_request("Bad request: this test server cannot exclude payload fields")
        payload = payload["include"]
    vector = request.get("with_vector")
    return with_payload if payload is None else payload, False if vector is None else vector


def _shards(collection: Collection, number: int | None, shard_key: Any) -> list[Any]:
    if number is None:
        return [collection.shards[each] for each in collection.shards_of(shard_key)]
    if not 0 <= number < len(collection.shards):
        raise ServerError(404, f"Not found: Shard {number} not found")
    return [collection.shards[number]]
