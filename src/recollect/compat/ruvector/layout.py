"""The directory of one snapshot: names, `metadata.json`, `checksum.sha256`.

::

    snapshot-{id}/
        vectors.bin.gz  index.bin.gz  metadata.bin.gz     written first, in any order
        metadata.json                                     then this
        checksum.sha256                                   the commit: without it there is no snapshot
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from recollect.compat.ruvector.snapshot import AnySnapshotType, Snapshot
from recollect.errors import FormatVersionError, IntegrityError, RequestError
from recollect.values.schema import CollectionSchema

SNAPSHOT_FORMAT = 1

VECTORS, INDEX, RECORDS = "vectors.bin.gz", "index.bin.gz", "metadata.bin.gz"
DOCUMENT, CHECKSUMS = "metadata.json", "checksum.sha256"
DATA_FILES = (VECTORS, INDEX, RECORDS)
HASHED_FILES = (DOCUMENT, *DATA_FILES)

_PREFIX = "snapshot-"
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,35}")  # 36: a UUID's length, and the field of a file's header
_LINE = re.compile(r"([0-9a-f]{64})  ([a-z.0-9]+)")


class SnapshotDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `metadata.json` says.

    The fields of `Snapshot`, and:

    Attributes:
        format: Version of the directory's layout.
        schema: Of the collection; None if it did not exist.
        byte_sizes: Of the data files.
    """

    format: int
    id: str
    created_at: datetime
    size_bytes: int
    checksum: str
    snapshot_type: AnySnapshotType
    vector_count: int
    metadata: dict[str, Any]
    schema: CollectionSchema | None
    byte_sizes: dict[str, int]

    @property
    def snapshot(self) -> Snapshot:
        """The public fields."""
        return Snapshot(
            id=self.id,
            created_at=self.created_at,
            size_bytes=self.size_bytes,
            checksum=self.checksum,
            snapshot_type=self.snapshot_type,
            vector_count=self.vector_count,
            metadata=self.metadata,
        )


def check_id(snapshot_id: object) -> str:
    """Return the id if it can be one; RequestError otherwise, for paths above all."""
    if not isinstance(snapshot_id, str) or not _ID.fullmatch(snapshot_id) or ".." in snapshot_id:
        raise RequestError(
            f"{snapshot_id!r} is not a snapshot id: letters, digits, '_', '-' and single dots, 36 at most",
            "list_snapshots() shows the ids that there are",
        )
    return snapshot_id


def directory(snapshot_id: str) -> str:
    """Return the prefix of a snapshot's keys."""
    return _PREFIX + check_id(snapshot_id)


def file_key(snapshot_id: str, name: str) -> str:
    """Return the key of one of its files."""
    return f"{directory(snapshot_id)}/{name}"


def snapshot_id_of(key: str) -> tuple[str, str] | None:
    """Return snapshot id and file name of a key; None if the key is of something else."""
    folder, slash, name = key.partition("/")
    if not slash or "/" in name or not folder.startswith(_PREFIX):
        return None
    snapshot_id = folder[len(_PREFIX) :]
    return (snapshot_id, name) if _ID.fullmatch(snapshot_id) and ".." not in snapshot_id else None


def encode_document(document: SnapshotDocument) -> bytes:
    """Encode `metadata.json`, for people: indented, fields in order."""
    encoded = msgspec.json.encode(document)
    return msgspec.json.format(encoded, indent=2) + b"\n"


def decode_document(data: bytes, *, where: str) -> SnapshotDocument:
    """Decode `metadata.json`.

    Raises:
        IntegrityError: Damaged.
        FormatVersionError: Intact, of another version.
    """
    try:
        version = msgspec.json.decode(data, type=_Version).format
        if version == SNAPSHOT_FORMAT:
            return _checked(msgspec.json.decode(data, type=SnapshotDocument))
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise IntegrityError(
            f"{where} is damaged: {error}", "delete the snapshot; take another one"
        ) from error
    raise FormatVersionError(
        f"{where} has format {version}; this release reads {SNAPSHOT_FORMAT}",
        "use the release that wrote it, or a newer one",
    )


def _checked(document: SnapshotDocument) -> SnapshotDocument:
    """Return the document if every other part of this face can rely on what it says; ValueError otherwise."""
    texts = [document.metadata.get(name) for name in ("collection", "fingerprint")]
    if not all(isinstance(text, str) and text for text in texts):
        raise ValueError("no collection or no fingerprint is named")
    if document.created_at.tzinfo is None:
        raise ValueError("created_at has no time zone")
    if min(document.vector_count, document.size_bytes, *document.byte_sizes.values(), 0) < 0:
        raise ValueError("a count is negative")
    schema = document.schema
    if schema is not None and (len(schema.vectors) != 1 or schema.vectors[0].dimension < 1):
        raise ValueError("the schema is not one of vectors of one kind")
    return document


DOCUMENT_SIZE_MAX = 16 << 20
"""Bytes of the largest `metadata.json` that is read; it has about a thousand."""

CHECKSUMS_SIZE = sum(64 + 2 + len(name) + 1 for name in HASHED_FILES)
"""Bytes of every whole `checksum.sha256`."""


def encode_checksums(digests: Mapping[str, str]) -> bytes:
    """Encode `checksum.sha256`; `sha256sum -c` in the snapshot's directory reads it."""
    return "".join(f"{digests[name]}  {name}\n" for name in HASHED_FILES).encode("ascii")


def decode_checksums(data: bytes, *, where: str) -> dict[str, str]:
    """Decode `checksum.sha256`: one SHA-256 for each of `HASHED_FILES`."""
    found: dict[str, str] = {}
    try:
        for line in data.decode("ascii").splitlines():
            match = _LINE.fullmatch(line)
            if match is None:
                raise IntegrityError(f"{where} has a line that is none: {line!r}")
            found[match[2]] = match[1]
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{where} is damaged: {error}") from error
    if sorted(found) != sorted(HASHED_FILES) or encode_checksums(found) != data:
        raise IntegrityError(f"{where} does not have one line for each file of the snapshot")
    return found


def data_checksum(digests: Mapping[str, str]) -> str:
    """Return the SHA-256 over the lines of the data files: `grep bin.gz checksum.sha256 | sha256sum`."""
    lines = "".join(f"{digests[name]}  {name}\n" for name in DATA_FILES)
    return hashlib.sha256(lines.encode("ascii")).hexdigest()


class _Version(msgspec.Struct, frozen=True):
    format: int
