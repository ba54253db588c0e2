"""The engine's own files as objects: in pieces, without zeros, each piece stored once.

A file is cut every `PIECE_BYTES`; a piece of zeros is left out, any other is one zstd frame with a
checksum, named like every object by the SHA-256 of its bytes. Equal pieces at equal level give equal
frames, so a file that did not change adds nothing, and one in which a page changed adds that page's
piece. Format: docs/format.md#physical-files
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard

from recollect.errors import IntegrityError, UnavailableError
from recollect.repository.repository import Repository
from recollect.values.snapshot import FileRef, PieceRef, Snapshot

PIECE_BYTES = 1 << 20
"""Measured against 64 KiB and whole files in docs/decisions/0092-physical-files.md."""
ZSTD_LEVEL = 3
EXPANSION_MAX = 40_000
"""No zstd frame unpacks to more than this many times its size: 4 bytes may stand for 128 KiB."""


def has_files(snapshot: Snapshot) -> bool:
    """Tell whether a snapshot holds the engine's files of all its collections."""
    return bool(snapshot.collections) and all(entry.has_files for entry in snapshot.collections)


class FileStore:
    """Stores files into a repository. Safe to share between threads.

    Args:
        listed: Digests that snapshots list, which nobody deletes while this is used.
    """

    def __init__(self, repository: Repository, listed: frozenset[str]) -> None:
        self._repository = repository
        self._listed = listed
        self._lock = threading.Lock()
        self.added_bytes = 0

    @property
    def repository_id(self) -> str:
        """Which repository this is."""
        return self._repository.config.id

    def has(self, file: FileRef) -> bool:
        """Tell whether every piece of a file is listed by a snapshot."""
        return all(piece.digest in self._listed for piece in file.pieces)

    def keep(self, name: str, path: Path) -> FileRef:
        """Store a file; a piece at a time in memory.

        Raises:
            UnavailableError: It cannot be read.
        """
        compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True)
        pieces = []
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                for offset, content in _pieces(file, size):
                    stored = self._repository.put_object(compressor.compress(content))
                    reference = stored.reference
                    with self._lock:
                        self.added_bytes += stored.added_bytes
                    pieces.append(
                        PieceRef(offset, len(content), reference.digest, reference.byte_size),
                    )
        except OSError as error:
            raise UnavailableError(f"reading {path}: {error.strerror or error}") from error
        return FileRef(path=name, byte_size=size, pieces=tuple(pieces))


def read_piece(repository: Repository, piece: PieceRef) -> bytes:
    """Return a piece's bytes.

    Raises:
        IntegrityError: The object is missing or damaged, or is no such piece.
    """
    frame = repository.get_object(piece.object)
    try:
        # The frame's own claim is checked before memory is taken for it.
        claimed = zstandard.get_frame_parameters(frame).content_size
        if claimed != piece.byte_size or claimed > EXPANSION_MAX * len(frame):
            raise IntegrityError(f"object {piece.digest} holds {claimed} bytes, not {piece.byte_size}")
        content = zstandard.ZstdDecompressor().decompress(frame, max_output_size=piece.byte_size)
    except zstandard.ZstdError as error:
        raise IntegrityError(f"object {piece.digest} is no piece of a file: {error}") from error
    if len(content) != piece.byte_size:
        raise IntegrityError(f"object {piece.digest} holds {len(content)} bytes, not {piece.byte_size}")
    return content


def _pieces(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield the pieces that are not all zeros; holes are not even read."""
    offset = 0
    while offset < size:
        data = _next_data(file.fileno(), offset)
        if data is None:
            return
        offset = data - data % PIECE_BYTES
        file.seek(offset)
        content = file.read(PIECE_BYTES)
        if content.strip(b"\0"):
            yield offset, content
        offset += PIECE_BYTES


def _next_data(descriptor: int, offset: int) -> int | None:
    """Return where the next data is, at or after an offset; None if there is none. Source: lseek(2)."""
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        if error.errno == errno.EINVAL:  # a file system without holes
            return offset
        raise
