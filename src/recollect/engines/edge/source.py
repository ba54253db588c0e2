"""A Qdrant Edge shard as a source. While it is held, the engine's lock keeps writers out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from recollect.engines.base import Capabilities, CollectionDescription, EngineInfo
from recollect.engines.edge.binding import edge_errors, edge_version
from recollect.engines.edge.scan import records_to_batch, scan_shard
from recollect.engines.edge.schema import PRODUCT, read_config, read_payload_indexes, schema_from_config
from recollect.engines.edge.shard import opened, require_shard
from recollect.engines.edge.versions import is_continued, is_unchanged, leave_marker, record_versions
from recollect.errors import NotFoundError, UnsupportedError
from recollect.values import batch as columns
from recollect.values.key import decode_keys
from recollect.values.schema import CollectionSchema


class EdgeSource:
    """One shard directory, seen as a database of one collection."""

    def __init__(self, path: Path, name: str, new_id: Callable[[], str]) -> None:
        self._path = path
        self._name = name
        self._new_id = new_id

    @property
    def capabilities(self) -> Capabilities:
        """A held shard does not change, and scrolls in id order."""
        return Capabilities(point_in_time=True, ordered_scan=True)

    def info(self) -> EngineInfo:
        """Identify the shard."""
        return edge_info(self._path)

    @contextmanager
    def hold(self) -> Iterator[EdgeView]:
        """Open the shard, and with it lock others out, until the context ends."""
        require_shard(self._path)
        with opened(self._path) as shard:
            yield EdgeView(shard, self._path, self._name, self._new_id)

    def close(self) -> None:
        """Do nothing: the shard is open only while it is held."""


class EdgeView:
    """An open shard."""

    def __init__(self, shard: Any, path: Path, name: str, new_id: Callable[[], str]) -> None:
        self._shard = shard
        self._path = path
        self._name = name
        self._new_id = new_id
        self._schema: CollectionSchema | None = None

    def collections(self) -> list[str]:
        """Return the one collection's name."""
        return [self._name]

    def describe(self, name: str) -> CollectionDescription:
        """Describe the collection.

        Raises:
            NotFoundError: It has another name.
            UnsupportedError: The engine hides records, or a datatype is lossy.
        """
        self._require(name)
        return describe_shard(self._shard, self._path, self._name)

    def mark(self, name: str) -> str:
        """Leave a marker of this moment in the shard's directory; returns its token, empty if it cannot."""
        self._require(name)
        token = self._new_id()
        return token if leave_marker(self._shard, self._path, token) else ""

    def continues(self, name: str, position: str) -> bool:
        """Tell whether the shard's history leads on from that moment."""
        self._require(name)
        return is_continued(self._shard, self._path, position)

    def is_unchanged(self, name: str, position: str) -> bool:
        """Tell whether every segment is still at the version that it had at that moment."""
        self._require(name)
        return is_unchanged(self._shard, self._path, position)

    def versions(self, name: str) -> Iterator[pa.RecordBatch]:
        """Yield the number of the operation that last changed each record, ascending by key."""
        return record_versions(self._shard, self._path, self.describe(name).schema)

    def fetch(self, name: str, keys: pa.BinaryArray) -> pa.RecordBatch:
        """Return these records, in the order of `keys`."""
        if self._schema is None:  # the held shard's does not change
            self._schema = self.describe(name).schema
        with edge_errors("reading", self._path):
            records = self._shard.retrieve(point_ids=decode_keys(keys), with_payload=True, with_vector=True)
        found = records_to_batch(records, self._schema)
        return found.take(pc.index_in(keys, value_set=found.column(columns.KEY)))

    def scan(self, name: str, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield all records, ascending by key."""
        schema = self.describe(name).schema
        return scan_shard(self._shard, self._path, schema, batch_rows=batch_rows)

    def _require(self, name: str) -> None:
        if name != self._name:
            raise NotFoundError(
                f"there is no collection {name!r} in {self._path}; there is: {self._name}",
                f"use `--collection {self._name}`, or name the shard with `?name={name}` in its URL",
            )


def edge_info(path: Path) -> EngineInfo:
    """Identify a shard by its absolute path; the URL opens it again, whatever characters are in the path."""
    quoted = "".join(map(_quoted, str(path)))
    return EngineInfo(product=PRODUCT, version=edge_version(), url=f"edge://{quoted}")


def _quoted(character: str) -> str:
    """Percent-encode what would mean something else in a URL or on a command line; letters stay readable."""
    is_plain = character.isalnum() or character in "/-._~+,:=@"
    return character if is_plain else quote(os.fsencode(character), safe="")


def describe_shard(shard: Any, path: Path, name: str) -> CollectionDescription:
    """Describe an open shard.

    Raises:
        UnsupportedError: `prevent_unoptimized` is on: the engine then hides records that wait for
            its optimizer, from scans and counts alike, and a backup would miss them.
    """
    config = read_config(path)
    if (config.get("optimizers") or {}).get("prevent_unoptimized"):
        raise UnsupportedError(
            f"{path} has prevent_unoptimized on: the engine hides records that wait for its optimizer",
            "run EdgeShard.optimize(), load the shard once with prevent_unoptimized off, and back up again",
        )
    return CollectionDescription(
        name=name,
        schema=schema_from_config(config, read_payload_indexes(path)),
        record_count=shard.info().points_count,
        consistency="point-in-time",
    )
