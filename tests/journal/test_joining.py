from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recollect.clock import ManualClock
from recollect.database import Database
from recollect.database.archive import Archiver, archived_source, journal_log
from recollect.database.data_directory import read_identity
from recollect.database.log.files import DiskFiles
from recollect.database.recovery import parse_target, recover
from recollect.errors import ConflictError, IntegrityError, LeaseHeldError
from recollect.journal import merging
from recollect.journal.merging import PIECES_MAX, PIECES_MIN, run_to_join
from recollect.journal.stream import JournalStream, Piece
from recollect.operations import unlock
from recollect.repository.repository import create_repository, open_repository
from recollect.storage.base import ObjectStore
from recollect.storage.memory import MemoryStore
from recollect.testing.faults import OPERATIONS, FaultyStore, attempt, count_operations, fault_plans

RANDOM = np.random.default_rng(6).bytes
LIMIT = 1 << 20


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let four pieces be enough to be joined: an enumeration of faults over 64 says no more."""
    monkeypatch.setattr(merging, "PIECES_MIN", 4)
    return 4


def archiver_of(data: Path, store: ObjectStore, clock: ManualClock) -> Archiver:
    return Archiver(data, open_repository(store), clock=clock, random_bytes=RANDOM)


def archived(data: Path, clock: ManualClock, count: int) -> MemoryStore:
    """Make a database of `count` commits, each archived as a piece, and one commit more that is not."""
    store = MemoryStore()
    create_repository(store, now=clock.now(), random_bytes=RANDOM)
    with Database.open(data, clock=clock) as db, archiver_of(data, store, clock) as archiver:
        for number in range(count):
            db.state.set("n", "a", "k", number)
            archiver.run_once()
        db.state.set("n", "a", "k", count)
    return store


def stream_of(data: Path, store: ObjectStore) -> JournalStream:
    return JournalStream(store, read_identity(DiskFiles(), data).id)


def facts_of(data: Path, store: ObjectStore) -> list[tuple[int, int, bytes]]:
    log = journal_log(stream_of(data, store))
    return [(one.commit_ts, one.time_us, bytes(one.body)) for one in log.good_commits_from(0)]


def copy_of(store: ObjectStore) -> MemoryStore:
    copy = MemoryStore()
    for item in store.list(""):
        copy.put(item.key, store.get(item.key))
    return copy


def value_at(store: ObjectStore, commit_ts: int, into: Path, clock: ManualClock) -> object:
    target = parse_target(f"commit:{commit_ts}")
    made = recover(
        archived_source(open_repository(store)),
        target,
        into,
        files=DiskFiles(),
        clock=clock,
        random_bytes=RANDOM,
    )
    with Database.open(made.path, read_only=True) as db:
        assert db.commit_ts == commit_ts
        return db.state.get("n", "a", "k").value


def test_many_small_pieces_become_one_and_every_commit_can_still_be_recovered(
    tmp_path: Path, clock: ManualClock
) -> None:
    store = archived(tmp_path / "db", clock, PIECES_MIN - 1)
    before = facts_of(tmp_path / "db", store)
    with archiver_of(tmp_path / "db", store, clock) as archiver:
        done = archiver.run_once()

    assert (done.shipped_count, done.joined_count, done.gaps) == (1, PIECES_MIN, [])
    assert [piece[:2] for piece in stream_of(tmp_path / "db", store).pieces()] == [(1, PIECES_MIN)]
    assert facts_of(tmp_path / "db", store)[:-1] == before
    for commit_ts in (1, 30, PIECES_MIN):
        assert value_at(store, commit_ts, tmp_path / f"at-{commit_ts}", clock) == commit_ts - 1


def test_a_stream_of_a_day_stays_short() -> None:
    pieces, since, written = list[Piece](), 0, 0
    for number in range(17_280):
        pieces.append(Piece(number, number, 300))
        run = run_to_join(pieces, LIMIT, since=since)
        since = len(pieces)
        if run is not None:
            since = run.start
            part = pieces[run]
            joined = Piece(part[0].first, part[-1].last, sum(piece.byte_size for piece in part))
            written += joined.byte_size
            pieces[run] = [joined]

    assert len(pieces) < 3 * PIECES_MIN
    assert written < 3 * 17_280 * 300


def test_only_adjoining_pieces_are_joined_up_to_a_size_and_a_number() -> None:
    small = [Piece(number, number, 300) for number in range(2 * PIECES_MAX)]
    assert run_to_join(small, LIMIT) == slice(0, PIECES_MAX)
    assert run_to_join(small, 300 * PIECES_MIN) == slice(0, PIECES_MIN)
    assert run_to_join(small, 300 * PIECES_MIN - 1) is None
    assert run_to_join(small[: PIECES_MIN - 1], LIMIT) is None
    with_gap = [*small[: PIECES_MIN - 1], *small[PIECES_MIN : 2 * PIECES_MIN - 1]]
    assert run_to_join(with_gap, LIMIT) is None
    assert run_to_join(small[:PIECES_MIN], LIMIT, barred=[small[5]]) is None
    large = Piece(PIECES_MIN - 1, PIECES_MIN - 1, 100_000)
    assert run_to_join([*small[: PIECES_MIN - 1], large], LIMIT) is None


def test_whatever_stops_a_pass_that_joins_every_commit_can_still_be_recovered(
    tmp_path: Path, clock: ManualClock, few: int
) -> None:
    data = tmp_path / "db"
    prepared = archived(data, clock, few - 1)
    done = copy_of(prepared)

    def verb(store: ObjectStore) -> None:
        with archiver_of(data, store, clock) as archiver:
            archiver.run_once()

    verb(done)
    expected = facts_of(data, done)
    assert [piece[:2] for piece in stream_of(data, done).pieces()] == [(1, few)]
    operation_count = count_operations(verb, copy_of(prepared), counted=OPERATIONS)
    left_over = 0
    for number, plan in enumerate(fault_plans(operation_count, counted=OPERATIONS)):
        store = copy_of(prepared)
        attempt(verb, store, plan)

        found = facts_of(data, store)
        assert found == expected[: max(len(found), few - 1)]
        commit_ts = 1 + number % (few - 1)
        assert value_at(store, commit_ts, tmp_path / f"{number}", clock) == commit_ts - 1
        left_over += bool(stream_of(data, store).listing().covered)
        unlock.run(open_repository(store), clock=clock, which="all")
        verb(store)
        assert [item.key for item in store.list("journal")] == [item.key for item in done.list("journal")]
        assert facts_of(data, store) == expected
        assert not list(store.list("archivers"))
    assert left_over >= few


def test_a_failed_pass_is_made_up_for_by_the_next_of_the_same_archiver(
    tmp_path: Path, clock: ManualClock, few: int
) -> None:
    data = tmp_path / "db"
    prepared = archived(data, clock, few - 1)
    expected: list[tuple[int, int, bytes]] = []
    count = count_operations(lambda store: archiver_of(data, store, clock).run_once(), copy_of(prepared))
    for plan in fault_plans(count, effects=("fail",)):
        store = FaultyStore(copy_of(prepared), plan)
        with archiver_of(data, store, clock) as archiver:
            attempt(lambda _, archiver=archiver: archiver.run_once(), store, plan)  # type: ignore[misc]
            unlock.run(open_repository(store), clock=clock, which="all")
            attempt(lambda _, archiver=archiver: archiver.run_once(), store, plan)  # type: ignore[misc]
            archiver.run_once()
        assert [piece[:2] for piece in stream_of(data, store).pieces()] == [(1, few)]
        expected = expected or facts_of(data, store)
        assert facts_of(data, store) == expected


def test_a_reader_that_listed_before_pieces_were_joined_reads_on(
    tmp_path: Path, clock: ManualClock, few: int
) -> None:
    store = archived(tmp_path / "db", clock, few - 1)
    before = facts_of(tmp_path / "db", store)
    commits = journal_log(stream_of(tmp_path / "db", store)).good_commits_from(0)
    found = [next(commits)]
    with archiver_of(tmp_path / "db", store, clock) as archiver:
        assert archiver.run_once().joined_count == few

    found += commits

    assert [(one.commit_ts, one.time_us, bytes(one.body)) for one in found] == before


def test_pieces_that_overlap_in_part_are_an_error_that_names_them() -> None:
    store = MemoryStore()
    stream = JournalStream(store, "s")
    for first, last in ((1, 4), (1, 9), (5, 9), (12, 14), (13, 13)):
        stream.put(first, last, b"x")
    listing = stream.listing()
    assert [piece[:2] for piece in listing.pieces] == [(1, 9), (12, 14)]
    assert [piece[:2] for piece, _ in listing.covered] == [(1, 4), (5, 9), (13, 13)]
    stream.put(14, 15, b"x")
    with pytest.raises(IntegrityError, match=r"0012-0*14 and .*0014-0*15 .* overlap"):
        stream.pieces()


def test_a_piece_within_another_goes_only_if_it_holds_the_same_commits(
    tmp_path: Path, clock: ManualClock, few: int
) -> None:
    data = tmp_path / "db"
    store = archived(data, clock, few - 1)
    small = stream_of(data, store).pieces()[0]
    same = stream_of(data, store).read(small)
    clock.advance(1)
    other = archived(tmp_path / "other", clock, 1)
    different = stream_of(tmp_path / "other", other).read(small)
    with archiver_of(data, store, clock) as archiver:
        archiver.run_once()
    stream = stream_of(data, store)
    stream.put(1, 1, same)
    with archiver_of(data, store, clock) as archiver:
        archiver.run_once()
    assert not stream.listing().covered

    stream.put(1, 1, different)
    with archiver_of(data, store, clock) as archiver, pytest.raises(ConflictError, match="different commits"):
        archiver.run_once()
    assert len(stream.listing().covered) == 1


def test_a_damaged_piece_is_told_and_left_as_it_is(tmp_path: Path, clock: ManualClock, few: int) -> None:
    data = tmp_path / "db"
    store = archived(data, clock, few - 1)
    key = [item.key for item in store.list("journal")][1]
    damaged = bytearray(store.get(key))
    damaged[-100] ^= 1
    store.put(key, bytes(damaged))
    with archiver_of(data, store, clock) as archiver:
        done = archiver.run_once()
        assert (done.shipped_count, done.joined_count) == (1, 0)
        assert archiver.run_once().damage == done.damage
    assert key.rpartition("/")[2] in done.damage[0]
    assert len(list(store.list("journal"))) == few


def test_a_second_archiver_of_a_stream_waits_until_the_first_has_ended(
    tmp_path: Path, clock: ManualClock
) -> None:
    data = tmp_path / "db"
    store = archived(data, clock, 1)
    with archiver_of(data, store, clock) as first:
        first.run_once()
        with archiver_of(data, store, clock) as second, pytest.raises(LeaseHeldError, match="archive"):
            second.run_once()
        unlock.run(open_repository(store), clock=clock, which="all")
        with archiver_of(data, store, clock) as second:
            second.run_once()
            with Database.open(data, clock=clock) as db:
                db.state.set("n", "a", "k", 5)
            with pytest.raises(LeaseHeldError, match="revoked"):
                first.run_once()
            with pytest.raises(LeaseHeldError, match="archive"):
                first.run_once()
            assert second.run_once().shipped_count == 1
        assert first.run_once().last_ts == 3


def test_a_stream_is_listed_once_and_a_pass_without_commits_asks_the_store_for_nothing(
    tmp_path: Path, clock: ManualClock
) -> None:
    data = tmp_path / "db"
    store = FaultyStore(archived(data, clock, 3))
    with Database.open(data, clock=clock) as db, archiver_of(data, store, clock) as archiver:
        archiver.run_once()
        del store.operations[:]
        archiver.run_once()
        assert store.operations == []
        db.state.set("n", "a", "k", "more")
        archiver.run_once()
        assert [operation.name for operation in store.operations] == ["size", "put_if_absent"]
