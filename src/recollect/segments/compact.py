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
    """The runs to list, and the bytes that merging added to the repository.

    Attributes:
        base_runs: How many of the first runs are the base together.
    """

    runs: tuple[Run, ...]
    base_runs: int = 1
    added_bytes: int = 0


def compact_runs(
    runs: tuple[Run, ...],
    schema: CollectionSchema,
    repository: Repository,
    *,
    executor: Executor,
    limits: CompactionLimits,
    base_runs: int = 1,
) -> CompactedRuns:
    """Merge neighbouring runs until the policy is content; the records stay exactly the same.

    The first `base_runs` runs share no key: to the policy they are one, and they are merged only together.
    """
    added_bytes = 0
    while plan := plan_compaction(_facts(runs, base_runs), limits):
        start = plan.start + base_runs - 1 if plan.start else 0
        end = plan.end + base_runs - 1
        merged = RunsReader(repository, schema, runs[start:end])
        changes = merged.live_changes() if plan.drops_tombstones else merged.changes()
        written = write_run(changes, schema, repository, executor=executor)
        added_bytes += written.added_bytes
        middle = (written.run,) if written.run else ()
        runs = (*runs[:start], *middle, *runs[end:])
        base_runs = base_runs if plan.start else 1
    return CompactedRuns(runs=runs, base_runs=base_runs, added_bytes=added_bytes)


def _facts(runs: tuple[Run, ...], base_runs: int) -> list[RunFacts]:
    facts = _facts_of_each(runs)
    base = facts[:base_runs]
    if len(base) < 2:
        return facts
    together = RunFacts(
        row_count=sum(run.row_count for run in base),
        dead_count=min(sum(run.row_count for run in base), sum(_deletes(run) for run in runs)),
        byte_size=sum(run.byte_size for run in base),
    )
    return [together, *facts[base_runs:]]


def _facts_of_each(runs: tuple[Run, ...]) -> list[RunFacts]:
    rows = [sum(segment.row_count for segment in run) for run in runs]
    deletes = [_deletes(run) for run in runs]
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


def _deletes(run: Run) -> int:
    return sum(segment.delete_count for segment in run)
