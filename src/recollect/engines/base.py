"""The vector database port: what Recollect asks of an engine.

A *source* is read under a hold; a *target* is written through a staged collection
that becomes visible only when it is switched into place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recollect.values.schema import CollectionSchema
from recollect.values.snapshot import FileRef, PieceRef, ShardEntry


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Which engine this is.

    Attributes:
        product: "qdrant", "qdrant-edge", "memory", "recollect", …
        version: As the engine reports it; empty if unknown.
        url: Without credentials, normalized; equal for two runs against the same source.
    """

    product: str
    version: str = ""
    url: str


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine can promise.

    Attributes:
        point_in_time: `hold` freezes one instant for all scans under it.
        ordered_scan: `scan` yields keys strictly ascending; otherwise they are sorted by the caller.
    """

    point_in_time: bool
    ordered_scan: bool


class CollectionDescription(msgspec.Struct, frozen=True, kw_only=True):
    """One collection as found under a hold.

    Attributes:
        name: Its name.
        schema: How to create it again.
        aliases: Other names of it, sorted.
        record_count: The engine's own count, exact or not; for progress only.
        consistency: "point-in-time", "per-shard" or "fuzzy"; see `values.snapshot.CollectionEntry`.
        position: Opaque; with `ChangedSince` it tells the engine what we have already.
        shards: How each shard is held, where the engine has shards and tells.
    """

    name: str
    schema: CollectionSchema
    aliases: tuple[str, ...] = ()
    record_count: int = 0
    consistency: str = "point-in-time"
    position: str = ""
    shards: tuple[ShardEntry, ...] = ()


class SourceView(Protocol):
    """A source while it is held."""

    def collections(self) -> list[str]:
        """Return the names of all collections, sorted."""
        ...

    def describe(self, name: str) -> CollectionDescription:
        """Describe one collection; `name` may be an alias. NotFoundError lists what exists."""
        ...

    def scan(self, name: str, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield all records of a collection as batches of `values.batch.record_schema`.

        Every batch has at most `batch_rows` rows and about 64 MiB. Each record that existed,
        unchanged, during the whole scan is yielded exactly once.

        Raises:
            UnavailableError: The engine went away. What was yielded must be thrown away.
        """
        ...


class Source(Protocol):
    """An engine to read from. One thread at a time."""

    @property
    def capabilities(self) -> Capabilities:
        """What the engine can promise."""
        ...

    def info(self) -> EngineInfo:
        """Identify the engine; UnavailableError or AccessError when it cannot be reached."""
        ...

    def hold(self) -> AbstractContextManager[SourceView]:
        """Keep the source at one point in time, where it can, until the context ends."""
        ...

    def close(self) -> None:
        """Release connections and files. Safe to call twice."""
        ...


