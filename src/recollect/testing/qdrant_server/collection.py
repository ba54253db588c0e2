"""One collection: its configuration, its shards, and what can be done to its points.

Directory: `collection.json` (configuration and payload indexes as the API gives them) and
`shards/<id>` (Edge shards; with custom sharding they come with their keys).
Writes are in the engine when a call returns; they are on disk after `close`. One lock: calls on one
collection run one after another.
"""

from __future__ import annotations

import shutil
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
        self.given_indexes: dict[str, Any] = stored.get("given_indexes", {})
        self.faults = faults
        self.lock = threading.RLock()
        self.recovering = threading.Lock()
        self.directory = directory
        self._operations = 0
        self.shard_keys: list[Any] = stored.get("shard_keys", [None] * self.config["params"]["shard_number"])
        self.shards = [self._load(each) for each in range(len(self.shard_keys))]

    @staticmethod
    def create(directory: Path, config: dict[str, Any]) -> None:
        """Write an empty collection."""
        (directory / "shards").mkdir(parents=True)
        is_custom = config["params"].get("sharding_method") == "custom"
        shard_keys = [] if is_custom else [None] * config["params"]["shard_number"]
        for each in range(len(shard_keys)):
            make_shard(directory / "shards" / str(each), config)
        stored = {"config": config, "indexes": {}, "shard_keys": shard_keys}
        (directory / FILE).write_bytes(msgspec.json.encode(stored))

    def close(self) -> None:
        """Flush and release the shards."""
        with self.lock:
            for shard in self.shards:
                shard.close()
            self.shards = []

    def create_shard_key(self, key: Any, shard_count: int | None) -> None:
        """Add shards for a key; 400 if there are some already."""
        with self.lock:
            if key in self.shard_keys:
                raise bad_request(f"Wrong input: Shard key {key} already exists")
            first = len(self.shards)
            for each in range(first, first + (shard_count or self.config["params"]["shard_number"])):
                make_shard(self.directory / "shards" / str(each), self.config)
                self.shard_keys.append(key)
                self.shards.append(self._load(each))
                for field, schema in self.given_indexes.items():
                    _, parameters = payload_indexes.describe(schema)
                    self._update(each, edge.UpdateOperation.create_field_index(field, parameters))
            self._save()

    def replace_shard(self, number: int, directory: Path) -> None:
        """Put a directory in the place of a shard's."""
        with self.lock:
            self.shards[number].close()
            place = self.directory / "shards" / str(number)
            (directory / "edge_config.json").write_bytes((place / "edge_config.json").read_bytes())
            shutil.rmtree(place)
            directory.rename(place)
            self.shards[number] = self._load(number)

    def shards_of(self, shard_key: Any) -> list[int]:
        """Return the numbers of the shards of a key, or of all shards without one; 400 if there are none."""
        wanted = shard_key if isinstance(shard_key, list) else [shard_key]
        if shard_key is None:
            return list(range(len(self.shards)))
        found = [number for number, key in enumerate(self.shard_keys) if key in wanted]
        if not found:
            raise bad_request(f"Wrong input: Shard key {shard_key} not found")
        return found

    def reconfigure(self, request: dict[str, Any]) -> None:
        """Apply a `PATCH` body. The engine keeps what it was created with: it runs no optimizer here."""
        with self.lock:
            self.config = configuration.updated_configuration(self.config, request)
            self._save()

    def optimize(self) -> bool:
        """Let the engine's optimizers do what they find to do now; tell whether that was anything."""
        with self.lock:
            done = [shard.optimize() for shard in self.shards]
            return any(done)

    def info(self) -> dict[str, Any]:
        """Describe the collection as `GET /collections/{c}` does."""
        with self.lock:
            held = [shard.info() for shard in self.shards]
            hidden = len(self.hidden_ids())
            schema = {
                field: {**index, "points": self._indexed_points(field, held)}
                for field, index in (payload_indexes.brought(held) | self.indexes).items()
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

    def upsert(self, points: Sequence[Any], shard_key: Any = None) -> int:
        """Insert or overwrite points; refused as a whole where one of them is wrong."""
        self.check_limit("upsert_max_batchsize", len(points), "upsert limit")
        with self.lock:
            if points and shard_key is None and self.config["params"].get("sharding_method") == "custom":
                raise bad_request("Wrong input: Shard key not specified")
            for number, group in self.by_shard(points, lambda point: point.id, shard_key):
                self._update(number, edge.UpdateOperation.upsert_points(group))
            return self._next_operation()

    def change(
        self, selector: Any, by_ids: Callable[[list[Any]], Any], by_filter: Callable[[Any], Any]
    ) -> int:
        """Apply an operation to selected points: a list of ids, `{"points": …}` or `{"filter": …}`."""
        with self.lock:
            shard_key = selector.get("shard_key") if isinstance(selector, dict) else None
            if isinstance(selector, dict) and "filter" in selector:
                chosen = edge_filter(selector["filter"])
                for number in self.shards_of(shard_key):
                    self._update(number, by_filter(chosen))
                return self._next_operation()
            ids = selector["points"] if isinstance(selector, dict) else selector
            for number, group in self._known([point_id(each) for each in ids], shard_key):
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
            self.given_indexes[field] = schema
            self._save()
            return self._next_operation()

    def delete_index(self, field: str) -> int:
        """Drop the index of a payload field; a field without one is fine."""
        with self.lock:
            self.given_indexes.pop(field, None)
            self.indexes.pop(field, None)
            for number in range(len(self.shards)):
                self._update(number, edge.UpdateOperation.delete_field_index(field))
            self._save()
            return self._next_operation()

    def by_shard(
        self, items: Iterable[Any], key: Callable[[Any], Any], shard_key: Any = None
    ) -> list[tuple[int, list[Any]]]:
        """Group items by the shard that their id belongs to."""
        groups: dict[int, list[Any]] = {}
        numbers = self.shards_of(shard_key)
        for item in items:
            found = key(item)
            number = numbers[shard_of(found if isinstance(found, int) else str(found), len(numbers))]
            groups.setdefault(number, []).append(item)
        return sorted(groups.items())

    def _known(self, ids: list[int | str], shard_key: Any) -> list[tuple[int, list[int | str]]]:
        # The server ignores ids that it does not have; the engine refuses some operations on them.
        # With custom sharding an id may be in a shard of any key.
        is_custom = self.config["params"].get("sharding_method") == "custom"
        groups = (
            [(number, ids) for number in self.shards_of(shard_key)]
            if is_custom
            else self.by_shard(ids, lambda each: each)
        )
        known: list[tuple[int, list[int | str]]] = []
        for number, group in groups:
            held = self.shards[number].retrieve(group, False, False)
            found = [record.id if isinstance(record.id, int) else str(record.id) for record in held]
            if found:
                known.append((number, found))
        return known

    def _load(self, number: int) -> Any:
        return edge.EdgeShard.load(str(self.directory / "shards" / str(number)))

    def _update(self, number: int, operation: Any) -> None:
        try:
            self.shards[number].update(operation)
        except Exception as error:
            raise from_engine(error) from error

    def _next_operation(self) -> int:
        self._operations += 1
        return self._operations

    def _save(self) -> None:
        stored = {
            "config": self.config,
            "indexes": self.indexes,
            "given_indexes": self.given_indexes,
            "shard_keys": self.shard_keys,
        }
        (self.directory / FILE).write_bytes(msgspec.json.encode(stored))

    @staticmethod
    def _indexed_points(field: str, held: list[Any]) -> int:
        return sum(each.payload_schema[field].points for each in held if field in each.payload_schema)


def make_shard(directory: Path, config: dict[str, Any]) -> None:
    """Make the directory of an empty shard."""
    directory.mkdir(parents=True)
    content = msgspec.json.encode(configuration.edge_configuration(config))
    (directory / "edge_config.json").write_bytes(content)
