from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recollect.catalog.catalog import Catalog
from recollect.clock import ManualClock
from recollect.database import CheckpointOptions, Database, DatabaseOptions
from recollect.database import archive as archive_module
from recollect.database.archive import Archiver, archived_source
from recollect.database.recovery import recovery_window
from recollect.database.start import start
from recollect.engines.embedded import EmbeddedEngine
from recollect.errors import IntegrityError
from recollect.operations import backup, expire_log, unlock
from recollect.operations.expire_log import Extent
from recollect.repository.repository import Repository, create_repository, open_repository
from recollect.storage.base import ObjectStore
from recollect.storage.memory import MemoryStore
from recollect.testing.faults import attempt, count_operations, fault_plans

RANDOM = np.random.default_rng(7).bytes
OPTIONS = DatabaseOptions(checkpoints=CheckpointOptions(commit_interval=0))
ALL: Extent = "before-oldest-base"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def repository(tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Archive 40 commits in pieces of 4, and bases after 10, 20 and 30."""
    monkeypatch.setattr(archive_module, "BASE_COMMITS", 10)
    repository = create_repository(MemoryStore(), now=clock.now(), random_bytes=RANDOM)
    with (
        Database.open(tmp_path / "db", options=OPTIONS, clock=clock) as db,
        Archiver(tmp_path / "db", repository, clock=clock, random_bytes=RANDOM) as archiver,
    ):
        for number in range(1, 41):
            db.state.set("n", "a", "k", number)
            if number % 4 == 0:
                archiver.run_once()
            if number % 10 == 0:
                clock.advance(1)
                db.checkpoint()
                archiver.run_once() if number < 40 else None
    return repository


def forget_bases(repository: Repository, count: int) -> None:
    catalog = Catalog(repository)
    for snapshot in catalog.list()[:count]:
        catalog.forget(snapshot.id)


def reach(repository: Repository) -> list[tuple[int, int]]:
    return [(one.first_ts, one.last_ts) for one in recovery_window(archived_source(repository))]


def check_every_commit(repository: Repository) -> None:
    source = archived_source(repository)
    for first, last in reach(repository):
        for commit_ts in range(first, last + 1):
            found = start(source.log, source.checkpoints, last_ts=commit_ts, database_id=source.database_id)
            assert found.tables.commit_ts == commit_ts


def expire(
    repository: Repository, clock: ManualClock, extent: Extent = "unreachable"
) -> list[tuple[int, int]]:
    plan = expire_log.plan(repository, extent=extent)
    done = expire_log.apply(plan, repository, clock=clock, random_bytes=RANDOM)
    assert done == plan
    return [(piece.first, piece.last) for _, piece in done.pieces]


def test_what_can_be_reached_from_the_beginning_stays_unless_it_is_asked_for(
    repository: Repository, clock: ManualClock
) -> None:
    assert reach(repository) == [(0, 40)]
    assert expire(repository, clock) == []
    forget_bases(repository, 1)
    assert expire(repository, clock) == []
    assert reach(repository) == [(0, 40)]


def test_log_before_the_oldest_base_goes_when_asked_for_and_later_commits_stay(
    repository: Repository, clock: ManualClock
) -> None:
    assert expire(repository, clock, ALL)[-1][1] <= 10
    assert reach(repository) == [(10, 40)]
    check_every_commit(repository)
    assert expire(repository, clock, ALL) == []

    forget_bases(repository, 1)  # what lay between it and the next cannot be used any more
    dropped = expire(repository, clock)
    assert dropped
    assert dropped[-1][1] <= 20
    assert reach(repository) == [(20, 40)]
    check_every_commit(repository)


def test_what_was_left_within_a_larger_piece_goes_with_it(repository: Repository, clock: ManualClock) -> None:
    first = next(repository.store.list("journal")).key
    repository.store.put(f"{first[:-2]}02", repository.store.get(first))

    assert expire(repository, clock, ALL)[:2] == [(1, 2), (1, 4)]

    assert reach(repository) == [(10, 40)]


def test_of_a_database_without_a_base_nothing_goes(repository: Repository, clock: ManualClock) -> None:
    forget_bases(repository, 3)
    assert expire(repository, clock, ALL) == []
    assert reach(repository) == [(0, 40)]


def test_a_base_of_another_database_or_of_a_part_of_it_is_none(
    repository: Repository, clock: ManualClock, tmp_path: Path
) -> None:
    forget_bases(repository, 3)
    with Database.open(tmp_path / "db", options=OPTIONS, clock=clock) as db:
        db.vectors.set("v", [1, 2])
        chosen = backup.BackupOptions(collections=("vectors",))
        engine = EmbeddedEngine(db, "recollect:///db")
        backup.run(engine, repository, options=chosen, clock=clock, random_bytes=RANDOM)
    with Database.open(tmp_path / "other", options=OPTIONS, clock=clock) as db:
        db.state.set("n", "a", "k", 1)
        engine = EmbeddedEngine(db, "recollect:///other")
        backup.run(engine, repository, options=backup.BackupOptions(), clock=clock, random_bytes=RANDOM)

    assert expire(repository, clock, ALL) == []
    assert reach(repository) == [(0, 40)]


def test_a_snapshot_that_cannot_be_read_is_never_taken_for_forgotten(repository: Repository) -> None:
    key = next(repository.store.list("snapshots")).key
    repository.store.put(key, b"x")
    with pytest.raises(IntegrityError):
        expire_log.plan(repository, extent=ALL)


def test_what_a_base_needs_again_after_the_plan_stays(repository: Repository, clock: ManualClock) -> None:
    oldest = Catalog(repository).list()[0]
    plan = expire_log.plan(repository, extent=ALL, without=[oldest.id])
    assert plan.pieces[-1][1].last > 10

    done = expire_log.apply(plan, repository, clock=clock, random_bytes=RANDOM)

    assert done.pieces[-1][1].last <= 10
    assert reach(repository) == [(10, 40)]


def test_whatever_stops_an_expiry_commits_from_the_oldest_base_on_stay_and_the_next_goes_on(
    repository: Repository, clock: ManualClock
) -> None:
    def copy_of(store: ObjectStore) -> MemoryStore:
        copy = MemoryStore()
        for item in store.list(""):
            copy.put(item.key, store.get(item.key))
        return copy

    def verb(store: ObjectStore) -> None:
        opened = open_repository(store)
        plan = expire_log.plan(opened, extent=ALL)
        expire_log.apply(plan, opened, clock=clock, random_bytes=RANDOM)

    forget_bases(repository, 1)
    for plan in fault_plans(count_operations(verb, copy_of(repository.store))):
        store = copy_of(repository.store)
        attempt(verb, store, plan)
        opened = open_repository(store)
        check_every_commit(opened)
        assert reach(opened)[-1][1] == 40
        assert reach(opened)[-1][0] <= 20
        unlock.run(opened, clock=clock, which="all")
        verb(store)
        assert reach(opened) == [(20, 40)]
