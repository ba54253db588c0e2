"""Reading a snapshot's files and merging a chain: newest first, each record once, in bounded memory.

A chain's increments are small and say what the base has no longer, so they are read first; what
is remembered of them while the base streams by is their ids, and metadata that waits for its vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import NamedTuple

from recollect.compat.ruvector import layout
from recollect.compat.ruvector.catalog import SnapshotCatalog
from recollect.compat.ruvector.files.index_file import IndexKind, StoredGraph, decode_index
from recollect.compat.ruvector.files.member import FileReader, decode_member
from recollect.compat.ruvector.files.record_file import (
    REMOVED,
    SET,
    TOUCHED,
    RecordBlock,
    RecordCounts,
    decode_record_header,
    decode_records,
)
from recollect.compat.ruvector.files.vector_file import Matrix, decode_vector_header, decode_vectors
from recollect.compat.ruvector.keyed import KeyedParts
from recollect.compat.ruvector.layout import SnapshotDocument
from recollect.database.held import VectorBatch
from recollect.errors import IntegrityError
from recollect.pipeline import map_ordered


class ReadOptions(NamedTuple):
    """How files are read.

    Attributes:
        verify: Check SHA-256; CRC-32 is checked always.
        check: Called between blocks; raises CancelledError when the caller gave up.
    """

    executor: Executor
    workers: int
    verify: bool
    check: Callable[[], None]


class MergedBatch(NamedTuple):
    """Records of the merged chain, each of which comes once.

    Attributes:
        first_row: Row number, in the full snapshot, of the first row of `whole`; -1 in increments.
        whole: All rows of the block, with None for the keys whose vector is not current any more.
        whole_vectors: Their vectors. Shapes: (n, d).
    """

    batch: VectorBatch
    first_row: int
    whole: list[bytes | None]
    whole_vectors: Matrix


def open_file(
    catalog: SnapshotCatalog, document: SnapshotDocument, name: str, digests: dict[str, str] | None
) -> FileReader:
    """Return a reader of one data file; without digests its SHA-256 is not checked."""
    return FileReader(
        catalog.store,
        layout.file_key(document.snapshot.id, name),
        byte_size=document.byte_sizes[name],
        sha256="" if digests is None else digests[name],
    )


def read_records(catalog: SnapshotCatalog, document: SnapshotDocument) -> Iterator[RecordBlock]:
    """Yield all blocks of `metadata.bin.gz`; SHA-256 and counts have been checked after the last."""
    file = open_file(catalog, document, layout.RECORDS, catalog.digests(document))
    with blaming(file):
        raws = (decode_member(member) for member in file.members())
        counts = decode_record_header(document.snapshot.id, next(raws, b""))
        seen = [0, 0, 0]
        for raw in raws:
            block = decode_records(raw)
            seen[block.kind] += len(block.keys)
            yield block
        check_counts(file, counts, seen)


def read_graph(
    catalog: SnapshotCatalog, document: SnapshotDocument, options: ReadOptions
) -> tuple[IndexKind, StoredGraph | None]:
    """Read `index.bin.gz`."""
    digests = catalog.digests(document) if options.verify else None
    file = open_file(catalog, document, layout.INDEX, digests)
    dimension_wanted = 0 if document.schema is None else document.schema.vectors[0].dimension
    with blaming(file):
        members = map_ordered(
            decode_member, file.members(), executor=options.executor, window=2 * options.workers
        )
        kind, dimension, graph = decode_index(
            document.snapshot.id,
            members,
            row_count=document.snapshot.vector_count,
            byte_size=document.byte_sizes[layout.INDEX],
        )
        if dimension != dimension_wanted:
            raise IntegrityError(f"the index is of {dimension} dimensions, expected {dimension_wanted}")
    return kind, graph


def read_rows(
    catalog: SnapshotCatalog, document: SnapshotDocument, options: ReadOptions
) -> Iterator[tuple[RecordBlock, Matrix | None]]:
    """Yield all blocks of one snapshot, SET blocks with their vectors.

    Both files are checked whole after the last block, so what comes before may be used, not trusted.
    """
    pair = _Pair(catalog, document, verify=options.verify)
    seen = [0, 0, 0]

    def decode(members: tuple[bytes, bytes | None]) -> tuple[RecordBlock, Matrix | None]:
        options.check()
        return pair.decode(*members)

    window = options.workers + 1  # one is ready when a worker ends; each more is more memory only
    for block, matrix in map_ordered(decode, pair.members(), executor=options.executor, window=window):
        seen[block.kind] += len(block.keys)
        yield block, matrix
    check_counts(pair.records, pair.counts, seen)


class _Pair:
    """The two files of one snapshot whose blocks go together. One reader of `members` at a time."""

    def __init__(self, catalog: SnapshotCatalog, document: SnapshotDocument, *, verify: bool) -> None:
        digests = catalog.digests(document) if verify else None
        self.vectors = open_file(catalog, document, layout.VECTORS, digests)
        self.records = open_file(catalog, document, layout.RECORDS, digests)
        expected = 0 if document.schema is None else document.schema.vectors[0].dimension
        with blaming(self.vectors):
            self._vector_members = self.vectors.members()
            header = decode_member(next(self._vector_members, b""))
            self._dimension, row_count = decode_vector_header(document.snapshot.id, header)
            if self._dimension != expected:
                raise IntegrityError(f"the file has {self._dimension} dimensions, its schema {expected}")
        with blaming(self.records):
            self._record_members = self.records.members()
            header = decode_member(next(self._record_members, b""))
            self.counts = decode_record_header(document.snapshot.id, header)
        if self.counts.set != row_count:
            raise IntegrityError(
                f"{self.vectors.where} has {row_count} rows, {layout.RECORDS} has {self.counts.set}"
            )

    def members(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Yield the members of the records, each with that of its vectors if there is one."""
        for member in self._vector_members:
            with blaming(self.records):
                record_member = next(self._record_members, None)
            if record_member is None:
                raise IntegrityError(f"{self.records.where} ends before the vectors do")
            yield record_member, member
        for member in self._record_members:
            yield member, None

    def decode(self, record_member: bytes, vector_member: bytes | None) -> tuple[RecordBlock, Matrix | None]:
        """Decode one block. Safe to call from several threads."""
        with blaming(self.records):
            block = decode_records(decode_member(record_member))
        if (block.kind == SET) != (vector_member is not None):
            raise IntegrityError(f"{self.records.where} and {self.vectors.where} do not go together")
        if vector_member is None:
            return block, None
        with blaming(self.vectors):
            matrix = decode_vectors(decode_member(vector_member), self._dimension)
        if len(matrix) != len(block.keys):
            raise IntegrityError(
                f"{self.vectors.where} has {len(matrix)} rows in a block of {len(block.keys)}"
            )
        return block, matrix


