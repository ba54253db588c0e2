"""Scan a collection: batches of records in key order, with digests and progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc

from recollect.engines.base import (
    Capabilities,
    Capturing,
    CollectionDescription,
    FileKeeper,
    SourceView,
)
from recollect.errors import IntegrityError, UnsupportedError
from recollect.segments.sort import sorted_by_key
from recollect.values import batch as columns
from recollect.values.digest import digest_records
from recollect.values.event import OnEvent, Progress


@contextmanager
def held(
    view: SourceView, name: str, *, keeper: FileKeeper | None = None, anew: bool = False
) -> Iterator[CollectionDescription]:
    """Hold one collection as well as its source can, until the context ends.

    Raises:
        UnsupportedError: Its files are to be stored, and the source has none to give.
    """
    if isinstance(view, Capturing):
        with view.capture(name, keeper=keeper, anew=anew) as description:
            yield description
        return
    if keeper is not None:
        raise UnsupportedError(
            f"the source of {name!r} gives out no files of its own", "back up without --physical"
        )
    yield view.describe(name)


def digested(
    view: SourceView, description: CollectionDescription, capabilities: Capabilities, on_event: OnEvent
) -> Iterator[pa.RecordBatch]:
    """Yield all records of a collection as upserts that carry all values and digests, ascending by key."""
    records = view.scan(description.name, batch_rows=columns.BATCH_ROWS)
    done = 0
    for batch in in_key_order(records, capabilities):
        yield digest_records(batch, description.schema)
        done += batch.num_rows
        total = max(done, description.record_count)
        on_event(Progress(stage="scan", subject=description.name, done=done, total=total))


def in_key_order(records: Iterator[pa.RecordBatch], capabilities: Capabilities) -> Iterator[pa.RecordBatch]:
    """Yield records strictly ascending by key: as they come, or through an external merge sort.

    Bounded memory.

    Raises:
        IntegrityError: The engine handed out a record twice, or broke the order that it promised.
    """
    return _checked(records) if capabilities.ordered_scan else sorted_by_key(records)


def _checked(records: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Pass on batches that ascend; everything behind this relies on it."""
    last_key = b""
    for batch in records:
        if batch.num_rows:
            keys = batch.column(columns.KEY)
            ascends = keys[0].as_py() > last_key and pc.all(pc.less(keys[:-1], keys[1:])).as_py() is not False
            if not ascends:
                raise IntegrityError(
                    "the source handed out records out of key order, or one of them twice",
                    "run the command again; if that happens again, report a bug of the engine's adapter",
                )
            last_key = keys[-1].as_py()
        yield batch
