"""Merge runs of a collection when its snapshot would list too many, or too many dead rows.

Only the snapshot being written gets the merged run; older snapshots keep the runs they list.
"""

from __future__ import annotations

from concurrent.futures import Executor

import msgspec

from recollect.policy.compaction import CompactionLimits, RunFacts, plan_compaction
from recollect.repository.repository import Repository
from recollect.segments.reader import RunsReader
from recollect.segments.writer import write_run
from recollect.values.schema import CollectionSchema
from recollect.values.snapshot import Run


class CompactedRuns(msgspec.Struct, frozen=True, kw_only=True):
    """The runs to list, and the bytes that merging added to the repository."""

    runs: tuple[Run, ...]
    added_bytes: int = 0


def compact_runs(
    runs: tuple[Run, ...],
    schema: CollectionSchema,
    repository: Repository,
    *,
    executor: Executor,
    limits: CompactionLimits,
) -> CompactedRuns:
    """Merge neighbouring runs until the policy is content; the records stay exactly the same."""
    added_bytes = 0
    while plan := plan_compaction(_facts(runs), limits):
        merged = RunsReader(repository, schema, runs[plan.start : plan.end])
        changes = merged.live_changes() if plan.drops_tombstones else merged.changes()
        written = write_run(changes, schema, repository, executor=executor)
        added_bytes += written.added_bytes
        middle = (written.run,) if written.run else ()
        runs = (*runs[: plan.start], *middle, *runs[plan.end :])
    return CompactedRuns(runs=runs, added_bytes=added_bytes)


def _facts(runs: tuple[Run, ...]) -> list[RunFacts]:
    rows = [sum(segment.row_count for segment in run) for run in runs]
    deletes = [sum(segment.delete_count for segment in run) for run in runs]
    # Each tombstone hides at least one older row; which of the replaced rows lie in the base is not known.
    dead_in_base = min(rows[0], sum(deletes)) if rows else 0
    return [
        RunFacts(
            row_count=rows[number],
            dead_count=dead_in_base if number == 0 else 0,
            byte_size=sum(reference.byte_size for segment in run for reference in segment.objects()),
        )
        for number, run in enumerate(runs)
    ]
