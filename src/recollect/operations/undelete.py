"""Undelete: selected records of a snapshot, back into a collection that is in use.

Records go in batch by batch, each read back and compared, so a failure leaves the batches before it
restored and nothing else changed; the same call again goes on where it ended. Nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recollect.clock import Clock
from recollect.database.filter import Condition, accepts
from recollect.engines.base import Adapting, Editable, LiveCollection, Target
from recollect.errors import IntegrityError, NotFoundError, RequestError, UnsupportedError, VerificationError
from recollect.repository.repository import Repository
from recollect.segments.compare import Comparison, Difference, differences
from recollect.segments.reader import RunsReader
from recollect.values import batch as columns
from recollect.values.digest import digest_records
from recollect.values.event import OnEvent, Progress, ignore_events
from recollect.values.key import RecordId, decode_keys, display_key, encode_keys
from recollect.values.schema import layout_difference
from recollect.values.snapshot import CollectionEntry

BATCH_ROWS = 500
"""Records compared and written at once: what a failure can leave half done."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which records: those with one of these ids, and whose payload meets all conditions.

    Attributes:
        ids: None means any; with none of both, every record.
    """

    ids: tuple[RecordId, ...] | None = None
    conditions: tuple[Condition, ...] = ()


class UndeleteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to bring back, and where to.

    Attributes:
        target_name: Collection or alias to write into.
        existing: What to do with records that are there with other content: "keep" or "replace" them.
    """

    target_name: str
    selection: Selection
    existing: Literal["keep", "replace"] = "keep"


class UndeleteReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was selected, and what became of it; of a plan, what would become of it.

    Attributes:
        restored_count: Records that were missing, and are there now.
        replaced_count: Records with other content that now have the snapshot's.
        kept_count: Records with other content that were left as they are.
        same_count: Records that are as in the snapshot already.
        absent_ids: Wanted ids that the snapshot does not have.
    """

    collection: str
    target_name: str
    restored_count: int = 0
    replaced_count: int = 0
    kept_count: int = 0
    same_count: int = 0
    absent_ids: tuple[RecordId, ...] = ()
    duration_seconds: float = 0.0

    @property
    def selected_count(self) -> int:
        """Return how many records of the snapshot were selected."""
        return self.restored_count + self.replaced_count + self.kept_count + self.same_count


def plan(
    repository: Repository,
    entry: CollectionEntry,
    target: Target,
    *,
    options: UndeleteOptions,
    clock: Clock,
    on_event: OnEvent = ignore_events,
) -> UndeleteReport:
    """Tell what `apply` would do now. Changes nothing; raises what `apply` raises before it writes."""
    return _run(repository, entry, target, options, clock=clock, on_event=on_event, is_dry=True)


def apply(
    repository: Repository,
    entry: CollectionEntry,
    target: Target,
    *,
    options: UndeleteOptions,
    clock: Clock,
    on_event: OnEvent = ignore_events,
) -> UndeleteReport:
    """Bring the selected records back and prove each of them.

    Raises:
        NotFoundError: There is no such collection in the target, or nothing was selected.
        RequestError: The collection holds other vectors. UnsupportedError: The engine cannot do this.
        IntegrityError: What the snapshot stores is damaged.
        VerificationError: The engine gave a record back otherwise than it was written; names it.
    """
    return _run(repository, entry, target, options, clock=clock, on_event=on_event, is_dry=False)


def _run(
    repository: Repository,
    entry: CollectionEntry,
    target: Target,
    options: UndeleteOptions,
    *,
    clock: Clock,
    on_event: OnEvent,
    is_dry: bool,
) -> UndeleteReport:
    started = clock.monotonic()
    if not isinstance(target, Editable):
        raise UnsupportedError(
            f"{target.info().url} takes whole collections only",
            "restore the collection under another name, and copy records from there",
        )
    with target.edit(options.target_name) as live:
        difference = layout_difference(entry.schema, live.schema)
        if difference:
            raise RequestError(
                f"collection {options.target_name!r} in {target.info().url} holds other vectors than the "
                f"snapshot: {difference}",
                "restore the collection under another name with --collection NAME:NEWNAME",
            )
        job = _Job(entry, target, live, options, is_dry=is_dry)
        for records in _selected(repository, entry, options.selection):
            job.batch(records)
            on_event(Progress(stage="restore", subject=options.target_name, done=job.seen_count))
    return _report(job, entry, options, clock.monotonic() - started)


def _report(
    job: _Job, entry: CollectionEntry, options: UndeleteOptions, duration_seconds: float
) -> UndeleteReport:
    wanted = options.selection.ids or ()
    absent = tuple(each for each in dict.fromkeys(wanted) if each not in job.found_ids)
    if not job.seen_count:
        raise NotFoundError(
            f"collection {entry.name!r} of the snapshot has no record that was asked for",
            "see what differs: recollect diff latest LIVE --records",
        )
    return UndeleteReport(
        collection=entry.name,
        target_name=options.target_name,
        restored_count=job.restored_count,
        replaced_count=job.replaced_count,
        kept_count=job.kept_count,
        same_count=job.seen_count - job.restored_count - job.replaced_count - job.kept_count,
        # A record that the conditions rule out is not absent; without conditions every wanted one is found.
        absent_ids=() if options.selection.conditions else absent,
        duration_seconds=duration_seconds,
    )


class _Job:
    """Batches of one call and their counts."""

    def __init__(
        self,
        entry: CollectionEntry,
        target: Target,
        live: LiveCollection,
        options: UndeleteOptions,
        *,
        is_dry: bool,
    ) -> None:
        self.seen_count = self.restored_count = self.replaced_count = self.kept_count = 0
        self.found_ids: set[RecordId] = set()
        self._schema = entry.schema
        self._target = target
        self._live = live
        self._is_replacing = options.existing == "replace"
        self._remembers_ids = options.selection.ids is not None
        self._is_dry = is_dry

    def batch(self, stored: pa.RecordBatch) -> None:
        """Bring one batch into the collection."""
        records = stored
        if isinstance(self._target, Adapting):
            records = self._target.as_held(stored, self._schema)
        keys = records.column(columns.KEY)
        if self._remembers_ids:
            self.found_ids.update(decode_keys(keys))
        difference = self._difference(records)
        missing, other = difference.is_added, difference.is_changed
        chosen = missing | other if self._is_replacing else missing
        self.seen_count += records.num_rows
        self.restored_count += int(missing.sum())
        self.replaced_count += int(other.sum()) if self._is_replacing else 0
        self.kept_count += 0 if self._is_replacing else int(other.sum())
        if chosen.any() and not self._is_dry:
            wanted = records.filter(pa.array(chosen))
            self._live.upsert(wanted)
            self._prove(wanted)

    def _difference(self, records: pa.RecordBatch) -> Difference:
        """Compare records with what the collection holds under their keys; one window."""
        held = self._live.fetch(records.column(columns.KEY))
        before, after = digest_records(held, self._schema), digest_records(records, self._schema)
        found = list(
            differences(iter([before] if held.num_rows else []), iter([after]), self._schema, Comparison())
        )
        return _joined(found)

    def _prove(self, records: pa.RecordBatch) -> None:
        difference = self._difference(records)
        wrong = np.flatnonzero(difference.is_added | difference.is_changed)
        if len(wrong):
            key = records.column(columns.KEY)[int(wrong[0])].as_py()
            raise VerificationError(
                f"record {display_key(key)} was written, and the engine gives it back otherwise",
                "somebody else may be writing it; run the same command again",
            )


def _joined(windows: list[Difference]) -> Difference:
    """Join the windows of one comparison: their rows are those of the batch, in its order."""
    parts = [window for window in windows if window.after is not None]
    return Difference(
        after=None,
        is_added=np.concatenate([part.is_added for part in parts]),
        is_changed=np.concatenate([part.is_changed for part in parts]),
        differs={},
        removed=None,
    )


def _selected(
    repository: Repository, entry: CollectionEntry, selection: Selection
) -> Iterator[pa.RecordBatch]:
    """Yield the selected records in key order; segments that cannot hold a wanted id are not read."""
    runs, keys = entry.runs, None
    if selection.ids is not None:
        keys = pc.unique(encode_keys(list(selection.ids)))
        wanted = sorted(key.hex() for key in keys.to_pylist())
        runs = tuple(
            tuple(s for s in run if any(s.key_min <= key <= s.key_max for key in wanted))
            for run in entry.runs
        )
        runs = tuple(run for run in runs if run)
    for changes in RunsReader(repository, entry.schema, runs).live_changes():
        chosen = changes
        if keys is not None:
            chosen = chosen.filter(pc.is_in(chosen.column(columns.KEY), value_set=keys))
        if selection.conditions:
            payloads = chosen.column(columns.PAYLOAD).to_pylist()
            fits = [accepts(selection.conditions, each) for each in payloads]
            chosen = chosen.filter(pa.array(fits, pa.bool_()))
        for start in range(0, chosen.num_rows, BATCH_ROWS):
            yield _proven(chosen.slice(start, BATCH_ROWS), entry)


def _proven(changes: pa.RecordBatch, entry: CollectionEntry) -> pa.RecordBatch:
    """Return the records of changes after digesting their values anew.

    Raises:
        IntegrityError: A value is not the one whose digest the snapshot holds.
    """
    target = columns.record_schema(entry.schema)
    records = pa.RecordBatch.from_arrays([changes.column(name) for name in target.names], schema=target)
    found = digest_records(records, entry.schema)
    for name in columns.digest_columns(entry.schema):
        if not found.column(name).equals(changes.column(name)):
            raise IntegrityError(
                f"a {columns.value_column(name)} of collection {entry.name!r} is not what was backed up",
                "run `recollect verify --read-data`",
            )
    return records