class StagedCollection(Protocol):
    """A collection being restored under a temporary name, unseen by the engine's users."""

    def write(self, records: pa.RecordBatch) -> None:
        """Write records (`values.batch.record_schema`); keys have not been written before."""
        ...

    def finish(self) -> None:
        """Make all that was written durable and readable; build payload indexes."""
        ...

    def scan(self, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Read back what the engine holds now, as `SourceView.scan` does."""
        ...

    def switch(self) -> None:
        """Put it into place under its final name, with its aliases, and drop what it replaces.

        As atomic as the engine allows; the adapter documents what a crash here leaves.
        """
        ...

    def discard(self) -> None:
        """Drop it. What was in place before stays. Safe to call at any time, also after `switch`."""
        ...


class Target(Protocol):
    """An engine to write to. One thread at a time."""

    @property
    def capabilities(self) -> Capabilities:
        """What the engine can promise."""
        ...

    def info(self) -> EngineInfo:
        """Identify the engine."""
        ...

    def find(self, name: str) -> CollectionDescription | None:
        """Describe the collection or alias of this name as it is now; None if there is none."""
        ...

    def check_schema(self, schema: CollectionSchema) -> None:
        """Raise UnsupportedError, saying which part, if the engine cannot hold such a collection."""
        ...

    def stage(self, name: str, schema: CollectionSchema, aliases: tuple[str, ...]) -> StagedCollection:
        """Create an empty collection that will become `name` when it is switched."""
        ...

    def close(self) -> None:
        """Release connections and files. Safe to call twice."""
        ...


@runtime_checkable
class ChangedSince(Protocol):
    """A source view that can tell which records changed since a position it gave out earlier."""

    def changed_since(self, name: str, position: str) -> Iterator[pa.RecordBatch] | None:
        """Yield the records changed since `position`, as changes, ascending by key.

        Batches have the columns of `values.batch.record_schema` and `op`; deletes are rows with op
        DELETE and null values. A record that changed back may be among them. None when the position
        is unknown or too old: the caller scans everything.
        """
        ...


@runtime_checkable
class Versioned(Protocol):
    """A source view that lists the version of every record far cheaper than the records.

    Two versions of one record are equal only if the record did not change in between; that holds
    from a position on for which `continues` says so.
    """

    def mark(self, name: str) -> str:
        """Return a position that stands for the held moment; empty if the engine cannot make one."""
        ...

    def continues(self, name: str, position: str) -> bool:
        """Tell whether versions of now can be compared with those of that position."""
        ...

    def is_unchanged(self, name: str, position: str) -> bool:
        """Tell whether certainly nothing changed since that position; False where it is not known."""
        ...

    def versions(self, name: str) -> Iterator[pa.RecordBatch]:
        """Yield `key` and `position` of all records, ascending by key."""
        ...

    def fetch(self, name: str, keys: pa.BinaryArray) -> pa.RecordBatch:
        """Return these records, in the order of `keys`; all of them exist."""
        ...


ReadPiece: TypeAlias = Callable[[PieceRef], bytes]
"""Returns the bytes of a piece of a file."""


class StagedFiles(StagedCollection, Protocol):
    """A collection that is being restored from an engine's own files.

    What is written afterwards may stand over records that the files brought.
    """

    def load_shard(self, shard: ShardEntry, read: ReadPiece) -> None:
        """Give the engine the files of one shard; its records and indexes are there afterwards.

        Raises:
            RequestError: The engine refuses them. UnavailableError: It went away.
        """
        ...

    def remove(self, keys: pa.BinaryArray) -> None:
        """Delete records that the files brought."""
        ...

    def expect(self, record_count: int) -> None:
        """Say how many records there must be when all this is done; `finish` checks it."""
        ...


@runtime_checkable
class FileTarget(Protocol):
    """A target that can take an engine's own files instead of records."""

    def files_refusal(self, schema: CollectionSchema, version: str) -> str:
        """Say why files of such a collection, of that version, cannot be taken; empty if they can."""
        ...

    def stage_files(
        self, name: str, schema: CollectionSchema, aliases: tuple[str, ...], files: CollectionSchema
    ) -> StagedFiles:
        """Create a collection of `schema`, as `Target.stage` does, for files that `files` describes."""
        ...


class FileKeeper(Protocol):
    """Where the files of an engine are stored. Safe to share between threads."""

    @property
    def repository_id(self) -> str:
        """Which repository this is: what was stored in one is not in another."""
        ...

    def keep(self, name: str, path: Path) -> FileRef:
        """Store a file as it is now, durably; `name` is what the snapshot calls it."""
        ...

    def has(self, file: FileRef) -> bool:
        """Tell whether a file that was stored before is there still, and will stay for this backup."""
        ...


@runtime_checkable
class Capturing(Protocol):
    """A source view that can hold one collection better than all of them at once."""

    def capture(
        self, name: str, *, keeper: FileKeeper | None = None, anew: bool = False
    ) -> AbstractContextManager[CollectionDescription]:
        """Hold a collection as it is now until the context ends; all that is read of it meanwhile is that.

        The description tells which consistency was had. What was taken to hold it is released at the end.
        With a `keeper` the engine's own files are stored too, and listed with the shards. `anew` trusts
        nothing that an earlier capture left.

        Raises:
            UnsupportedError: A keeper was given, and the files cannot be had.
        """
        ...


class Part(Protocol):
    """One part of a collection, described so that another process can hold it. Picklable; without secrets.

    Every record of the collection is in exactly one part.
    """

    @property
    def label(self) -> str:
        """What it is called in messages."""
        ...


class Division(msgspec.Struct, frozen=True, kw_only=True):
    """A collection in parts, in the order in which they are best begun; `shards` are not known yet."""

    description: CollectionDescription
    parts: tuple[Part, ...]


@runtime_checkable
class Divisible(Protocol):
    """A source view that can give out a collection in parts, for other processes to hold and read."""

    def divide(self, name: str) -> Division:
        """Describe the parts of a collection as they are now; nothing is held yet.

        Raises:
            UnsupportedError: It can only be read from here.
            RequestError: Another process would need a secret that only this one has.
        """
        ...

    def confirm(self, name: str, division: Division) -> None:
        """Make sure that the parts are those that were there before: no record went to one that is new.

        Raises:
            UnavailableError: They changed; what was read must be thrown away.
        """
        ...


@runtime_checkable
class Adapting(Protocol):
    """A target that cannot hold every record as it is, and says beforehand what it will hold."""

    def as_held(self, records: pa.RecordBatch, schema: CollectionSchema) -> pa.RecordBatch:
        """Return records as this engine will give them back; the same object if it holds them as they are.

        Idempotent: what it returns is held unchanged. Writing the result and reading it back is bit-exact.
        """
        ...


class LiveCollection(Protocol):
    """A collection that is in use while records are written into it."""

    @property
    def schema(self) -> CollectionSchema:
        """The collection's schema as it is now."""
        ...

    def fetch(self, keys: pa.BinaryArray) -> pa.RecordBatch:
        """Return those of these records that exist, ascending by key, as `values.batch.record_schema`."""
        ...

    def upsert(self, records: pa.RecordBatch) -> None:
        """Write records over those with the same keys; readable and durable when this returns.

        Idempotent. Each record as a whole or not at all; not all records at once.
        """
        ...


@runtime_checkable
class Editable(Protocol):
    """A target whose collections can be written into where they stand."""

    def edit(self, name: str) -> AbstractContextManager[LiveCollection]:
        """Open a collection, by name or alias, until the context ends.

        Raises:
            NotFoundError: There is none.
        """
        ...


class Searcher(Protocol):
    """A collection that is open for searching."""

    def nearest(self, vector: str, query: npt.NDArray[np.float32], k: int) -> list[bytes]:
        """Return the keys of the k nearest records as the engine's own index finds them, nearest first.

        Shapes: query (d,) float32.
        """
        ...


@runtime_checkable
class Drillable(Protocol):
    """A target whose collections can be searched, and dropped afterwards."""

    def search(self, name: str) -> AbstractContextManager[Searcher]:
        """Build the collection's search indexes, wait for them, and open it until the context ends."""
        ...

    def drop(self, name: str) -> None:
        """Remove a collection that was restored under this name, and the names that lead to it."""
        ...
