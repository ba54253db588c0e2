"""Restore: snapshot → records → a staged collection → proof → switch. All or nothing.

Order: every object that is needed is read and checked before the target is touched;
every collection is written under a temporary name and compared with the snapshot,
record by record; only when all of them are equal are they switched into place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Literal, TypeAlias

import msgspec
import pyarrow as pa

from recollect.clock import Clock
from recollect.engines.base import Adapting, FileTarget, StagedCollection, Target
from recollect.errors import (
    ConflictError,
    IntegrityError,
    NotFoundError,
    RequestError,
    UnavailableError,
    VerificationError,
)
from recollect.operations.restore_files import load_files, upserts_since
from recollect.operations.restore_plan import Method, Wanted, Way, choose_way, needed_objects
from recollect.operations.scan import in_key_order
from recollect.pipeline import map_ordered
from recollect.repository.repository import Repository
from recollect.segments.compare import Comparison, Difference, differences
from recollect.segments.reader import RunsReader
from recollect.values import batch as columns
from recollect.values.digest import digest_records
from recollect.values.event import Note, OnEvent, Progress, ignore_events
from recollect.values.fingerprint import Fingerprint, fingerprint_batch
from recollect.values.key import display_key
from recollect.values.schema import CollectionSchema, layout_difference
from recollect.values.snapshot import CollectionEntry, ObjectRef, Snapshot

Existing: TypeAlias = Literal["refuse", "replace"]
CHECK_WORKERS = 2
CHECK_WINDOW = 4


class RestoreOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to restore, and whether it may take the place of something.

    Attributes:
        collections: Pairs of the name in the snapshot and the name in the target; empty means all, as named.
        existing: What to do with a collection of that name: "refuse" it, or "replace" it.
        way: By "records", by the engine's own "files", or "auto"; see `restore_plan`.
    """

    collections: tuple[tuple[str, str], ...] = ()
    existing: Existing = "refuse"
    way: Wanted = "auto"


class RestoreStep(msgspec.Struct, frozen=True, kw_only=True):
    """One collection of a plan.

    Attributes:
        action: "create", or "replace" when something stands there now.
        replaced_count: Records that stand there now.
        stored_bytes: Bytes to read from the repository.
        way: How it is filled, and what that costs.
    """

    entry: CollectionEntry
    target_name: str
    action: Literal["create", "replace"]
    replaced_count: int
    stored_bytes: int
    way: Way


class RestorePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore would do."""

    snapshot: Snapshot
    target_url: str
    steps: tuple[RestoreStep, ...]


class RestoredCollection(msgspec.Struct, frozen=True, kw_only=True):
    """One restored collection and its proof.

    Attributes:
        fingerprint: Read back from the target.
        expected: Of the snapshot, or of the adapted records where `adapted_count` is not 0.
        adapted_count: Records that the target cannot hold as they are (an absent payload that becomes an
            empty one, a vector that is scaled to unit length); they were compared as the target holds them.
        method: Of the `Way` that it came back in.
    """

    name: str
    target_name: str
    record_count: int
    fingerprint: str
    expected: str
    is_match: bool
    adapted_count: int = 0
    method: Method = "records"


class RestoreReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore did; every collection in it matched."""

    snapshot_id: str
    target_url: str
    collections: tuple[RestoredCollection, ...]
    duration_seconds: float


def plan(
    snapshot: Snapshot, target: Target, *, options: RestoreOptions, history: Sequence[Snapshot] = ()
) -> RestorePlan:
    """Decide what to restore, how, and check that the target can take it. Reads only.

    Files of the snapshots in `history` may serve, besides the snapshot's own.

    Raises:
        NotFoundError: The snapshot has no such collection.
        ConflictError: Something stands in the place, and `existing` is "refuse".
        RequestError: Something stands there and holds other vectors; or two go to one name.
        UnsupportedError: The engine cannot hold such a collection, or files are wanted and cannot be had.
    """
    entries = {entry.name: entry for entry in snapshot.collections}
    wanted = tuple(_with_parts(options.collections, entries)) or tuple((name, name) for name in entries)
    names = [target_name for _, target_name in wanted]
    if len(set(names)) != len(names):
        raise RequestError(
            f"two collections would be restored to one name: {', '.join(names)}",
            "give each a name of its own: --collection NAME:NEWNAME",
        )
    steps = []
    for name, target_name in wanted:
        if name not in entries:
            raise NotFoundError(
                f"snapshot {snapshot.id} has no collection {name!r}; it has: {', '.join(entries)}",
                f"see `recollect show {snapshot.id}`",
            )
        way = choose_way(entries[name], snapshot, history, target, options.way)
        steps.append(_step(entries[name], target_name, target, options, way))
    return RestorePlan(snapshot=snapshot, target_url=target.info().url, steps=tuple(steps))


