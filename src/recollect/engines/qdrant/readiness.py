"""Whether a collection can be read completely now, and how many records it has.

Green, yellow (optimizers at work) and grey (optimizers waiting) collections are complete. Points
are hidden from every read where `prevent_unoptimized` defers them, and missing where a shard has
no active replica.
"""

from __future__ import annotations

from typing import Any

import msgspec

from recollect.engines.qdrant.connection import Connection, collection_path
from recollect.engines.qdrant.failures import understood
from recollect.engines.qdrant.library import qdrant_library
from recollect.errors import AccessError, RequestError, UnavailableError


class _Params(msgspec.Struct):
    vectors: dict[str, Any] | None = None
    sparse_vectors: dict[str, dict[str, Any] | None] | None = None


class _Config(msgspec.Struct):
    params: _Params
    optimizer_config: dict[str, Any]
    strict_mode_config: dict[str, Any] | None = None


class _Info(msgspec.Struct):
    """The shape of a collection's description, as far as it is read."""

    status: str
    config: _Config
    points_count: int | None = None
    payload_schema: dict[str, dict[str, Any]] | None = None
    update_queue: dict[str, Any] | None = None


_COMPLETE = {"green", "yellow", "grey"}
_READABLE_REPLICAS = {"Active", "ActiveRead", "ReshardingScaleDown"}


def read_info(connection: Connection, collection: str) -> dict[str, Any]:
    """Return the answer of `GET /collections/{c}`."""
    action = f"describing the collection {collection!r}"
    info: dict[str, Any] = connection.rest("GET", collection_path(collection), action=action)
    with understood(action, connection.address):
        msgspec.convert(info, _Info)
    return info


def require_readable(connection: Connection, collection: str, info: dict[str, Any]) -> None:
    """Make sure that a scan sees every record.

    Raises:
        UnavailableError: Records are hidden or shards are down; it says which, and what to do.
    """
    where = f"{collection!r} on {connection.address.url}"
    if info["status"] not in _COMPLETE:
        raise UnavailableError(
            f"the collection {where} is {info['status']}: {info.get('optimizer_status')}",
            "see the server's log; a collection in this state may not be complete",
        )
    hidden = hidden_points(info)
    if hidden != 0:
        count = "an unknown number of" if hidden is None else str(hidden)
        raise UnavailableError(
            f"the collection {where} hides {count} points that wait for its optimizers "
            "(prevent_unoptimized is on)",
            "wait until the optimizers are done, or set prevent_unoptimized to false for the backup",
        )
    _require_replicas(connection, collection, where)


def hidden_points(info: dict[str, Any]) -> int | None:
    """Return how many points reads do not see; None if the server does not tell (before 1.17.1)."""
    if not info["config"]["optimizer_config"].get("prevent_unoptimized"):
        return 0
    deferred = (info.get("update_queue") or {}).get("deferred_points")
    return None if deferred is None else int(deferred)


def page_rows_max(info: dict[str, Any]) -> int | None:
    """Return the largest page that the collection's strict mode allows; None without a limit."""
    strict = info["config"].get("strict_mode_config") or {}
    limit = strict.get("max_query_limit") if strict.get("enabled") else None
    return None if limit is None else int(limit)


def count_records(connection: Connection, collection: str, shard_key: str | int | None = None) -> int:
    """Count exactly; where strict mode forbids that, return the collection's own estimate."""
    action = f"counting the records of {collection!r}"
    request = qdrant_library().message("CountPoints")(collection_name=collection, exact=True)
    select_shard_key(request, shard_key)

    def attempt() -> int:
        answer, _ = connection.end(connection.begin("Count", request), action=action)
        return int(answer.result.count)

    try:
        return connection.retry(attempt)
    except RequestError as error:
        if "xact" not in error.message:  # "Exact search disabled!"
            raise
        return int(read_info(connection, collection).get("points_count") or 0)


def select_shard_key(request: Any, shard_key: str | int | None) -> None:
    """Let a gRPC request concern the records under one shard key only."""
    if isinstance(shard_key, int):
        request.shard_key_selector.shard_keys.add().number = shard_key
    elif shard_key is not None:
        request.shard_key_selector.shard_keys.add().keyword = shard_key


def _require_replicas(connection: Connection, collection: str, where: str) -> None:
    action = f"asking for the shards of {collection!r}"
    try:
        cluster = connection.rest("GET", collection_path(collection, "/cluster"), action=action)
    except AccessError:  # a key that may read points but not this: then reads themselves must tell
        return
    states: dict[int, set[str]] = {}
    with understood(action, connection.address):
        for shard in [*cluster.get("local_shards", []), *cluster.get("remote_shards", [])]:
            states.setdefault(int(shard["shard_id"]), set()).add(str(shard["state"]))
    for number, found in sorted(states.items()):
        if not found & _READABLE_REPLICAS:
            raise UnavailableError(
                f"shard {number} of the collection {where} has no active replica: {', '.join(sorted(found))}",
                "recover the replica first; a backup now would miss its records",
            )
