"""Which runs of a collection to merge, so that reading stays quick and writing stays cheap.

A collection in a snapshot is a list of runs, oldest first: a *base* (run 0, as a rule most
of the records) and deltas. Two forces: many runs make every read a wide merge, and merging
writes bytes again that did not change. Hence two rules:

- **Base**: merge everything into one run when that is paid for: when half of the base's rows
  are dead, or the deltas weigh half as much as the base. So a byte of change costs at most
  about three bytes of base written again.
- **Deltas**: when there are more runs than allowed, merge the youngest ones, from the place
  where the merge multiplies the size of its largest member most. A byte that is written again
  then stands in a run several times as large, so it is not written again often: about
  logarithmically in the bytes appended.

Only neighbours are merged, so the order of changes stays what it was. A merge from run 0 on
may drop tombstones: nothing older is left that they could hide.

Source: O'Neil et al., "The log-structured merge-tree" (1996) for tiers; the growth rule is ours
and tests/policy/test_compaction.py bounds what it costs.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

RUNS_MAX = 16
"""Runs that a snapshot lists at most. A read merges that many streams, one row group of each in memory."""


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What compaction needs to know of a run.

    Attributes:
        row_count: Rows, tombstones included.
        dead_count: Rows that a newer run replaces or deletes; an estimate from below will do.
        byte_size: Stored bytes of all its objects.
    """

    row_count: int
    dead_count: int = 0
    byte_size: int


class CompactionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """When merging is worth its bytes.

    Attributes:
        runs_max: Runs that may remain; at least 2.
        dead_share_max: Share of the base's rows that may be dead.
        delta_share_max: Bytes of all deltas, as a share of the base's bytes.
    """

    runs_max: int = RUNS_MAX
    dead_share_max: float = 0.5
    delta_share_max: float = 0.5


class CompactionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Merge the runs `[start, end)` into one, in their place.

    Attributes:
        drops_tombstones: The merge begins at the base, so deletes and what they hide can go.
        reason: For people.
    """

    start: int
    end: int
    drops_tombstones: bool
    reason: str


DEFAULT_LIMITS = CompactionLimits()


def plan_compaction(
    runs: Sequence[RunFacts], limits: CompactionLimits = DEFAULT_LIMITS
) -> CompactionPlan | None:
    """Choose one contiguous slice of runs (oldest first) to merge; None when all is well.

    Apply the plan and ask again until None: every plan leaves fewer runs, and afterwards there
    are at most `runs_max`. Deterministic: equal facts give equal plans.
    """
    assert limits.runs_max >= 2, "a base and one delta are the least that a snapshot can list"
    reason = _reason_to_rewrite_base(runs, limits)
    if reason:
        return CompactionPlan(start=0, end=len(runs), drops_tombstones=True, reason=reason)
    if len(runs) <= limits.runs_max:
        return None
    reason = f"{len(runs)} runs, at most {limits.runs_max} are wanted"
    return CompactionPlan(start=_first_to_merge(runs), end=len(runs), drops_tombstones=False, reason=reason)


def _reason_to_rewrite_base(runs: Sequence[RunFacts], limits: CompactionLimits) -> str:
    """Say why the base should be written again; empty when it should not."""
    if len(runs) < 2:
        return ""
    base = runs[0]
    delta_bytes = sum(run.byte_size for run in runs[1:])
    if base.dead_count > limits.dead_share_max * base.row_count:
        return f"{base.dead_count} of the base's {base.row_count} rows are dead"
    if delta_bytes > limits.delta_share_max * base.byte_size:
        return f"deltas of {delta_bytes} bytes on a base of {base.byte_size}"
    return ""


def _first_to_merge(runs: Sequence[RunFacts]) -> int:
    """Return the delta from which on to merge: where the largest member grows most, then the youngest."""
    best, best_growth = len(runs) - 2, 0.0
    total = largest = max(runs[-1].byte_size, 1)
    for index in range(len(runs) - 2, 0, -1):
        size = max(runs[index].byte_size, 1)
        total += size
        largest = max(largest, size)
        if total / largest > best_growth:
            best, best_growth = index, total / largest
    return best
