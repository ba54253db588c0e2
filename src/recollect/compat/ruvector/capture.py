"""Creating snapshots: held rows in, five files out, the last of which is the commit.

Until `checksum.sha256` is written there is no snapshot, so a failure or a crash anywhere leaves
the store with the snapshots that it had, and at most files that nobody lists.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from recollect.compat.ruvector import layout
from recollect.compat.ruvector.catalog import SnapshotCatalog
from recollect.compat.ruvector.delta import BaseState, Change
from recollect.compat.ruvector.files.member import FileWriter, FinishedFile
from recollect.compat.ruvector.files.record_file import (
    REMOVED,
    TOUCHED,
    RecordBlock,
    RecordCounts,
    encode_record_header,
    encode_records,
)
from recollect.compat.ruvector.files.vector_file import encode_vector_header
from recollect.compat.ruvector.graph import encode_graph
from recollect.compat.ruvector.layout import SnapshotDocument
from recollect.compat.ruvector.rows import (
    BLOCK_ROWS_MAX,
    DigestedRows,
    EncodedBlock,
    Slots,
    cut,
    digest_rows,
    encode_rows,
    spec_of,
)
from recollect.compat.ruvector.snapshot import AnySnapshotType, Snapshot, SnapshotType
from recollect.database.held import HeldVectors
from recollect.errors import ConflictError, NotFoundError, RequestError
from recollect.pipeline import map_ordered
from recollect.storage.base import create_from_parts
from recollect.values.event import OnEvent, Progress
from recollect.values.fingerprint import Fingerprint


class Task(NamedTuple):
    """What every step of one creation needs.

    Attributes:
        workers: Blocks worked on at a time.
        io_count: Files written at a time.
        check: Called between blocks; raises CancelledError when the caller gave up.
    """

    catalog: SnapshotCatalog
    executor: Executor
    workers: int
    io_count: int
    level: int
    on_event: OnEvent
    check: Callable[[], None]


class Request(NamedTuple):
    """What is to be created.

    Attributes:
        left_out: What of the database is not in the collection, in words.
    """

    snapshot_id: str
    name: str
    collection: str
    created_at: datetime
    base_id: str | None
    left_out: list[str]


class _Content(NamedTuple):
    files: dict[str, FinishedFile]
    fingerprint: Fingerprint
    counts: RecordCounts
    index_name: str


def capture(held: HeldVectors, request: Request, task: Task) -> Snapshot:
    """Write one snapshot of the held rows and commit it.

    Memory: the compressed files, since a store takes a value whole, and a few blocks of 4 MiB a worker.

    Raises:
        NotFoundError: The base does not exist.
        RequestError: The base has vectors of another dimension or metric.
        ConflictError: The base was deleted meanwhile; nothing stays behind.
    """
    content = _full(held, request, task) if request.base_id is None else _incremental(held, request, task)
    document = _document(held, request, content)
    files = {name: file.parts for name, file in content.files.items()}
    digests = {name: file.sha256 for name, file in content.files.items()}
    files[layout.DOCUMENT] = [layout.encode_document(document)]
    digests[layout.DOCUMENT] = hashlib.sha256(files[layout.DOCUMENT][0]).hexdigest()
    try:
        _store(request, task, files, layout.encode_checksums(digests))
    except Exception:
        task.catalog.discard(request.snapshot_id)
        raise
    return document.snapshot


def _full(held: HeldVectors, request: Request, task: Task) -> _Content:
    spec = spec_of(held)
    vectors, records = FileWriter(), FileWriter()
    counts = RecordCounts(len(held), 0, 0)
    _begin(vectors, records, request, dimension=spec.dimension, counts=counts)

    def work(slots: Slots) -> tuple[int, Fingerprint, list[EncodedBlock]]:
        batch = held.batch(slots)
        digested = digest_rows(batch, spec)
        return len(slots), digested.fingerprint, [*encode_rows(batch, digested.vectors, level=task.level)]

    fingerprint = Fingerprint()
    results = _map(work, cut(held.slots, spec.dimension), task)
    for _, part, blocks in _counted(results, len(held), "store", request.collection, task):
        fingerprint += part
        _append(vectors, records, blocks)
    index, kind = encode_graph(held, request.snapshot_id, level=task.level)
    files = {layout.VECTORS: vectors.finish(), layout.RECORDS: records.finish(), layout.INDEX: index}
    return _Content(files, fingerprint, counts, kind)


def _incremental(held: HeldVectors, request: Request, task: Task) -> _Content:
    assert request.base_id is not None, "an incremental snapshot has a base"
    state = _base_state(held, request.base_id, task)
    spec = spec_of(held)

    def digest(slots: Slots) -> tuple[int, Slots, list[bytes], DigestedRows]:
        task.check()
        batch = held.batch(slots)
        return len(slots), slots, batch.keys, digest_rows(batch, spec)

    fingerprint, change = Fingerprint(), Change()
    # In this thread: digesting rows holds the interpreter's lock, so more threads would gain nothing.
    digests = map(digest, cut(held.slots, spec.dimension))
    for _, slots, keys, digested in _counted(digests, len(held), "compare", request.collection, task):
        fingerprint += digested.fingerprint
        state.compare(slots, keys, digested, change)
    removed = state.rest()
    counts = RecordCounts(len(change.changed), len(change.touched), len(removed))
    vectors, records = FileWriter(), FileWriter()
    _begin(vectors, records, request, dimension=spec.dimension, counts=counts)

    def encode(slots: Slots) -> list[EncodedBlock]:
        batch = held.batch(slots)
        return [*encode_rows(batch, digest_rows(batch, spec).vectors, level=task.level)]

    for blocks in _map(encode, cut(np.array(change.changed, dtype=np.int64), spec.dimension), task):
        _append(vectors, records, blocks)
    for block in _without_vectors(held, change, removed):
        task.check()
        records.append(encode_records(block, level=task.level))
    index, kind = encode_graph(held, request.snapshot_id, level=task.level, is_incremental=True)
    files = {layout.VECTORS: vectors.finish(), layout.RECORDS: records.finish(), layout.INDEX: index}
    return _Content(files, fingerprint, counts, kind)


def _base_state(held: HeldVectors, base_id: str, task: Task) -> BaseState:
    chain = task.catalog.chain(base_id)
    theirs, ours = chain[0].schema, held.schema
    if theirs is not None and ours is not None:
        then, now = theirs.vectors[0], ours.vectors[0]
        if then.dimension != now.dimension:
            raise RequestError(
                f"dimension mismatch: base {base_id} has {then.dimension} dimensions, "
                f"the collection has {now.dimension}",
                "take a full snapshot",
            )
        if then.metric != now.metric:
            raise RequestError(
                f"metric mismatch: base {base_id} has {then.metric}, the collection has {now.metric}",
                "take a full snapshot",
            )
    return BaseState.read(task.catalog, chain, task.check)


def _without_vectors(held: HeldVectors, change: Change, removed: list[bytes]) -> Iterator[RecordBlock]:
    # Small blocks: a record's metadata may have 64 MiB, and these have no vectors to bound them.
    touched = np.array(change.touched, dtype=np.int64)
    for start in range(0, len(touched), 256):
        batch = held.batch(touched[start : start + 256])
        step = 1 if max(map(_size, batch.metadata)) > 1 << 16 else 256
        for one in range(0, len(batch.keys), step):
            part = slice(one, one + step)
            yield RecordBlock(TOUCHED, batch.keys[part], batch.metadata[part], b"")
    for start in range(0, len(removed), BLOCK_ROWS_MAX):
        yield RecordBlock(REMOVED, removed[start : start + BLOCK_ROWS_MAX], [], b"")


def _size(metadata: bytes | None) -> int:
    return 0 if metadata is None else len(metadata)


def _begin(
    vectors: FileWriter, records: FileWriter, request: Request, *, dimension: int, counts: RecordCounts
) -> None:
    vectors.append(encode_vector_header(request.snapshot_id, dimension=dimension, row_count=counts.set))
    records.append(encode_record_header(request.snapshot_id, counts))


def _append(vectors: FileWriter, records: FileWriter, blocks: Iterable[EncodedBlock]) -> None:
    for block in blocks:
        vectors.append(block.vectors)
        records.append(block.records)


def _map(function: Callable[[Slots], Any], parts: Iterable[Slots], task: Task) -> Iterator[Any]:
    def checked(part: Slots) -> Any:
        task.check()
        return function(part)

    return map_ordered(checked, parts, executor=task.executor, window=2 * task.workers)


def _counted(results: Iterator[Any], total: int, stage: str, subject: str, task: Task) -> Iterator[Any]:
    """Pass results on, each of which begins with its row count, and tell how many rows are done."""
    done = 0
    for result in results:
        yield result
        done += result[0]
        task.on_event(Progress(stage=stage, subject=subject, done=done, total=total))


def _document(held: HeldVectors, request: Request, content: _Content) -> SnapshotDocument:
    digests = {name: file.sha256 for name, file in content.files.items()}
    sizes = {name: content.files[name].byte_size for name in layout.DATA_FILES}
    kind: AnySnapshotType = SnapshotType.Full()
    if request.base_id is not None:
        kind = SnapshotType.Incremental(request.base_id)
    spec = spec_of(held)
    return SnapshotDocument(
        format=layout.SNAPSHOT_FORMAT,
        id=request.snapshot_id,
        created_at=request.created_at,
        size_bytes=sum(sizes.values()),
        checksum=layout.data_checksum(digests),
        snapshot_type=kind,
        vector_count=len(held),
        metadata={
            "name": request.name,
            "collection": request.collection,
            "dimension": spec.dimension,
            "metric": spec.metric,
            "fingerprint": str(content.fingerprint),
            "commit_ts": held.commit_ts,
            "added_or_changed": content.counts.set,
            "metadata_changed": content.counts.touched,
            "removed": content.counts.removed,
            "index": content.index_name,
            "left_out": request.left_out,
        },
        schema=held.schema,
        byte_sizes=sizes,
    )


def _store(request: Request, task: Task, files: dict[str, list[bytes]], commit: bytes) -> None:
    """Write the data files side by side, then the document, then the commit."""

    def put(name: str) -> None:
        task.check()
        parts = files[name]
        create_from_parts(task.catalog.store, layout.file_key(request.snapshot_id, name), parts)
        while parts:  # one by one: freeing all at once would keep the event loop waiting
            parts.pop()

    with ThreadPoolExecutor(task.io_count) as executor:
        list(map_ordered(put, layout.DATA_FILES, executor=executor, window=task.io_count))
    put(layout.DOCUMENT)
    task.check()
    _require_base(request, task)
    task.catalog.store.put_if_absent(layout.file_key(request.snapshot_id, layout.CHECKSUMS), commit)
    _require_base(request, task)  # again: see catalog.py on writers and deleters that meet


def _require_base(request: Request, task: Task) -> None:
    if request.base_id is None:
        return
    try:
        task.catalog.find(request.base_id)
    except NotFoundError as error:
        raise ConflictError(
            f"snapshot {request.name!r} was given up: its base {request.base_id} was deleted meanwhile",
            "take a full snapshot",
        ) from error
