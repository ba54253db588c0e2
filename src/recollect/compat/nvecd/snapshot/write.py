"""Writing a snapshot file: one pass over the data, nothing larger than a piece in memory.

Sizes and checksums stand before what they speak of, so their places are filled in afterwards; the
file's own checksum is joined from those of the sections.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec

from recollect.compat.nvecd.snapshot import encode
from recollect.compat.nvecd.snapshot.checksum import combine_all, crc32
from recollect.compat.nvecd.snapshot.content import SnapshotConfig, SnapshotContent, VectorColumns
from recollect.compat.nvecd.snapshot.encode import Piece
from recollect.compat.nvecd.snapshot.layout import (
    CHECKSUM_OFFSET,
    EDGES,
    EVENTS,
    EXTRA,
    FLAG_CHECKSUM,
    FLAG_STATISTICS,
    HEADER_SIZE,
    LABELS,
    METADATA,
    NVECD_LIMITS,
    SECTION,
    U32,
    VECTORS,
    VERSION,
    Header,
    SnapshotLimits,
)
from recollect.errors import UnsupportedError

_ROWS_AT_ONCE = 2048


class Store(msgspec.Struct, frozen=True):
    """One store to write: its name, and a function that makes its bytes when it is their turn."""

    name: str
    pieces: Callable[[], Iterable[Piece]]


class Written(msgspec.Struct, frozen=True):
    """What was written."""

    file_size: int
    checksum: int


def write_snapshot(
    descriptor: int,
    *,
    timestamp: int,
    config: SnapshotConfig,
    stores: Iterable[Store],
    statistics: bytes | None = None,
    limits: SnapshotLimits = NVECD_LIMITS,
) -> Written:
    """Write a whole snapshot to an empty file. It is not synced; errors of the disk are OSError.

    Raises:
        UnsupportedError: A store or the file is larger than `limits`.
    """
    flags = FLAG_CHECKSUM | (FLAG_STATISTICS if statistics is not None else 0)
    header = Header(
        version=VERSION, header_size=HEADER_SIZE, flags=flags, timestamp=timestamp, file_size=0, checksum=0
    )
    with ThreadPoolExecutor(1, thread_name_prefix="nvecd-write") as pool:
        out = _Writer(descriptor, pool)
        return _write(out, header, config=config, stores=list(stores), statistics=statistics, limits=limits)


def _write(
    out: _Writer,
    header: Header,
    *,
    config: SnapshotConfig,
    stores: list[Store],
    statistics: bytes | None,
    limits: SnapshotLimits,
) -> Written:
    out.small(header.encode())
    out.small(_section(encode.encode_config(config)))
    if statistics is not None:
        out.small(_section(statistics))
    out.small(U32.pack(len(stores)))
    for store in stores:
        out.small(encode.encode_string(store.name) + U32.pack(0))
        out.large(store, limits.store_bytes_max)
    if out.size > limits.file_bytes_max:
        raise UnsupportedError("Snapshot exceeds maximum total file size", _TOO_LARGE)
    return out.finish(header)


def content_stores(content: SnapshotContent) -> list[Store]:
    """Return the stores of a snapshot that is in memory, in nvecd's order."""
    stores = [
        Store(EVENTS, lambda: encode.encode_events(content.events)),
        Store(EDGES, lambda: encode.encode_edges(content.edges)),
        Store(VECTORS, lambda: _vector_pieces(content.vectors)),
    ]
    metadata, extra = content.metadata, content.extra
    if metadata is not None:
        stores.append(Store(METADATA, lambda: encode.encode_metadata(len(metadata), metadata)))
    if extra is not None:
        stores.append(Store(EXTRA, lambda: [extra]))
    return stores


def write_content(
    descriptor: int, content: SnapshotContent, limits: SnapshotLimits = NVECD_LIMITS
) -> Written:
    """Write a snapshot that is in memory; see `write_snapshot`."""
    return write_snapshot(
        descriptor,
        timestamp=content.timestamp,
        config=content.config,
        stores=content_stores(content),
        statistics=content.statistics,
        limits=limits,
    )


_TOO_LARGE = (
    "set `snapshot.limits: format`, if nvecd itself need not read the file; or back up to a repository"
)


class _Writer:
    """A file that is written from its beginning, and patched."""

    def __init__(self, descriptor: int, pool: ThreadPoolExecutor) -> None:
        self._descriptor = descriptor
        self._pool = pool
        self._running: Future[None] | None = None
        self._parts: list[tuple[int, int]] = []
        self.size = 0

    def small(self, data: bytes) -> None:
        self._append(data)
        self._parts.append((crc32(data), len(data)))

    def large(self, store: Store, size_max: int) -> None:
        """Write a store's section: its head last, when size and checksum are known."""
        place = self.size
        self._append(bytes(SECTION.size))
        checksum, size = 0, 0
        for piece in store.pieces():
            size += len(piece)
            if size > size_max:
                raise UnsupportedError(f"{LABELS[store.name]} size exceeds maximum: {size}", _TOO_LARGE)
            checksum = crc32(piece, checksum)
            self._append(piece)
        head = SECTION.pack(size, checksum)
        os.pwrite(self._descriptor, head, place)
        self._parts += [(crc32(head), len(head)), (checksum, size)]

    def finish(self, header: Header) -> Written:
        """Fill in the header, now that everything is known."""
        self._settle()
        sized = msgspec.structs.replace(header, file_size=self.size).encode()
        checksum = combine_all([(crc32(sized), len(sized)), *self._parts[1:]])
        os.pwrite(self._descriptor, sized, 0)
        os.pwrite(self._descriptor, U32.pack(checksum), CHECKSUM_OFFSET)
        return Written(self.size, checksum)

    def _append(self, data: Piece) -> None:
        """Write behind the end, while the caller makes the next piece; at most one piece is on its way."""
        self._settle()
        self._running = self._pool.submit(_write_at, self._descriptor, data, self.size)
        self.size += len(data)

    def _settle(self) -> None:
        """Wait for the piece that is on its way; raises what went wrong with it."""
        if self._running is not None:
            self._running.result()
            self._running = None


def _write_at(descriptor: int, data: Piece, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        offset += count
        view = view[count:]


def _section(data: bytes) -> bytes:
    return SECTION.pack(len(data), crc32(data)) + data


def _vector_pieces(vectors: VectorColumns) -> Iterator[Piece]:
    count = len(vectors.ids)
    chunks = (
        (_encoded(vectors.ids[start : start + _ROWS_AT_ONCE]), vectors.rows[start : start + _ROWS_AT_ONCE])
        for start in range(0, count, _ROWS_AT_ONCE)
    )
    return encode.encode_vectors(vectors.dimension, count, chunks)


def _encoded(ids: list[str]) -> list[bytes]:
    return [one.encode("utf-8") for one in ids]