def apply(
    plan: RestorePlan,
    repository: Repository,
    target: Target,
    *,
    clock: Clock,
    on_event: OnEvent = ignore_events,
) -> RestoreReport:
    """Carry out a plan. On any failure before the first switch, Ctrl-C included, the target is as it was.

    Collections are switched one after the other: if the engine fails at a later one, those before it
    are in place, each of them complete and proven.

    Raises:
        IntegrityError: A stored object is damaged or missing, or the records are not those that the
            snapshot's fingerprint was taken of; the target was not touched.
        ConflictError: Something stands now where the plan found nothing; it was not replaced.
        VerificationError: What the target holds is not what was stored; names the first record.
    """
    started = clock.monotonic()
    _check_objects(plan, repository, on_event)
    _check_fingerprints(plan, repository)
    _check_places(plan, target)
    staged: list[StagedCollection] = []
    restored: list[RestoredCollection] = []
    with ExitStack() as stack:
        for step in plan.steps:
            collection, result = _restore(step, target, repository, stack, on_event)
            staged.append(collection)
            restored.append(result)
        _check_places(plan, target)  # writing may have taken hours
        for collection in staged:
            collection.switch()
    return RestoreReport(
        snapshot_id=plan.snapshot.id,
        target_url=plan.target_url,
        collections=tuple(restored),
        duration_seconds=clock.monotonic() - started,
    )


def _with_parts(
    collections: tuple[tuple[str, str], ...], entries: Mapping[str, CollectionEntry]
) -> Iterator[tuple[str, str]]:
    """Replace a collection that is stored in parts (`NAME/…`) by its parts."""
    for name, target_name in collections:
        parts = [entry for entry in entries if entry.startswith(f"{name}/")]
        if name in entries or not parts:
            yield name, target_name
            continue
        for part in parts:
            yield part, target_name + part.removeprefix(name)


def _restore(
    step: RestoreStep, target: Target, repository: Repository, stack: ExitStack, on_event: OnEvent
) -> tuple[StagedCollection, RestoredCollection]:
    """Stage and fill one collection; where files fail that nobody insisted on, by its records after all."""
    base = step.way.base
    if base is not None and isinstance(target, FileTarget):
        staged = target.stage_files(step.target_name, step.entry.schema, _aliases(step), base.entry.schema)
        stack.callback(staged.discard)
        try:
            load_files(staged, base, repository, on_event)
            batches = upserts_since(base, step.entry, repository, staged)
            staged.expect(step.entry.record_count)
            filled = _fill(step, staged, batches, target, repository, on_event=on_event)
            return staged, msgspec.structs.replace(filled, method="files")
        except (RequestError, UnavailableError, VerificationError) as error:
            if step.way.is_wanted:
                raise
            message = f"{step.target_name}: files could not be used, restoring records: {error}"
            on_event(Note(message=message))
            staged.discard()
    collection = target.stage(step.target_name, step.entry.schema, _aliases(step))
    stack.callback(collection.discard)
    records = RunsReader(repository, step.entry.schema, step.entry.runs).records()
    return collection, _fill(step, collection, records, target, repository, on_event=on_event)


def _step(
    entry: CollectionEntry, target_name: str, target: Target, options: RestoreOptions, way: Way
) -> RestoreStep:
    target.check_schema(entry.schema)
    found = target.find(target_name)
    if found is not None and options.existing == "refuse":
        difference = layout_difference(entry.schema, found.schema)
        if difference:
            raise RequestError(
                f"collection {target_name!r} in {target.info().url} holds other vectors than the snapshot: "
                f"{difference}",
                "restore under another name (--collection NAME:NEWNAME), or add --replace",
            )
        if found.record_count:
            raise ConflictError(
                f"collection {target_name!r} in {target.info().url} is not empty: "
                f"{found.record_count} records",
                "restore under another name (--collection NAME:NEWNAME), or add --replace",
            )
    return RestoreStep(
        entry=entry,
        target_name=target_name,
        action="create" if found is None else "replace",
        replaced_count=found.record_count if found else 0,
        stored_bytes=way.estimate.read_bytes,
        way=way,
    )


def _aliases(step: RestoreStep) -> tuple[str, ...]:
    """Bring aliases back only with the name they belonged to: a renamed copy must not take them over."""
    return step.entry.aliases if step.target_name == step.entry.name else ()


def _check_objects(plan: RestorePlan, repository: Repository, on_event: OnEvent) -> None:
    """Read every object that the plan needs and compare it with its name."""
    references = sorted(
        {reference for step in plan.steps for reference in needed_objects(step.entry, step.way.base)},
        key=lambda reference: reference.digest,
    )

    def check(reference: ObjectRef) -> int:
        return len(repository.get_object(reference))

    with ThreadPoolExecutor(CHECK_WORKERS) as executor:
        checked = map_ordered(check, references, executor=executor, window=CHECK_WINDOW)
        for number, _ in enumerate(checked, start=1):
            on_event(
                Progress(stage="check", subject="objects", done=number, total=len(references), unit="objects")
            )


