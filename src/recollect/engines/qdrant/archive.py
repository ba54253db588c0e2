"""What a snapshot archive says of itself, and whether it is whole.

The server checks little: an archive that was cut between two members restores "successfully" with
fewer records, and one without its trailer too. So every archive is walked from header to header
here, its two zero blocks are asked for, and its shards are compared with its configuration.
Its content is not read; the SHA-256 is the proof for that.
Layout: docs/decisions/0071-native-snapshots.md.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import msgspec

from recollect.engines.qdrant.tar_members import tar_members, tar_open
from recollect.errors import IntegrityError

TRAILER_BYTES = 1024
FACTS_BYTES_MAX = 64 << 20
"""Bytes of a configuration; a real one has some kilobytes."""
_CONFIG = "config.json"
_VERSION = "version.info"
_SEGMENTS = "segments"


class SnapshotArchive(msgspec.Struct, frozen=True, kw_only=True):
    """One archive of a collection.

    Attributes:
        version: Of the server that made it; empty if it does not say.
        shard_number: Shards that the collection has; 0 if it does not say.
        shard_ids: Shards that the archive holds, ascending.
        segment_count: Segments of all its shards.
    """

    version: str = ""
    shard_number: int = 0
    shard_ids: tuple[int, ...] = ()
    segment_count: int = 0


def check_archive(path: Path) -> SnapshotArchive:
    """Walk an archive and return what it holds.

    Raises:
        IntegrityError: It is no archive, is cut short, or lacks its trailer, its configuration or a shard.
    """
    try:
        with path.open("rb") as file, tar_open(file) as archive:
            found = _read(archive, path)
            end = archive.offset  # where the reader found no further member
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise _damaged(path, f"it is no complete archive: {error}") from error
    _check_trailer(path, end)
    if found.shard_number and not found.shard_ids:
        raise _damaged(path, f"it holds none of the collection's {found.shard_number} shards")
    held = sum(shard_id < found.shard_number for shard_id in found.shard_ids)
    if held < found.shard_number and found.shard_ids == tuple(range(len(found.shard_ids))):
        raise _damaged(
            path, f"it holds {len(found.shard_ids)} of the collection's {found.shard_number} shards"
        )
    if not found.segment_count:
        raise _damaged(path, "it holds no segment")
    return found


def _read(archive: tarfile.TarFile, path: Path) -> SnapshotArchive:
    facts: dict[str, bytes] = {}
    segments: set[tuple[int, str]] = set()
    shards: set[int] = set()
    for member in tar_members(archive):
        parts = member.name.removeprefix("./").split("/")
        if member.name in {_CONFIG, _VERSION}:
            facts[member.name] = _content(archive, member, path)
        elif parts[0].isdecimal():
            shards.add(int(parts[0]))
            if len(parts) > 2 and parts[1] == _SEGMENTS:
                segments.add((int(parts[0]), parts[2].removesuffix(".tar")))
    if _CONFIG not in facts:
        raise _damaged(path, f"it has no {_CONFIG}, so it is no snapshot of a collection")
    return SnapshotArchive(
        version=facts.get(_VERSION, b"").decode("utf-8").strip(),
        shard_number=_shard_number(facts[_CONFIG], path),
        shard_ids=tuple(sorted(shards)),
        segment_count=len(segments),
    )


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> bytes:
    """Read a small member; one that only claims to be large (a sparse one) is not read."""
    if member.size > FACTS_BYTES_MAX:
        raise _damaged(path, f"its {member.name} has {member.size} bytes")
    file = archive.extractfile(member)
    return file.read() if file is not None else b""


def _shard_number(config: bytes, path: Path) -> int:
    try:
        found: Any = json.loads(config)
        return int((found.get("params") or {}).get("shard_number") or 0)
    except (AttributeError, TypeError, OverflowError, RecursionError) as error:
        raise _damaged(path, f"its {_CONFIG} is none of a collection: {error}") from error


def _check_trailer(path: Path, end: int) -> None:
    """Ask for two zero blocks after the last member; zeros at the end of a file may be that member's own."""
    with path.open("rb") as file:
        file.seek(end)
        trailer = file.read(TRAILER_BYTES)
    if len(trailer) < TRAILER_BYTES or trailer.strip(b"\0"):
        raise _damaged(path, "it does not end as an archive does: the server stopped while it wrote it")


def _damaged(path: Path, finding: str) -> IntegrityError:
    return IntegrityError(
        f"the snapshot file {path.name} cannot be trusted: {finding}",
        "make a new one; nothing was restored from it",
    )
