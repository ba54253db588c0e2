"""External merge sort: key order for streams that come in any order, in bounded memory.

Sorted runs spill to temporary Arrow files, which are merged window by window; when there are many,
they are merged into longer runs first, so that their number, and with it the memory, stays bounded.
The files are unlinked from the start where the system allows it, so a crash leaves none.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc

from recollect.errors import IntegrityError
from recollect.segments.merge import Groups, windows
from recollect.segments.spool import temporary_error
from recollect.values import batch as columns

SPILL_BYTES = 64 * 1024 * 1024
"""Bytes gathered before a sorted run is spilled; the memory that sorting takes, times two."""
BATCH_BYTES = 256 * 1024
"""Bytes of a batch in a spilled run, about; merging holds one of every run, and their window."""
YIELD_BYTES = 4 * 1024 * 1024
"""Bytes of a batch that is yielded, about."""
FAN_IN_MAX = 32
"""Runs of one length that are kept; one more, and they become one of the next length."""


def sorted_by_key(
    batches: Iterator[pa.RecordBatch], *, spill_bytes: int = SPILL_BYTES
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of all batches strictly ascending by key.

    Raises:
        IntegrityError: A key came twice.
        StorageFullError: The temporary directory is full; UnavailableError: it fails otherwise.
    """
    with ExitStack() as stack:
        spills = _Spills(stack)
        pending: list[pa.RecordBatch] = []
        pending_bytes = 0
        for batch in batches:
            pending.append(batch)
            pending_bytes += batch.nbytes
            if pending_bytes >= spill_bytes:
                spills.add(_sorted(pending))
                pending, pending_bytes = [], 0
        yield from _coalesced(_merged([*spills.streams(), _sorted(pending)]))


def _coalesced(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Join small batches: each costs whoever takes it some milliseconds, whatever its size."""
    pending: list[pa.RecordBatch] = []
    pending_bytes = 0
    for batch in batches:
        pending.append(batch)
        pending_bytes += batch.nbytes
        if pending_bytes >= YIELD_BYTES:
            yield pa.concat_batches(pending)
            pending, pending_bytes = [], 0
    if pending:
        yield pa.concat_batches(pending)


class _Spills:
    """Sorted runs in temporary files; a run of one level is as long as `FAN_IN_MAX` of the one below."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._levels: list[list[IO[bytes]]] = []

    def add(self, run: Iterator[pa.RecordBatch], level: int = 0) -> None:
        """Spill a run, and merge the runs of its length if there are too many."""
        if level == len(self._levels):
            self._levels.append([])
        files = self._levels[level]
        files.append(_spill(run, self._stack))
        if len(files) == FAN_IN_MAX:
            self.add(_merged([_read(file) for file in files]), level + 1)
            for file in files:
                file.close()
            files.clear()

    def streams(self) -> list[Iterator[pa.RecordBatch]]:
        """Open all runs."""
        return [_read(file) for files in self._levels for file in files]


def _sorted(batches: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of some batches in key order, a few at a time; the list is emptied."""
    if not batches:
        return
    table = pa.Table.from_batches(batches).combine_chunks()
    batches.clear()
    keys = table.column(columns.KEY)
    order = pc.sort_indices(keys)
    ordered = keys.take(order)
    if len(ordered) > 1 and pc.any(pc.equal(ordered.slice(1), ordered.slice(0, len(ordered) - 1))).as_py():
        raise _twice()
    step = max(1, BATCH_BYTES * table.num_rows // max(1, table.nbytes))
    for start in range(0, table.num_rows, step):
        yield from table.take(order.slice(start, step)).combine_chunks().to_batches()


def _merged(runs: list[Iterator[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """Merge sorted runs."""
    for window in windows(runs):
        parts = [part for part in window if part is not None]
        groups = Groups(parts)
        if len(groups.starts) != len(groups.order):
            raise _twice()
        joined = pa.concat_batches(parts)
        yield joined if len(parts) == 1 else joined.take(pa.array(groups.order))


def _spill(run: Iterator[pa.RecordBatch], stack: ExitStack) -> IO[bytes]:
    """Write a run into a temporary file."""
    first = next(run)
    try:
        file: IO[bytes] = stack.enter_context(tempfile.TemporaryFile(prefix="recollect-sort-"))  # noqa: SIM115
    except OSError as error:
        raise temporary_error("sorting records", error) from error
    try:
        with pa.ipc.new_stream(file, first.schema) as writer:
            writer.write_batch(first)
            for batch in run:
                writer.write_batch(batch)
        file.seek(0)
    except OSError as error:
        with suppress(OSError):
            file.close()  # it tries to write the rest once more, which must not hide the first error
        raise temporary_error("sorting records", error) from error
    return file


def _read(file: IO[bytes]) -> Iterator[pa.RecordBatch]:
    yield from pa.ipc.open_stream(file)


def _twice() -> IntegrityError:
    return IntegrityError("the source handed out a record twice", "run the backup again")
