"""Write a checkpoint: what changed since the one before, as one run a collection, then the snapshot.

Objects first, the snapshot last: a crash leaves the checkpoint before. The cost is that of the changes,
plus reading the keys and digests (not the values) that the parent has of the vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from recollect.catalog.catalog import Catalog
from recollect.clock import Clock
from recollect.database.checkpoint.records import (
    EVENTS,
    PAYLOAD_ONLY,
    STATE,
    EventRecords,
    Keyed,
    Pause,
    change_feed,
    collect,
    state_fetcher,
    state_keys,
    vector_fetcher,
)
from recollect.database.tables import FrozenTables
from recollect.pipeline import CallerExecutor
from recollect.policy.compaction import CompactionLimits
from recollect.repository.lease import hold_writer_lease
from recollect.repository.repository import Repository
from recollect.segments.compact import compact_runs
from recollect.segments.compare import Comparison, changes_from_feed
from recollect.segments.reader import RunsReader
from recollect.segments.writer import write_run
from recollect.values import batch as columns
from recollect.values.fingerprint import Fingerprint, parse_fingerprint
from recollect.values.schema import CollectionSchema
from recollect.values.snapshot import CollectionEntry, Snapshot
from recollect.values.ulid import RandomBytes, new_ulid

ENGINE = "recollect"
COMMIT_TS = "commit_ts"
COMMIT_TIME_US = "commit_time_us"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Labels(NamedTuple):
    """What a snapshot says about itself besides its content."""

    source: str
    name: str
    description: str
    tool_version: str


class _Feed(NamedTuple):
    """The changes of one collection.

    Attributes:
        touches_old: Changes may replace or delete records of the parent; otherwise all keys are new.
    """

    schema: CollectionSchema
    keyed: Keyed
    changes: Iterator[pa.RecordBatch]
    touches_old: bool


def write_checkpoint(
    frozen: FrozenTables,
    parent: Snapshot | None,
    repository: Repository,
    *,
    labels: Labels,
    clock: Clock,
    random_bytes: RandomBytes,
    pause: Pause,
) -> Snapshot:
    """Store frozen tables as a snapshot.

    `frozen` holds what changed since `parent`; without a parent it holds everything.
    """
    started = clock.monotonic()
    created_at = clock.now()
    with hold_writer_lease(
        repository.store, purpose="checkpoint", clock=clock, random_bytes=random_bytes
    ) as lease:
        old = {} if parent is None else {entry.name: entry for entry in parent.collections}
        job = _Job(repository, CallerExecutor(), pause)  # a second thread would take a writer's core
        written = [
            job.collection(name, feed, None if name in frozen.dropped else old.get(name), frozen.commit_ts)
            for name, feed in _feeds(frozen, pause)
        ]
        snapshot = Snapshot(
            id=new_ulid(created_at, random_bytes),
            created_at=created_at,
            engine=ENGINE,
            engine_version=labels.tool_version,
            source=labels.source,
            tool_version=labels.tool_version,
            parent=None if parent is None else parent.id,
            name=labels.name,
            description=labels.description,
            collections=tuple(sorted((entry for entry, _ in written), key=lambda entry: entry.name)),
            stored_bytes=sum(added for _, added in written),
            duration_seconds=round(clock.monotonic() - started, 3),
            extra=facts(frozen),
        )
        Catalog(repository).commit(snapshot, lease)
    return snapshot


def facts(frozen: FrozenTables) -> dict[str, Any]:
    """Return what the snapshot of frozen tables carries in `extra`."""
    return {COMMIT_TS: frozen.commit_ts, COMMIT_TIME_US: frozen.time_us}


def commit_time(time_us: int) -> datetime:
    """Return the time of a commit."""
    return _EPOCH + timedelta(microseconds=time_us)


def microseconds(time: datetime) -> int:
    """Return a time as commits carry it: microseconds since 1970."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def _feeds(frozen: FrozenTables, pause: Pause) -> Iterator[tuple[str, _Feed]]:
    for name, vectors in sorted(frozen.vectors.items()):
        keyed = collect(vectors.changes, pause)
        fetch = vector_fetcher(vectors.schema, vectors.blocks, vectors.metadata)
        changes = change_feed(keyed, fetch, vectors.schema, pause)
        yield name, _Feed(vectors.schema, keyed, changes, touches_old=True)
    is_all = frozen.events.edges.is_all_changed
    events = EventRecords(frozen.events, frozen.events.contexts, all_items=is_all)
    keyed = collect(events.pairs(), pause)
    changes = change_feed(keyed, events.fetch, PAYLOAD_ONLY, pause)
    yield EVENTS, _Feed(PAYLOAD_ONLY, keyed, changes, touches_old=True)
    state = frozen.state
    keyed = collect(state_keys(state.table, state.start, state.end), pause)
    changes = change_feed(keyed, state_fetcher(state.table), PAYLOAD_ONLY, pause)
    yield STATE, _Feed(PAYLOAD_ONLY, keyed, changes, touches_old=False)


class _Job:
    """One checkpoint under way."""

    def __init__(self, repository: Repository, executor: Executor, pause: Pause) -> None:
        self._repository = repository
        self._executor = executor
        self._pause = pause

    def collection(
        self, name: str, feed: _Feed, parent: CollectionEntry | None, commit_ts: int
    ) -> tuple[CollectionEntry, int]:
        """Store the changes of one collection; return its entry and the bytes that were added."""
        runs = () if parent is None else parent.runs
        totals = Comparison()
        old = RunsReader(self._repository, feed.schema, runs)
        touched = _rows_of(old.index(), feed.keyed.keys, self._pause) if feed.touches_old else iter(())
        changes = changes_from_feed(touched, feed.changes, feed.schema, totals)
        written = write_run(changes, feed.schema, self._repository, executor=self._executor)
        compacted = compact_runs(
            (*runs, written.run) if written.run else runs,
            feed.schema,
            self._repository,
            executor=self._executor,
            limits=CompactionLimits(),
        )
        before = Fingerprint() if parent is None else parse_fingerprint(parent.fingerprint)
        after = before - totals.before + totals.after
        entry = CollectionEntry(
            name=name,
            schema=feed.schema,
            record_count=after.record_count,
            fingerprint=str(after),
            position=str(commit_ts),
            changes=totals.changes,
            runs=compacted.runs,
        )
        return entry, written.added_bytes + compacted.added_bytes


def _rows_of(index: Iterator[pa.RecordBatch], keys: pa.BinaryArray, pause: Pause) -> Iterator[pa.RecordBatch]:
    """Pick the rows of an index whose keys are among `keys`; both ascend."""
    if not len(keys):
        return
    start = 0
    for batch in index:
        end = _count_up_to(keys, batch.column(columns.KEY)[-1].as_py(), start)
        if end > start:
            mask = pc.is_in(batch.column(columns.KEY), value_set=keys.slice(start, end - start))
            found = batch.filter(mask)
            if found.num_rows:
                yield found
        start = end
        pause()
        if start == len(keys):
            return


def _count_up_to(keys: pa.BinaryArray, bound: bytes, low: int) -> int:
    """Count the keys up to and including `bound`; at least `low` are known to be."""
    high = len(keys)
    while low < high:
        middle = (low + high) // 2
        if keys[middle].as_py() <= bound:
            low = middle + 1
        else:
            high = middle
    return low
