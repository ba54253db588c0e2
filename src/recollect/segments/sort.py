"""External merge sort: key order for streams that come in any order, in bounded memory.

Sorted runs spill to temporary Arrow files, which are merged window by window. The files
are unlinked from the start where the system allows it, so a crash leaves none.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc

from recollect.errors import IntegrityError, StorageFullError, UnavailableError
from recollect.segments.merge import Groups, windows
from recollect.values import batch as columns

SPILL_BYTES = 64 * 1024 * 1024
"""Bytes gathered before a sorted run is spilled; the memory that sorting takes, times two."""
SPILL_BATCH_ROWS = 2048


def sorted_by_key(
    batches: Iterator[pa.RecordBatch], *, spill_bytes: int = SPILL_BYTES
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of all batches strictly ascending by key.

    Raises:
        IntegrityError: A key came twice.
        StorageFullError: The temporary directory is full; UnavailableError: it fails otherwise.
    """
    with ExitStack() as stack:
        spilled: list[Iterator[pa.RecordBatch]] = []
        pending: list[pa.RecordBatch] = []
        for batch in batches:
            pending.append(batch)
            if sum(part.nbytes for part in pending) >= spill_bytes:
                spilled.append(_spill(pending, stack))
                pending = []
        if pending:
            spilled.append(iter(_sorted(pending).to_batches(max_chunksize=SPILL_BATCH_ROWS)))
        for window in windows(spilled):
            yield _merged([part for part in window if part is not None])


def _merged(parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    groups = Groups(parts)
    if len(groups.starts) != len(groups.order):
        raise IntegrityError("the source handed out a record twice", "run the backup again")
    joined = pa.concat_batches(parts)
    return joined if len(parts) == 1 else joined.take(pa.array(groups.order))


def _sorted(batches: list[pa.RecordBatch]) -> pa.Table:
    table = pa.Table.from_batches(batches)
    ordered = table.take(pc.sort_indices(table.column(columns.KEY)))
    keys = ordered.column(columns.KEY)
    if len(keys) > 1 and pc.any(pc.equal(keys.slice(1), keys.slice(0, len(keys) - 1))).as_py():
        raise IntegrityError("the source handed out a record twice", "run the backup again")
    return ordered.combine_chunks()


def _spill(batches: list[pa.RecordBatch], stack: ExitStack) -> Iterator[pa.RecordBatch]:
    ordered = _sorted(batches)
    try:
        file: IO[bytes] = stack.enter_context(tempfile.TemporaryFile(prefix="recollect-sort-"))  # noqa: SIM115
    except OSError as error:
        raise _spill_error(error) from error
    try:
        with pa.ipc.new_stream(file, ordered.schema) as writer:
            writer.write_table(ordered, max_chunksize=SPILL_BATCH_ROWS)
        file.seek(0)
    except OSError as error:
        with suppress(OSError):
            file.close()  # it tries to write the rest once more, which must not hide the first error
        raise _spill_error(error) from error
    return iter(pa.ipc.open_stream(file))


def _spill_error(error: OSError) -> UnavailableError:
    kind = StorageFullError if error.errno in {errno.ENOSPC, errno.EDQUOT} else UnavailableError
    return kind(
        f"sorting records in the temporary directory: {error.strerror}",
        "free some space, or set TMPDIR to a larger disk",
    )