def _check_fingerprints(plan: RestorePlan, repository: Repository) -> None:
    """Make sure that the segments together are the records that the snapshot speaks of; reads no vector."""
    for entry in {step.entry.name: step.entry for step in plan.steps}.values():
        found = Fingerprint()
        for batch in RunsReader(repository, entry.schema, entry.runs).index():
            found += fingerprint_batch(batch)
        if str(found) != entry.fingerprint:
            raise IntegrityError(
                f"the stored records of {entry.name!r} read as {found}, but snapshot {plan.snapshot.id} "
                f"has the fingerprint {entry.fingerprint}; the target was not touched",
                "run `recollect verify --read-data`, then restore another snapshot",
            )


def _check_places(plan: RestorePlan, target: Target) -> None:
    """Make sure that nothing is replaced that the plan did not show."""
    for step in plan.steps:
        found = None if step.replaced_count else target.find(step.target_name)
        if found is not None and (step.action == "create" or found.record_count):
            raise ConflictError(
                f"collection {step.target_name!r} appeared or was filled in {plan.target_url} "
                f"since the restore was planned: {found.record_count} records; they were not touched",
                "run the restore again, under another name or with --replace",
            )


def _fill(
    step: RestoreStep,
    staged: StagedCollection,
    batches: Iterator[pa.RecordBatch],
    target: Target,
    repository: Repository,
    *,
    on_event: OnEvent,
) -> RestoredCollection:
    """Write records into one collection's staging place and compare what it holds then."""
    entry = step.entry
    reader = RunsReader(repository, entry.schema, entry.runs)
    written, adapted_count = 0, 0
    for records in batches:
        held = _as_held(records, target, step)
        adapted_count += _changed_rows(records, held, entry.schema)
        staged.write(held)
        written += held.num_rows
        on_event(Progress(stage="write", subject=step.target_name, done=written, total=entry.record_count))
    staged.finish()
    expected = reader.index()
    if adapted_count:
        adapted = (_as_held(records, target, step) for records in reader.records())
        expected = (digest_records(records, entry.schema) for records in adapted)
    totals = _compare(step, expected, _read_back(step, staged, target, on_event))
    return RestoredCollection(
        name=entry.name,
        target_name=step.target_name,
        record_count=totals.after.record_count,
        fingerprint=str(totals.after),
        expected=str(totals.before),
        is_match=totals.after == totals.before,
        adapted_count=adapted_count,
    )


def _as_held(records: pa.RecordBatch, target: Target, step: RestoreStep) -> pa.RecordBatch:
    return target.as_held(records, step.entry.schema) if isinstance(target, Adapting) else records


def _changed_rows(records: pa.RecordBatch, held: pa.RecordBatch, schema: CollectionSchema) -> int:
    """Count the records that the target's rules changed."""
    if held is records:
        return 0
    totals = Comparison()
    before, after = digest_records(records, schema), digest_records(held, schema)
    for _ in differences(iter([before]), iter([after]), schema, totals):
        pass
    return totals.changed


def _read_back(
    step: RestoreStep, staged: StagedCollection, target: Target, on_event: OnEvent
) -> Iterator[pa.RecordBatch]:
    done = 0
    for records in in_key_order(staged.scan(batch_rows=columns.BATCH_ROWS), target.capabilities):
        yield digest_records(records, step.entry.schema)
        done += records.num_rows
        on_event(Progress(stage="verify", subject=step.target_name, done=done, total=step.entry.record_count))


def _compare(
    step: RestoreStep, expected: Iterator[pa.RecordBatch], found: Iterator[pa.RecordBatch]
) -> Comparison:
    totals = Comparison()
    for difference in differences(expected, found, step.entry.schema, totals):
        example = _first_key(difference)
        if example is not None:
            raise VerificationError(
                f"record {display_key(example)} of {step.target_name!r} is not what the snapshot holds; "
                "the restored collection was discarded and nothing was changed",
                "run `recollect verify --read-data`; if that finds nothing, report a bug",
            )
    return totals


def _first_key(difference: Difference) -> bytes | None:
    """Return the smallest key that differs in one window, or None."""
    keys = []
    after = difference.after
    if after is not None and (difference.is_added | difference.is_changed).any():
        mask = pa.array(difference.is_added | difference.is_changed)
        keys.append(after.column(columns.KEY).filter(mask)[0].as_py())
    if difference.removed is not None:
        keys.append(difference.removed.column(columns.KEY)[0].as_py())
    return min(keys, default=None)
