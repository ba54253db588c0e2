"""Schedules: what is due when, what happens to failures, and what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from recollect.clock import ManualClock
from recollect.compat.ruvector import (
    CronSchedule,
    IntervalSchedule,
    SnapshotManager,
    SnapshotScheduler,
    SnapshotType,
)
from recollect.database import Database
from recollect.errors import RequestError, UnavailableError
from recollect.policy.retention import RetentionRules
from recollect.storage.memory import MemoryStore
from recollect.testing.faults import Fault, FaultPlan, FaultyStore
from tests.ruvector.samples import change, run

HOURLY = IntervalSchedule(timedelta(hours=1))


def _names(manager: SnapshotManager) -> list[str]:
    return [one.name for one in run(manager.list_snapshots())]


def test_an_interval_is_due_after_one_interval_and_not_before(
    manager: SnapshotManager, database: Database, clock: ManualClock
) -> None:
    scheduler = SnapshotScheduler(manager, database, HOURLY, clock=clock)

    assert run(scheduler.tick()) is None
    clock.advance(3599)
    assert run(scheduler.tick()) is None
    clock.advance(1)
    done = run(scheduler.tick())

    assert done is not None
    assert done.snapshot is not None
    assert _names(manager) == ["scheduled-20260101T010000Z"]
    assert scheduler.next_run == datetime(2026, 1, 1, 2, tzinfo=UTC)


def test_runs_that_were_missed_become_one(
    manager: SnapshotManager, database: Database, clock: ManualClock
) -> None:
    scheduler = SnapshotScheduler(manager, database, HOURLY, clock=clock)
    clock.advance(10 * 3600)

    assert run(scheduler.tick()) is not None
    assert run(scheduler.tick()) is None
    assert scheduler.next_run == datetime(2026, 1, 1, 11, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 3 * * *", datetime(2026, 1, 1, 3, tzinfo=UTC)),
        ("*/15 * * * *", datetime(2026, 1, 1, 0, 15, tzinfo=UTC)),
        ("0 0 29 2 *", datetime(2028, 2, 29, tzinfo=UTC)),
        ("30 4 * * sun", datetime(2026, 1, 4, 4, 30, tzinfo=UTC)),
    ],
)
def test_cron_expressions_say_when(expression: str, expected: datetime) -> None:
    assert CronSchedule(expression).next_run(datetime(2026, 1, 1, tzinfo=UTC)) == expected


@pytest.mark.parametrize("expression", ["", "* * *", "61 * * * *", "0 0 31 2 *", "nonsense"])
def test_an_expression_that_never_matches_is_refused(expression: str) -> None:
    with pytest.raises(RequestError, match="cron"):
        CronSchedule(expression).next_run(datetime(2026, 1, 1, tzinfo=UTC))


def test_settings_without_a_meaning_are_refused(manager: SnapshotManager, database: Database) -> None:
    with pytest.raises(RequestError, match="interval"):
        SnapshotScheduler(manager, database, IntervalSchedule(timedelta(0)))
    with pytest.raises(RequestError, match="full_every"):
        SnapshotScheduler(manager, database, HOURLY, full_every=0)
    with pytest.raises(RequestError, match="keep"):
        SnapshotScheduler(manager, database, HOURLY, keep=0)


def test_between_full_snapshots_there_are_incremental_ones_and_cleanup_keeps_their_bases(
    manager: SnapshotManager, database: Database, clock: ManualClock
) -> None:
    scheduler = SnapshotScheduler(manager, database, HOURLY, full_every=3, keep=2, clock=clock)
    kinds, deleted = [], []
    for step in range(7):
        clock.advance(3600)
        change(database, step, 3)
        done = run(scheduler.tick())
        assert done is not None
        assert done.snapshot is not None
        kinds.append(isinstance(done.snapshot.snapshot_type, SnapshotType.Full))
        deleted.append(done.deleted_count)

    assert kinds == [True, False, False, True, False, False, True]
    assert deleted == [0, 0, 0, 0, 3, 0, 0]
    assert all(run(manager.verify_snapshot(one.id)) for one in run(manager.list_snapshots()))


def test_retention_rules_are_applied(
    manager: SnapshotManager, database: Database, clock: ManualClock
) -> None:
    scheduler = SnapshotScheduler(manager, database, HOURLY, rules=RetentionRules(keep_last=2), clock=clock)
    for _ in range(4):
        clock.advance(3600)
        run(scheduler.tick())

    assert _names(manager) == ["scheduled-20260101T040000Z", "scheduled-20260101T030000Z"]


def test_a_failed_run_is_recorded_deletes_nothing_and_the_next_one_goes_on(
    make_manager: Callable[..., SnapshotManager], database: Database, clock: ManualClock
) -> None:
    store = FaultyStore(MemoryStore(), FaultPlan(faults=(Fault(at=6),)))  # the first write of the second run
    manager = make_manager(store, max_concurrent_io=1)
    scheduler = SnapshotScheduler(manager, database, HOURLY, keep=1, clock=clock)
    for _ in range(3):
        clock.advance(3600)
        run(scheduler.tick())

    failed = [done.error is not None for done in scheduler.runs]
    assert failed == [False, True, False]
    assert isinstance(scheduler.runs[1].error, UnavailableError)
    assert _names(manager) == ["scheduled-20260101T030000Z"]


def test_a_base_that_was_deleted_by_hand_makes_the_next_one_full(
    manager: SnapshotManager, database: Database, clock: ManualClock
) -> None:
    scheduler = SnapshotScheduler(manager, database, HOURLY, full_every=5, clock=clock)
    clock.advance(3600)
    run(scheduler.tick())
    run(manager.delete_snapshot(run(manager.list_snapshots())[0].id))
    clock.advance(3600)

    done = run(scheduler.tick())

    assert done is not None
    assert done.snapshot is not None
    assert done.snapshot.snapshot_type == SnapshotType.Full()


@pytest.mark.parametrize("damage", ["metadata.bin.gz", "metadata.json", "another dimension"])
def test_a_base_that_nothing_can_be_built_on_makes_the_next_one_full(
    make_manager: Callable[..., SnapshotManager], database: Database, clock: ManualClock, damage: str
) -> None:
    store = MemoryStore()
    manager = make_manager(store)
    scheduler = SnapshotScheduler(manager, database, HOURLY, full_every=5, clock=clock)
    clock.advance(3600)
    first = run(scheduler.tick())
    assert first is not None
    assert first.snapshot is not None
    if damage == "another dimension":
        database.drop_collection(database.vectors.name)
        database.vectors.set("a", [1.0, 2.0])
    else:
        name = f"snapshot-{first.snapshot.id}/{damage}"
        data = store.get(name)
        store.put(name, data[: len(data) // 2])
    clock.advance(3600)

    done = run(scheduler.tick())

    assert done is not None
    assert done.snapshot is not None
    assert done.snapshot.snapshot_type == SnapshotType.Full()
    assert run(manager.verify_snapshot(done.snapshot.id))


def test_it_runs_in_a_task_until_it_is_stopped(manager: SnapshotManager, database: Database) -> None:
    async def work() -> int:
        scheduler = SnapshotScheduler(manager, database, IntervalSchedule(timedelta(milliseconds=5)))
        scheduler.start()
        while len(scheduler.runs) < 3:  # noqa: ASYNC110 - it is the scheduler that waits
            await asyncio.sleep(0.005)
        await scheduler.stop()
        return len(scheduler.runs)

    count = run(work())

    assert count >= 3
    assert {one.name[:9] for one in run(manager.list_snapshots())} == {"scheduled"}
