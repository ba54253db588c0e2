"""One collection: its configuration, its shards, and what can be done to its points.

Directory: `collection.json` (configuration and payload indexes as the API gives them) and
`shards/<id>` (Edge shards). Writes are in the engine when a call returns; they are on disk
after `close`. One lock: calls on one collection run one after another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import qdrant_edge as edge

from recollect.testing.qdrant_server import configuration, payload_indexes
from recollect.testing.qdrant_server.failures import bad_request, from_engine
from recollect.testing.qdrant_server.faults import Faults
from recollect.testing.qdrant_server.filters import edge_filter
from recollect.testing.qdrant_server.points import point_id, shard_of

FILE = "collection.json"


class Collection:
    """An open collection; close it."""

    def __init__(self, directory: Path, faults: Faults) -> None:
        """Open the collection of a directory that `create` has made."""
        stored = msgspec.json.decode((directory / FILE).read_bytes())
        self.config: dict[str, Any] = stored["config"]
        self.indexes: dict[str, dict[str, Any]] = stored["indexes"]
        self.faults = faults
        self.lock = threading.RLock()
        self.directory = directory
        self._operations = 0
        count = self.config["params"]["shard_number"]
        self.shards = [edge.EdgeShard.load(str(directory / "shards" / str(each))) for each in range(count)]

    @staticmethod
    def create(directory: Path, config: dict[str, Any]) -> None:
        """Write an empty collection."""
        for each in range(config["params"]["shard_number"]):
            shard = directory / "shards" / str(each)
            shard.mkdir(parents=True)
            (shard / "edge_config.json").write_bytes(
                msgspec.json.encode(configuration.edge_configuration(config))
            )
        (directory / FILE).write_bytes(msgspec.json.encode({"config": config, "indexes": {}}))

    def close(self) -> None:
        """Flush and release the shards."""
        with self.lock:
            for shard in self.shards:
                shard.close()
            self.shards = []

    def reconfigure(self, request: dict[str, Any]) -> None:
        """Apply a `PATCH` body. The engine keeps what it was created with: it runs no optimizer here."""
        with self.lock:
            self.config = configuration.updated_configuration(self.config, request)
            self._save()

    def info(self) -> dict[str, Any]:
        """Describe the collection as `GET /collections/{c}` does."""
        with self.lock:
            held = [shard.info() for shard in self.shards]
            hidden = len(self.hidden_ids())
            schema = {
                field: {**index, "points": self._indexed_points(field, held)}
                for field, index in self.indexes.items()
            }
            found: dict[str, Any] = {
                "status": self.faults.status,
                "optimizer_status": "ok",
                "indexed_vectors_count": sum(each.indexed_vectors_count for each in held),
                "points_count": sum(each.points_count for each in held) - hidden,
                "segments_count": sum(each.segments_count for each in held),
                "config": self.config,
                "payload_schema": schema,
                "update_queue": {"length": 0},
            }
            if self.faults.reports_deferred:
                found["update_queue"]["deferred_points"] = hidden
            return found

    def hidden_ids(self) -> set[int | str]:
        """Return the ids of deferred points: unseen by every read while `prevent_unoptimized` is on."""
        if not self.faults.hidden_points or not self.config["optimizer_config"].get("prevent_unoptimized"):
            return set()
        request = edge.ScrollRequest(limit=1_000_000, with_payload=False, with_vector=False)
        ids = [record.id for shard in self.shards for record in shard.scroll(request)[0]]
        ids.sort(key=lambda each: (not isinstance(each, int), each))
        return {each if isinstance(each, int) else str(each) for each in ids[-self.faults.hidden_points :]}

    def check_limit(self, setting: str, value: int, parameter: str) -> None:
        """Refuse what the collection's strict mode forbids."""
        strict = self.config["strict_mode_config"]
        limit = strict.get(setting)
        if strict.get("enabled") and limit is not None and value > limit:
            raise bad_request(
                f'Bad request: Limit exceeded {value} > {limit} for "{parameter}". '
                f'Help: Reduce the "{parameter}" parameter to or below {limit}.'
            )

    def upsert(self, points: Sequence[Any]) -> int:
        """Insert or overwrite points; refused as a whole where one of them is wrong."""
        self.check_limit("upsert_max_batchsize", len(points), "upsert limit")
        with self.lock:
            for number, group in self.by_shard(points, lambda point: point.id):
                self._update(number, edge.UpdateOperation.upsert_points(group))
            return self._next_operation()

    def change(
        self, selector: Any, by_ids: Callable[[list[Any]], Any], by_filter: Callable[[Any], Any]
    ) -> int:
        """Apply an operation to selected points: a list of ids, `{"points": …}` or `{"filter": …}`."""
        with self.lock:
            if isinstance(selector, dict) and "filter" in selector:
                chosen = edge_filter(selector["filter"])
                for number in range(len(self.shards)):
                    self._update(number, by_filter(chosen))
                return self._next_operation()
            ids = selector["points"] if isinstance(selector, dict) else selector
            known = self._known([point_id(each) for each in ids])
            for number, group in self.by_shard(known, lambda each: each):
                self._update(number, by_ids(group))
            return self._next_operation()

    def update_vectors(self, changes: Sequence[Any]) -> int:
        """Replace some vectors of existing points."""
        with self.lock:
            for number, group in self.by_shard(changes, lambda change: change.id):
                self._update(number, edge.UpdateOperation.update_vectors(group))
            return self._next_operation()

    def create_index(self, field: str, schema: Any) -> int:
        """Index a payload field; `schema` is a type's name or parameters with a `type`."""
        description, parameters = payload_indexes.describe(schema)
        with self.lock:
            for number in range(len(self.shards)):
                self._update(number, edge.UpdateOperation.create_field_index(field, parameters))
            self.indexes[field] = description
            self._save()
            return self._next_operation()

    def delete_index(self, field: str) -> int:
        """Drop the index of a payload field; a field without one is fine."""
        with self.lock:
            if self.indexes.pop(field, None) is not None:
                for number in range(len(self.shards)):
                    self._update(number, edge.UpdateOperation.delete_field_index(field))
                self._save()
            return self._next_operation()

    def by_shard(self, items: Iterable[Any], key: Callable[[Any], Any]) -> list[tuple[int, list[Any]]]:
        """Group items by the shard that their id belongs to."""
        groups: dict[int, list[Any]] = {}
        for item in items:
            found = key(item)
            number = shard_of(found if isinstance(found, int) else str(found), len(self.shards))
            groups.setdefault(number, []).append(item)
        return sorted(groups.items())

    def _known(self, ids: list[int | str]) -> list[int | str]:
        # The server ignores ids that it does not have; the engine refuses some operations on them.
        known: list[int | str] = []
        for number, group in self.by_shard(ids, lambda each: each):
            held = self.shards[number].retrieve(group, False, False)
            known += [record.id if isinstance(record.id, int) else str(record.id) for record in held]
        return known

    def _update(self, number: int, operation: Any) -> None:
        try:
            self.shards[number].update(operation)
        except Exception as error:
            raise from_engine(error) from error

    def _next_operation(self) -> int:
        self._operations += 1
        return self._operations

    def _save(self) -> None:
        content = msgspec.json.encode({"config": self.config, "indexes": self.indexes})
        (self.directory / FILE).write_bytes(content)

    @staticmethod
    def _indexed_points(field: str, held: list[Any]) -> int:
        return sum(each.payload_schema[field].points for each in held if field in each.payload_schema)
