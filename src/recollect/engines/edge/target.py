"""A Qdrant Edge shard as a target: written beside its place, then switched with one rename."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from recollect.engines.adapt import as_qdrant_holds
from recollect.engines.base import Capabilities, CollectionDescription, EngineInfo
from recollect.engines.edge.binding import edge_errors, edge_library
from recollect.engines.edge.exchange import exchange, sync_directory
from recollect.engines.edge.live import EdgeLive, EdgeSearcher
from recollect.engines.edge.scan import scan_shard
from recollect.engines.edge.schema import (
    CONFIG_FILE,
    config_from_schema,
    index_operation,
    read_config,
    read_payload_indexes,
    schema_from_config,
)
from recollect.engines.edge.shard import is_shard, opened, require_shard, require_space
from recollect.engines.edge.source import describe_shard, edge_info
from recollect.engines.edge.staging import REPLACED, create_locked, remove_abandoned, staging_path
from recollect.engines.edge.write import batch_to_points, operations_of
from recollect.errors import ConflictError, RequestError
from recollect.system_error import storage_error
from recollect.values.schema import CollectionSchema


class EdgeTarget:
    """A directory that is, or becomes, a shard with one collection."""

    def __init__(self, path: Path, new_id: Callable[[], str]) -> None:
        self._path = path
        self._new_id = new_id
        self._staged_name: str | None = None

    @property
    def capabilities(self) -> Capabilities:
        """A held shard does not change, and scrolls in id order."""
        return Capabilities(point_in_time=True, ordered_scan=True)

    def info(self) -> EngineInfo:
        """Identify the shard."""
        return edge_info(self._path)

    def find(self, name: str) -> CollectionDescription | None:
        """Describe what stands in the directory, whatever its name; None if there is nothing."""
        if not self._path.exists() or (self._path.is_dir() and not any(self._path.iterdir())):
            return None
        if not self._path.is_dir() or not is_shard(self._path):
            raise ConflictError(
                f"{self._path} exists and is no Qdrant Edge shard", "choose another path; nothing was changed"
            )
        with opened(self._path) as shard:
            return describe_shard(shard, self._path, name)

    def check_schema(self, schema: CollectionSchema) -> None:
        """Raise UnsupportedError if Edge cannot hold such a collection."""
        config_from_schema(schema)
        for index in schema.payload_indexes:
            index_operation(index)

    def as_held(self, records: pa.RecordBatch, schema: CollectionSchema) -> pa.RecordBatch:
        """Return records as the engine will give them back."""
        return as_qdrant_holds(records, schema)

    def stage(
        self,
        name: str,
        schema: CollectionSchema,
        aliases: tuple[str, ...],  # noqa: ARG002 - a shard has no aliases
    ) -> EdgeStaged:
        """Create an empty shard beside the path, as `.<name>.recollect-<id>`.

        What killed restores into this path left beside it is removed first.

        Raises:
            RequestError: A second collection: a shard holds one.
        """
        if self._staged_name not in {None, name}:
            raise RequestError(
                f"{self._path} is one shard and holds one collection, not {self._staged_name!r} and {name!r}",
                "choose one with `--collection`, and restore the others to paths of their own",
            )
        self._staged_name = name
        with _file_errors("clearing what a killed restore left beside", self._path):
            remove_abandoned(self._path)
        return EdgeStaged(self._path, staging_path(self._path, self._new_id()), schema)

    @contextmanager
    def edit(self, name: str) -> Iterator[EdgeLive]:
        """Open the shard to write into, whatever its name.

        Raises:
            NotFoundError, RequestError: There is no shard in the directory.
        """
        require_shard(self._path)
        with opened(self._path) as shard:
            yield EdgeLive(shard, self._path, describe_shard(shard, self._path, name).schema)

    @contextmanager
    def search(self, name: str) -> Iterator[EdgeSearcher]:  # noqa: ARG002 - a shard has one collection
        """Run the engine's optimizer, which builds the HNSW index, and open the shard for searching."""
        require_shard(self._path)
        with opened(self._path) as shard:
            with edge_errors("indexing", self._path):
                shard.optimize()
            yield EdgeSearcher(shard, self._path)

    def drop(self, name: str) -> None:  # noqa: ARG002 - as above
        """Remove the shard's directory; one that is gone, or is no shard, is left alone."""
        if is_shard(self._path):
            with _file_errors("removing", self._path):
                shutil.rmtree(self._path)

    def close(self) -> None:
        """Do nothing: shards are open only while they are written or read."""


class EdgeStaged:
    """A shard that is being written beside its place.

    A crash leaves the hidden staging directory, and what was in place untouched; the next restore
    into the same path removes the directory. `switch` swaps two directories in one
    system call on Linux; elsewhere a crash between its two renames leaves the old shard as
    `<staging>.replaced` and the new one complete as the staging directory.
    """

    def __init__(self, path: Path, staging: Path, schema: CollectionSchema) -> None:
        self._path = path
        self._staging = staging
        self._schema = schema
        self._shard: Any = None
        with _file_errors("creating", staging):
            require_space(next(parent for parent in staging.parents if parent.exists()), 0)
            self._lock: int | None = create_locked(staging)
            (staging / CONFIG_FILE).write_text(json.dumps(config_from_schema(schema)), encoding="utf-8")
        with edge_errors("creating", staging):
            self._shard = edge_library().EdgeShard.load(str(staging))

    def write(self, records: pa.RecordBatch) -> None:
        """Insert records."""
        operation = edge_library().UpdateOperation
        for piece in operations_of(records):
            points = batch_to_points(piece, self._schema)
            require_space(self._staging, piece.nbytes)
            with edge_errors("writing", self._staging):
                self._shard.update(operation.upsert_points(points))

    def finish(self) -> None:
        """Create the payload indexes and flush. The HNSW index is built by the engine's optimizer."""
        with edge_errors("indexing", self._staging):
            for index in self._schema.payload_indexes:
                self._shard.update(index_operation(index))
            self._shard.flush()

    def scan(self, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Read back from files: the shard is closed and opened anew first."""
        self._close()
        schema = schema_from_config(read_config(self._staging), read_payload_indexes(self._staging))
        with opened(self._staging) as shard:
            yield from scan_shard(shard, self._staging, schema, batch_rows=batch_rows)

    def switch(self) -> None:
        """Put the shard in place."""
        self._close()
        with _file_errors("switching", self._path):
            if not self._path.exists():
                self._staging.rename(self._path)
            elif not exchange(self._staging, self._path):
                replaced = self._staging.with_name(self._staging.name + REPLACED)
                self._path.rename(replaced)
                self._staging.rename(self._path)
                replaced.rename(self._staging)
            sync_directory(self._path.parent)

    def discard(self) -> None:
        """Remove the staging directory; after a switch it holds what was replaced."""
        self._close()
        with _file_errors("removing", self._staging):
            if self._staging.exists():
                shutil.rmtree(self._staging)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _close(self) -> None:
        if self._shard is not None:
            shard, self._shard = self._shard, None
            with edge_errors("closing", self._staging):
                shard.close()


@contextmanager
def _file_errors(action: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error, f"{action} {path}") from error
