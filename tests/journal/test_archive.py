from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recollect.clock import ManualClock
from recollect.database import CheckpointOptions, Database, DatabaseOptions, LogOptions
from recollect.database.archive import Archiver, archived_source
from recollect.database.log.directory import LogDirectory
from recollect.database.log.files import DiskFiles
from recollect.database.log.tail import LogTail
from recollect.database.recovery import RecoveryTarget, parse_target, recover, recovery_window
from recollect.engines.embedded import EmbeddedEngine
from recollect.errors import ConflictError, NotFoundError, RequestError
from recollect.journal.stream import Gap, JournalStream, only_stream
from recollect.operations import backup
from recollect.repository.repository import Repository, create_repository
from recollect.storage.memory import MemoryStore

OPTIONS = DatabaseOptions(
    log=LogOptions(segment_bytes_max=300),
    checkpoints=CheckpointOptions(commit_interval=0, log_window_s=0.0, keep_last=1),
)
RANDOM = np.random.default_rng(5).bytes


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def repository(clock: ManualClock) -> Repository:
    return create_repository(MemoryStore(), now=clock.now(), random_bytes=RANDOM)


def write(db: Database, count: int) -> None:
    for _ in range(count):
        db.state.set("ns", "a", "k", db.commit_ts + 1)


def recover_to(repository: Repository, text: str, into: Path, clock: ManualClock) -> Database:
    made = recover(
        archived_source(repository),
        parse_target(text),
        into,
        files=DiskFiles(),
        clock=clock,
        random_bytes=RANDOM,
    )
    return Database.open(made.path, read_only=True)


def test_a_lost_database_comes_back_from_the_repository_alone(
    tmp_path: Path, repository: Repository, clock: ManualClock
) -> None:
    with Database.open(tmp_path / "db", options=OPTIONS, clock=clock) as db:
        archiver = Archiver(tmp_path / "db", repository, clock=clock, random_bytes=RANDOM)
        for turn in range(4):
            write(db, 10)
            done = archiver.run_once()
            assert (done.last_ts, done.shipped_count, done.gaps) == (10 * turn + 10, 10, [])
        assert archiver.run_once().shipped_count == 0
        write(db, 3)  # these are lost with the disk

    for commit_ts in (0, 1, 17, 40):
        with recover_to(repository, f"commit:{commit_ts}", tmp_path / f"at-{commit_ts}", clock) as back:
            assert back.commit_ts == commit_ts
            assert back.state.get("ns", "a", "k").version == commit_ts
    with pytest.raises(NotFoundError, match="the nearest commit that can is 40"):
        recover_to(repository, "commit:41", tmp_path / "x", clock)


def test_a_gap_is_reported_and_a_checkpoint_stands_in_for_it(
    tmp_path: Path, repository: Repository, clock: ManualClock
) -> None:
    with Database.open(tmp_path / "db", options=OPTIONS, clock=clock) as db:
        archiver = Archiver(tmp_path / "db", repository, clock=clock, random_bytes=RANDOM)
        write(db, 5)
        archiver.run_once()
        write(db, 50)
        clock.advance(10)
        db.checkpoint()  # and what the log had before is dropped
        write(db, 5)

        done = archiver.run_once()

    (gap,) = done.gaps
    assert gap.first == 6
    assert gap.last < 55
    window = recovery_window(archived_source(repository))
    assert [(reach.first_ts, reach.last_ts) for reach in window] == [(0, 5), (55, 60)]
    with recover_to(repository, "latest", tmp_path / "back", clock) as back:
        assert back.state.get("ns", "a", "k").value == 60
        assert len(back.state.history("ns", "a", "k")) == 60
    with pytest.raises(NotFoundError, match="nearest commit that can is"):
        recover_to(repository, "commit:30", tmp_path / "no", clock)


def test_a_database_that_lost_archived_commits_is_not_archived_over_them(
    tmp_path: Path, repository: Repository, clock: ManualClock
) -> None:
    with Database.open(tmp_path / "db", options=OPTIONS, clock=clock) as db:
        write(db, 3)
        with Archiver(tmp_path / "db", repository, clock=clock, random_bytes=RANDOM) as archiver:
            archiver.run_once()
    (segment,) = (tmp_path / "db" / "log").iterdir()
    segment.unlink()
    with Database.open(tmp_path / "db", options=OPTIONS, clock=clock) as db:
        for _ in range(5):
            db.state.set("ns", "a", "k", "another history")

    with pytest.raises(ConflictError, match="is another one than in"):
        Archiver(tmp_path / "db", repository, clock=clock, random_bytes=RANDOM).run_once()


