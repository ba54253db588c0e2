from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recollect.policy.compaction import CompactionLimits, RunFacts, plan_compaction

run_facts = st.builds(
    lambda rows, dead, size: RunFacts(row_count=rows, dead_count=min(dead, rows), byte_size=size),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**9),
)


def merge(runs: list[RunFacts], start: int, end: int) -> list[RunFacts]:
    """Merge as a writer would that finds no key twice; a merge from the base leaves nothing dead."""
    chosen = runs[start:end]
    dead = 0 if start == 0 else sum(run.dead_count for run in chosen)
    rows = sum(run.row_count for run in chosen)
    merged = RunFacts(row_count=rows, dead_count=dead, byte_size=sum(run.byte_size for run in chosen))
    return [*runs[:start], merged, *runs[end:]]


def settle(runs: list[RunFacts], limits: CompactionLimits) -> tuple[list[RunFacts], int]:
    """Apply plans until there is none; return the runs and the bytes written."""
    written = 0
    while plan := plan_compaction(runs, limits):
        fewer = merge(runs, plan.start, plan.end)
        assert len(fewer) < len(runs)
        written += fewer[plan.start].byte_size
        runs = fewer
    return runs, written


@given(st.lists(run_facts, max_size=60), st.integers(2, 20))
def test_applying_plans_until_none_leaves_at_most_runs_max(runs: list[RunFacts], runs_max: int) -> None:
    limits = CompactionLimits(runs_max=runs_max)

    settled, _ = settle(runs, limits)

    assert len(settled) <= runs_max


@given(st.lists(run_facts, max_size=60))
def test_a_plan_is_a_slice_up_to_the_youngest_run_and_drops_tombstones_only_from_the_base(
    runs: list[RunFacts],
) -> None:
    plan = plan_compaction(runs)

    if plan is not None:
        assert 0 <= plan.start < plan.end - 1
        assert plan.end == len(runs)
        assert plan.drops_tombstones == (plan.start == 0)
        assert plan.reason


def test_a_few_small_deltas_are_left_alone() -> None:
    runs = [RunFacts(row_count=1000, byte_size=1_000_000)]
    runs += [RunFacts(row_count=15, byte_size=15_000)] * 15

    assert plan_compaction(runs) is None


def test_one_delta_too_many_merges_all_equal_deltas_and_not_the_base() -> None:
    runs = [RunFacts(row_count=10_000, byte_size=10_000_000)]
    runs += [RunFacts(row_count=15, byte_size=15_000)] * 16

    plan = plan_compaction(runs)

    assert plan is not None
    assert (plan.start, plan.end, plan.drops_tombstones) == (1, 17, False)


def test_a_large_older_delta_is_not_written_again_for_a_few_small_ones() -> None:
    sizes = [10_000_000, 1_000_000, *[1_000] * 15]
    runs = [RunFacts(row_count=size // 1000, byte_size=size) for size in sizes]

    plan = plan_compaction(runs)

    assert plan is not None
    assert plan.start == 2


def test_a_base_of_which_more_than_half_is_dead_is_written_again() -> None:
    tombstones = RunFacts(row_count=501, byte_size=5_000)

    plan = plan_compaction([RunFacts(row_count=1000, dead_count=501, byte_size=1_000_000), tombstones])

    assert plan is not None
    assert (plan.start, plan.end, plan.drops_tombstones) == (0, 2, True)
    assert "501 of the base's 1000 rows" in plan.reason


def test_a_base_half_dead_and_no_more_is_left_alone() -> None:
    tombstones = RunFacts(row_count=500, byte_size=5_000)

    assert (
        plan_compaction([RunFacts(row_count=1000, dead_count=500, byte_size=1_000_000), tombstones]) is None
    )


def test_deltas_heavier_than_half_of_the_base_bring_a_new_base() -> None:
    plan = plan_compaction(
        [RunFacts(row_count=1000, byte_size=1_000_000), RunFacts(row_count=600, byte_size=500_001)]
    )

    assert plan is not None
    assert plan.start == 0


def test_a_single_run_is_never_rewritten() -> None:
    assert plan_compaction([RunFacts(row_count=10, dead_count=10, byte_size=100)]) is None
    assert plan_compaction([]) is None


@pytest.mark.parametrize("spread", [1, 10, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_writing_again_stays_logarithmic_over_a_long_history(spread: int, seed: int) -> None:
    """2,000 backups on a base that stays too large to be written again, deltas of sizes 1 to `spread`."""
    source = random.Random(f"{spread}/{seed}")
    runs = [RunFacts(row_count=10**9, byte_size=10**12)]
    appended = written = 0
    for _ in range(2000):
        size = 1000 * source.randint(1, spread)
        appended += size
        runs, again = settle([*runs, RunFacts(row_count=size // 100, byte_size=size)], CompactionLimits())
        written += again

    assert written <= appended * math.log2(2000) / 2


@pytest.mark.parametrize("seed", range(5))
def test_a_growing_collection_pays_a_bounded_price_for_its_base(seed: int) -> None:
    """From nothing, by 2,000 deltas of new records."""
    source = random.Random(seed)
    runs: list[RunFacts] = []
    appended = written = 0
    for _ in range(2000):
        size = 1000 * source.randint(1, 50)
        appended += size
        runs, again = settle([*runs, RunFacts(row_count=size // 100, byte_size=size)], CompactionLimits())
        written += again

    assert written <= 6 * appended
