"""The public values: what a snapshot is and how the face is configured."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from recollect.errors import RequestError

CONCURRENT_IO_MAX = 256


class SnapshotConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how snapshots are stored.

    Attributes:
        snapshot_dir: A directory, or the URL of any store: `s3://…`, `gs://…`, `az://…`, `memory:`.
        compression: False stores everything in plain gzip blocks, uncompressed; the files keep their names.
        compression_level: 0 to 9, as of gzip.
        verify_checksum: Check the SHA-256 of every file that a restore reads. CRC-32 and the
            fingerprint of the result are checked always.
        max_concurrent_io: Files written, and blocks worked on, at the same time.
    """

    snapshot_dir: str | Path = "./snapshots"
    compression: bool = True
    compression_level: int = 6
    verify_checksum: bool = True
    max_concurrent_io: int = 4

    def __post_init__(self) -> None:
        """Refuse values without a meaning."""
        place, compression = _as_given(self.snapshot_dir), _as_given(self.compression)
        if not isinstance(place, str | Path) or not isinstance(compression, bool):
            raise RequestError(
                "snapshot_dir must be a path or a URL and compression True or False, got "
                f"{self.snapshot_dir!r} and {self.compression!r}"
            )
        level, count = _as_given(self.compression_level), _as_given(self.max_concurrent_io)
        if not isinstance(level, int) or not 0 <= level <= 9:
            raise RequestError(f"compression_level must be 0 to 9, got {level!r}")
        if not isinstance(count, int) or not 1 <= count <= CONCURRENT_IO_MAX:
            raise RequestError(f"max_concurrent_io must be 1 to {CONCURRENT_IO_MAX}, got {count!r}")

    @property
    def level(self) -> int:
        """The gzip level in force: 0 without compression."""
        return self.compression_level if self.compression else 0


def _as_given(value: object) -> object:
    """Return what a program gave, of whatever type: annotations bind nobody."""
    return value


class SnapshotType:
    """The two kinds of snapshot: `SnapshotType.Full()` and `SnapshotType.Incremental(base_id)`."""

    class Full(msgspec.Struct, frozen=True, tag="full", tag_field="type"):
        """Holds every record."""

    class Incremental(msgspec.Struct, frozen=True, tag="incremental", tag_field="type"):
        """Holds what was added, changed and removed since its base."""

        base_id: str


AnySnapshotType: TypeAlias = SnapshotType.Full | SnapshotType.Incremental


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One committed snapshot.

    Attributes:
        id: Unique; later ones sort after earlier ones.
        created_at: When the records were held still, UTC.
        size_bytes: Bytes of its three data files.
        checksum: SHA-256 over the lines that `checksum.sha256` has for them.
        snapshot_type: Full, or incremental with its base.
        vector_count: Vectors of the database at that moment, whatever the type.
        metadata: `name`, `collection`, `dimension`, `metric`, `fingerprint`, `commit_ts`; `added_or_changed`,
            `metadata_changed` and `removed` count what this snapshot itself holds; `index` is "hnsw",
            "of base" or "none"; `left_out` names what of the database is not in a snapshot of this face.
    """

    id: str
    created_at: datetime
    size_bytes: int
    checksum: str
    snapshot_type: AnySnapshotType
    vector_count: int
    metadata: dict[str, Any]

    @property
    def name(self) -> str:
        """The name that it was created with."""
        return str(self.metadata.get("name", ""))

    @property
    def base_id(self) -> str | None:
        """The base of an incremental snapshot, else None."""
        kind = self.snapshot_type
        return kind.base_id if isinstance(kind, SnapshotType.Incremental) else None