def merge(
    catalog: SnapshotCatalog, chain: Sequence[SnapshotDocument], options: ReadOptions
) -> Iterator[MergedBatch]:
    """Yield every record of a chain once, as its newest snapshot has it; the full one's rows come last."""
    decided = KeyedParts[None]()
    waiting = KeyedParts[bytes | None]()
    for document in chain:
        is_full = document.snapshot.base_id is None
        row = 0
        news = KeyedParts[None]()
        for block, matrix in read_rows(catalog, document, options):
            if block.kind == REMOVED:
                news.add_all(block.keys, None)
            elif block.kind == TOUCHED:
                for row in decided.missing(block.keys):
                    key = block.keys[row]
                    waiting.part(key).setdefault(key, block.metadata[row])
            else:
                assert matrix is not None, "read_rows gives SET blocks their vectors"
                yield _select(block, matrix, decided, waiting, first_row=row if is_full else -1)
                row += len(block.keys)
                if not is_full:
                    news.add_all(block.keys, None)
        decided.merge(news)
    decided.clear()
    if waiting:
        raise IntegrityError(
            f"{len(waiting)} records of snapshot {chain[0].snapshot.id} have no vector in its bases"
        )


def check_counts(file: FileReader, counts: RecordCounts, seen: Sequence[int]) -> None:
    """Compare what a header promised with what came."""
    if tuple(seen) != tuple(counts):
        raise IntegrityError(f"{file.where} has {tuple(seen)} rows by kind, its header says {tuple(counts)}")


class blaming:  # noqa: N801 - used as a statement
    """Add the file's place to damage that a codec found in it."""

    def __init__(self, file: FileReader) -> None:
        self._where = file.where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, IntegrityError) and self._where not in error.message:
            raise IntegrityError(f"{self._where}: {error.message}", error.next_step) from error


def _select(
    block: RecordBlock,
    matrix: Matrix,
    decided: KeyedParts[None],
    waiting: KeyedParts[bytes | None],
    *,
    first_row: int,
) -> MergedBatch:
    whole: list[bytes | None] = list(block.keys)
    if not decided and not waiting:
        return MergedBatch(VectorBatch(block.keys, matrix, block.metadata), first_row, whole, matrix)
    kept = decided.missing(block.keys)
    keys = [block.keys[row] for row in kept]
    own = [block.metadata[row] for row in kept]
    metadata = [waiting.part(key).pop(key, one) for key, one in zip(keys, own, strict=True)]
    if len(kept) != len(whole):
        inside = set(kept)
        whole = [key if row in inside else None for row, key in enumerate(whole)]
    return MergedBatch(VectorBatch(keys, matrix[kept], metadata), first_row, whole, matrix)