def test_a_log_that_ends_before_the_archive_is_reported_at_once(
    tmp_path: Path, repository: Repository, clock: ManualClock
) -> None:
    options = DatabaseOptions(checkpoints=OPTIONS.checkpoints)
    with Database.open(tmp_path / "db", options=options, clock=clock) as db:
        write(db, 3)
        (segment,) = (tmp_path / "db" / "log").iterdir()
        before_the_crash = segment.read_bytes()
        write(db, 3)
        archiver = Archiver(tmp_path / "db", repository, clock=clock, random_bytes=RANDOM)
        assert archiver.run_once().last_ts == 6
    segment.write_bytes(before_the_crash)

    for one in (archiver, Archiver(tmp_path / "db", repository, clock=clock, random_bytes=RANDOM)):
        with pytest.raises(ConflictError, match="ends before commit 6"):
            one.run_once()
        one.close()
    with Database.open(tmp_path / "db", options=options, clock=clock) as db:
        for _ in range(5):
            db.state.set("ns", "a", "k", "another history")
    with pytest.raises(ConflictError, match="is another one than in"):
        archiver.run_once()


def test_a_tail_goes_on_where_it_was_and_notices_another_history(tmp_path: Path, clock: ManualClock) -> None:
    tail = LogTail(LogDirectory(DiskFiles(), tmp_path / "log"))
    with Database.open(tmp_path, options=OPTIONS, clock=clock) as db:
        assert list(tail.commits_after(0)) == []
        for turn in range(5):  # over several segments
            write(db, 4)
            found = [commit.commit_ts for commit in tail.commits_after(4 * turn)]
            assert found == list(range(4 * turn + 1, 4 * turn + 5))
            assert tail.still_holds(4 * turn + 4)
        assert [commit.commit_ts for commit in tail.commits_after(17)] == [18, 19, 20]  # a pass that failed
        assert [commit.commit_ts for commit in tail.commits_after(2)] == list(range(3, 21))
    assert not tail.still_holds(19)
    newest = max((tmp_path / "log").iterdir())
    newest.write_bytes(newest.read_bytes()[:100])
    assert not tail.still_holds(20)


def test_damage_in_the_archive_ends_what_can_be_reached(
    tmp_path: Path, repository: Repository, clock: ManualClock
) -> None:
    with Database.open(tmp_path / "db", options=OPTIONS, clock=clock) as db:
        archiver = Archiver(tmp_path / "db", repository, clock=clock, random_bytes=RANDOM)
        for _ in range(3):
            write(db, 4)
            archiver.run_once()
    store = repository.store
    key = sorted(item.key for item in store.list("journal"))[1]
    data = bytearray(store.get(key))
    data[-100] ^= 1
    store.put(key, bytes(data))

    with pytest.raises(NotFoundError, match="nearest commit that can is"):
        recover_to(repository, "commit:12", tmp_path / "no", clock)
    with recover_to(repository, "commit:4", tmp_path / "yes", clock) as back:
        assert back.commit_ts == 4


def test_streams_tell_what_they_lack() -> None:
    store = MemoryStore()
    stream = JournalStream(store, "s1")
    for first, last in ((1, 4), (5, 9), (12, 12)):
        stream.put(first, last, b"%d" % first)
    assert stream.put(1, 4, b"1") == 0

    assert [piece[:2] for piece in stream.pieces()] == [(1, 4), (5, 9), (12, 12)]
    assert stream.gaps() == [Gap(10, 11)]
    assert stream.read(stream.pieces()[1]) == b"5"
    with pytest.raises(ConflictError, match="two writers"):
        stream.put(1, 4, b"other")
    stream.delete(stream.pieces()[0])
    assert [piece.first for piece in stream.pieces()] == [5, 12]
    assert only_stream(store) == "s1"
    JournalStream(store, "s2").put(1, 1, b"x")
    with pytest.raises(RequestError, match="several journals: s1, s2"):
        only_stream(store)
    with pytest.raises(NotFoundError, match="no journal 's3'"):
        only_stream(store, "s3")


def test_an_archive_of_nothing_says_so(repository: Repository, tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(NotFoundError, match="no journal"):
        archived_source(repository)
    with pytest.raises(NotFoundError, match="no database"):
        Archiver(tmp_path, repository, clock=clock, random_bytes=RANDOM)
    assert RecoveryTarget() == parse_target("latest")


def test_an_ordinary_backup_of_a_database_can_be_recovered_as_a_whole(
    tmp_path: Path, repository: Repository, clock: ManualClock
) -> None:
    with Database.open(tmp_path / "db", options=OPTIONS, clock=clock) as db:
        write(db, 3)
        db.vectors.set("v", [1, 2])
        db.events.add("c", "i", 1)
        engine = EmbeddedEngine(db, "recollect:///db")
        backup.run(engine, repository, options=backup.BackupOptions(), clock=clock, random_bytes=RANDOM)

    with recover_to(repository, "latest", tmp_path / "back", clock) as back:
        assert back.commit_ts == 5
        assert back.state.get("ns", "a", "k").version == 3
        assert back.vectors.ids() == ["v"]
        assert back.events.contexts() == ["c"]
