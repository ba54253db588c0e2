from __future__ import annotations

import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from recollect.clock import Clock, ManualClock, SystemClock
from recollect.database import CheckpointOptions, Database, DatabaseOptions, LogOptions
from recollect.database.checkpoint.pacing import SWITCH_INTERVAL_S, sharing_the_interpreter
from recollect.database.log.files import DiskFiles
from recollect.database.planner import plain_schema
from recollect.database.recovery import (
    Recovered,
    RecoverySource,
    RecoveryTarget,
    data_directory_source,
    parse_target,
    recover,
    recovery_window,
)
from recollect.errors import (
    ConflictError,
    IntegrityError,
    LeaseHeldError,
    NotFoundError,
    RequestError,
    UnavailableError,
)
from recollect.storage.memory import MemoryStore
from recollect.testing.faults import Effect, Fault, FaultPlan, FaultyStore, SimulatedCrash

MANUAL = DatabaseOptions(
    log=LogOptions(segment_bytes_max=2000), checkpoints=CheckpointOptions(commit_interval=0, log_window_s=1e9)
)


def content(db: Database) -> object:
    """Everything that a database holds, in a form that compares."""
    vectors = [
        (name, record.id, record.vector.tolist(), record.metadata, record.commit_ts)
        for name in db.collections()
        for record in db.collection(name).records()
    ]
    state = [
        db.state.history(namespace, agent, key)
        for namespace, agent in db.state.agents()
        for key in sorted(
            {one.key for event in db.state.replay(namespace, agent) for one in event.operations}
        )
    ]
    replays = [list(db.state.replay(*agent)) for agent in db.state.agents()]
    return (db.commit_ts, vectors, state, replays, db.events.content(), db.events.counts, db.events.options)


def fill(db: Database, seed: int, count: int = 12) -> None:
    generator = np.random.default_rng(seed)
    for turn in range(count):
        number = int(generator.integers(6))
        with db.begin() as transaction:
            transaction.write("ns", f"a{number % 2}", f"k{number}", {"turn": turn})
            transaction.events.add(f"c{number % 3}", f"i{number}", turn + 1, timestamp=turn)
        db.vectors.set(f"v{number}", generator.standard_normal(4), {"turn": turn} if number % 2 else None)
        if number == 3:
            db.vectors.delete("v1")
            db.state.delete("ns", "a0", "k0")
            db.events.delete("c0", "i0", timestamp=turn)
        if number == 5:
            db.events.decay()


def test_a_start_from_a_checkpoint_gives_exactly_what_was_there(tmp_path: Path) -> None:
    with Database.open(tmp_path, options=MANUAL) as db:
        fill(db, 1)
        db.checkpoint()
        fill(db, 2)
        db.create_collection("other", plain_schema(2, "dot")).set(5, [1, 2])
        db.checkpoint("named", "with a description")
        fill(db, 3)
        before = content(db)

    with Database.open(tmp_path, options=MANUAL) as db:
        assert content(db) == before
        fill(db, 4)
        after = content(db)
    with Database.open(tmp_path, read_only=True) as db:
        assert content(db) == after


def test_a_checkpoint_is_a_snapshot_of_what_changed(tmp_path: Path) -> None:
    with Database.open(tmp_path, options=MANUAL) as db:
        db.vectors.set_many(list(range(100)), np.eye(100), [{"n": number} for number in range(100)])
        db.state.set_many("ns", "a", [f"k{number}" for number in range(100)], list(range(100)))
        first = db.checkpoint()
        db.vectors.set(7, np.ones(100))
        db.vectors.delete(8)
        db.state.set("ns", "a", "k1", "new")
        second = db.checkpoint("second", "why")

        assert db.checkpoint() == second
        assert db.newest_checkpoint == second
    changes = {entry.name: entry.changes for entry in second.collections}
    counts = {entry.name: entry.record_count for entry in second.collections}
    assert second.parent == first.id
    assert (second.name, second.description) == ("second", "why")
    assert second.extra["commit_ts"] == 5
    assert counts == {"vectors": 99, "state": 101, "events": 1}
    assert (changes["vectors"].changed, changes["vectors"].removed, changes["state"].added) == (1, 1, 1)
    assert changes["events"].total == 0


def test_collections_that_were_switched_or_dropped_are_stored_as_they_are(tmp_path: Path) -> None:
    with Database.open(tmp_path, options=MANUAL) as db:
        db.collection("a").set_many([1, 2], [[1, 0], [0, 1]])
        db.collection("b").set(9, [1, 2, 3])
        db.checkpoint()
        db.switch_collection("b", new_name="a")
        db.collection("c").set(1, [5])
        db.checkpoint()
        db.drop_collection("c")
        db.collection("c").set(2, [6])
        snapshot = db.checkpoint()
        before = content(db)

    assert [entry.name for entry in snapshot.collections] == ["a", "c", "events", "state"]
    with Database.open(tmp_path) as db:
        assert content(db) == before
        assert db.collection("a").ids() == [9]
        assert db.collection("c").ids() == [2]


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Database.open(tmp_path, options=MANUAL) as db:
        fill(db, 1)
        first = db.checkpoint()
        fill(db, 2)
        second = db.checkpoint()
        before = content(db)
    old = {reference.digest for reference in first.objects()}
    new = next(reference for reference in second.objects() if reference.digest not in old)
    path = next((tmp_path / "checkpoints").rglob(new.digest))
    path.write_bytes(b"x" + path.read_bytes()[1:])

    with caplog.at_level(logging.INFO), Database.open(tmp_path, options=MANUAL) as db:
        assert content(db) == before

    assert f"Snapshot at commit_ts={second.extra['commit_ts']} is damaged" in caplog.text
    assert f"Loading snapshot: snapshot-{first.extra['commit_ts']}.json" in caplog.text


def test_the_log_tells_what_start_up_and_checkpoints_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="recollect.database"):
        with Database.open(tmp_path, options=MANUAL) as db:
            db.state.set("ns", "a", "k", 1)
            db.checkpoint()
            db.state.set("ns", "a", "k", 2)
        Database.open(tmp_path, options=MANUAL).close()

    assert caplog.messages == [
        "Creating snapshot at commit_ts=1",
        "Snapshot created: snapshot-1.json",
        "Loading snapshot: snapshot-1.json",
        "Replaying 1 events since snapshot",
        "Recovery complete, current commit_ts: 2",
    ]


def test_checkpoints_are_taken_by_number_of_commits(tmp_path: Path) -> None:
    options = DatabaseOptions(checkpoints=CheckpointOptions(commit_interval=10))
    with Database.open(tmp_path, options=options, fsync="off") as db:
        for number in range(30):
            db.state.set("ns", "a", "k", number)
        waiting = threading.Event()
        for _ in range(500):
            if db.newest_checkpoint is not None:
                break
            waiting.wait(0.01)
        newest = db.newest_checkpoint
        assert newest is not None
        assert newest.extra["commit_ts"] >= 10
        assert db.checkpoint_error is None


def test_old_checkpoints_and_log_segments_are_dropped_by_policy(tmp_path: Path, clock: ManualClock) -> None:
    policy = CheckpointOptions(commit_interval=0, keep_last=2, log_window_s=3600.0)
    options = DatabaseOptions(checkpoints=policy, log=LogOptions(segment_bytes_max=300))
    with Database.open(tmp_path, options=options, clock=clock) as db:
        for turn in range(10):
            for number in range(10):
                db.state.set("ns", "a", f"k{number}", turn)
            db.checkpoint("kept" if turn == 1 else None)
            clock.advance(600)
        before = content(db)
    source = data_directory_source(DiskFiles(), tmp_path)

    window = recovery_window(source)

    # The named checkpoint stays; the log reaches back to it, since it is the oldest that is kept.
    assert window[-1].last_ts == 100
    assert window[0].first_ts == 20
    assert source.log.first_commits()[0] <= 21
    with Database.open(tmp_path) as db:
        assert content(db) == before


class NotingStore(MemoryStore):
    """Notes which thread stores a value, how long the interpreter lets one thread run then, and can fail."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()
        self.intervals: set[float] = set()
        self.is_full = False

    def put_if_absent(self, key: str, data: bytes) -> None:
        self.threads.add(threading.get_ident())
        self.intervals.add(round(sys.getswitchinterval(), 6))
        if self.is_full:
            raise UnavailableError("full")
        super().put_if_absent(key, data)


def test_a_checkpoint_takes_one_core_and_gives_way_to_writers(tmp_path: Path) -> None:
    usual, store = sys.getswitchinterval(), NotingStore()
    with Database.open(tmp_path, options=MANUAL, checkpoints=store, fsync="off") as db:
        fill(db, 1)
        db.checkpoint()
        assert sys.getswitchinterval() == usual
        store.is_full = True
        fill(db, 2)
        with pytest.raises(UnavailableError):
            db.checkpoint()
    assert sys.getswitchinterval() == usual
    assert store.threads == {threading.get_ident()}
    assert store.intervals == {SWITCH_INTERVAL_S}


def test_the_interpreters_interval_is_given_back_when_the_last_checkpoint_ends() -> None:
    usual = sys.getswitchinterval()
    first, second = sharing_the_interpreter(), sharing_the_interpreter()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)
    second.__exit__(None, None, None)
    assert sys.getswitchinterval() == usual


@pytest.mark.parametrize("effect", ["fail", "crash"])
def test_a_checkpoint_that_fails_anywhere_loses_nothing(tmp_path: Path, effect: Effect) -> None:
    """At every operation of its store: what was there stays, and the next checkpoint has all changes."""
    for number in range(1, 100):
        path, store = tmp_path / str(number), MemoryStore()
        with Database.open(path, options=MANUAL, checkpoints=store, fsync="off") as db:
            fill(db, 1, 6)
            db.checkpoint()
        plan = FaultPlan(faults=(Fault(at=number, effect=effect, moment="during"),))
        faulty = FaultyStore(store, plan)
        struck = False
        with Database.open(path, options=MANUAL, checkpoints=faulty, fsync="off") as db:
            fill(db, 2, 6)
            try:
                db.checkpoint()
            except (UnavailableError, SimulatedCrash):
                struck = True
            fill(db, 3, 4)  # a failed checkpoint does not stop writing
            before = content(db)
            if struck and effect == "fail":
                db.checkpoint()
                assert content(db) == before
        with Database.open(path, options=MANUAL, checkpoints=store, fsync="off") as db:
            assert content(db) == before
            assert db.checkpoint().extra["commit_ts"] == db.commit_ts
        with Database.open(path, read_only=True, checkpoints=store) as db:
            assert content(db) == before
        if not struck and number > faulty.operation_count:
            return
    pytest.fail("the faults never ended: raise the range")


def test_recovery_to_every_commit_gives_what_was_there(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "db"
    seen: list[tuple[object, object]] = []
    with Database.open(path, options=MANUAL, clock=clock) as db:
        seen.append((content(db), clock.now()))
        for turn in range(12):
            clock.advance(1)
            db.state.set("ns", "a", "k", turn)
            seen.append((content(db), clock.now()))
            clock.advance(1)
            db.vectors.set(turn % 3, [turn, 1])
            seen.append((content(db), clock.now()))
            if turn in {4, 8}:
                db.checkpoint()
    source = data_directory_source(DiskFiles(), path)
    (reach,) = recovery_window(source)
    assert (reach.first_ts, reach.last_ts) == (0, 24)

    for commit_ts in range(0, 25, 3):
        expected, moment = seen[commit_ts]
        targets = [RecoveryTarget(commit_ts=commit_ts)]
        if commit_ts:
            targets.append(RecoveryTarget(time=moment))  # type: ignore[arg-type]
        for number, target in enumerate(targets):
            made = run_recovery(source, target, tmp_path / f"at-{commit_ts}-{number}", clock)
            assert made.commit_ts == commit_ts
            with Database.open(made.path, read_only=True) as db:
                assert content(db) == expected
            if not number and commit_ts == 24:
                with Database.open(made.path) as db:
                    assert db.state.set("ns", "a", "k", "on") == 25


def test_recovery_stops_just_before_damage(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with Database.open(path, options=MANUAL) as db:
        for number in range(60):
            db.state.set("ns", "a", "k", number)
    segment = sorted((path / "log").iterdir())[1]
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    with pytest.raises(IntegrityError, match="the last good commit before is") as caught:
        Database.open(path)
    last_good = int(str(caught.value).rsplit(" ", 1)[1])
    assert f"--to commit:{last_good}" in caught.value.next_step
    source = data_directory_source(DiskFiles(), path)

    made = run_recovery(source, RecoveryTarget(commit_ts=last_good), tmp_path / "new")

    with Database.open(made.path) as db:
        assert db.commit_ts == last_good
        assert db.state.get("ns", "a", "k").value == last_good - 1
    with pytest.raises(NotFoundError, match=f"the nearest commit that can is {last_good}"):
        run_recovery(source, RecoveryTarget(commit_ts=last_good + 1), tmp_path / "other")


def test_a_target_outside_the_window_names_the_nearest(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "db"
    with Database.open(path, options=MANUAL, clock=clock) as db:
        begun = clock.now()
        db.state.set("ns", "a", "k", 1)
        clock.advance(10)
        db.state.set("ns", "a", "k", 2)
    source = data_directory_source(DiskFiles(), path)

    for text, nearest in (
        ("commit:3", "commit:2"),
        ((begun - timedelta(seconds=1)).isoformat(), begun.isoformat(timespec="microseconds")[:-6] + "Z"),
        (
            "2999-01-01T00:00:00Z",
            (begun + timedelta(seconds=10)).isoformat(timespec="microseconds")[:-6] + "Z",
        ),
    ):
        with pytest.raises(NotFoundError) as caught:
            run_recovery(source, parse_target(text), tmp_path / "new", clock)
        assert f"--to {nearest}" in caught.value.next_step
    assert run_recovery(source, RecoveryTarget(), tmp_path / "latest", clock).commit_ts == 2
    later = RecoveryTarget(time=begun + timedelta(seconds=5))
    assert run_recovery(source, later, tmp_path / "later", clock).commit_ts == 1


def test_a_checkpoint_stands_until_the_first_commit_after_it(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "db"
    with Database.open(path, options=MANUAL, clock=clock) as db:
        db.state.set("ns", "a", "k", 1)
    source = data_directory_source(DiskFiles(), path)
    made = run_recovery(
        source, RecoveryTarget(), tmp_path / "new", clock
    )  # its log begins after its checkpoint
    clock.advance(10)
    between = clock.now()
    clock.advance(10)
    with Database.open(made.path, options=MANUAL, clock=clock) as db:
        db.state.set("ns", "a", "k", 2)

    source = data_directory_source(DiskFiles(), made.path)
    assert [(one.first_ts, one.first_time) for one in recovery_window(source)] == [(1, made.time)]
    assert run_recovery(source, RecoveryTarget(time=between), tmp_path / "at", clock).commit_ts == 1


def test_a_damaged_checkpoint_that_no_log_replaces_is_named(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with Database.open(path, options=MANUAL) as db:
        db.state.set("ns", "a", "k", 1)
        db.checkpoint()
        old = set((path / "checkpoints" / "objects").rglob("*"))
        db.state.set("ns", "a", "k", 2)
        db.checkpoint()
    for damaged in set((path / "checkpoints" / "objects").rglob("*")) - old:
        if damaged.is_file():
            damaged.write_bytes(bytes(damaged.stat().st_size))
    for segment in (path / "log").iterdir():
        segment.unlink()
    source = data_directory_source(DiskFiles(), path)

    with pytest.raises(IntegrityError, match="the checkpoint that holds it is") as caught:
        run_recovery(source, RecoveryTarget(), tmp_path / "new")

    assert "--to commit:1" in caught.value.next_step
    assert run_recovery(source, RecoveryTarget(commit_ts=1), tmp_path / "new").commit_ts == 1


def test_the_log_alone_will_do_if_the_checkpoints_cannot_be_opened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "db"
    with Database.open(path, options=MANUAL) as db:
        for number in range(30):
            db.state.set("ns", "a", "k", number)
        db.checkpoint()
        before = content(db)
    (path / "checkpoints" / "recollect.json").unlink()

    with Database.open(path, options=MANUAL) as db:
        assert content(db) == before
        assert db.state.set("ns", "a", "k", "on") == 31
    assert "replaying the whole log instead" in caplog.text
    source = data_directory_source(DiskFiles(), path)
    assert run_recovery(source, RecoveryTarget(), tmp_path / "new").commit_ts == 31

    first = min((path / "log").iterdir())
    first.unlink()
    with pytest.raises(IntegrityError, match=r"recollect\.json is missing"):
        Database.open(path, options=MANUAL)


@pytest.mark.parametrize("damaged", ["objects", "snapshots"])
def test_a_database_whose_only_copy_is_damaged_does_not_open_empty(tmp_path: Path, damaged: str) -> None:
    with Database.open(tmp_path / "db", options=MANUAL) as db:
        db.state.set("ns", "a", "k", 1)
    source = data_directory_source(DiskFiles(), tmp_path / "db")
    made = run_recovery(source, RecoveryTarget(), tmp_path / "new")  # one checkpoint, and no log yet
    for path in (made.path / "checkpoints" / damaged).rglob("*"):
        if path.is_file():
            path.write_bytes(bytes(path.stat().st_size))

    for is_read_only in (True, False):
        with pytest.raises(IntegrityError, match="and the log holds nothing"):
            Database.open(made.path, read_only=is_read_only)


def test_a_closed_database_takes_no_checkpoint(tmp_path: Path) -> None:
    db = Database.open(tmp_path / "db", options=MANUAL)
    db.state.set("ns", "a", "k", 1)
    db.close()

    with pytest.raises(ConflictError, match="closed"):
        db.checkpoint("late")
    assert db.checkpoints() == []


def test_closing_waits_for_a_checkpoint_on_demand(tmp_path: Path) -> None:
    db = Database.open(tmp_path / "db", options=MANUAL)
    db.state.set("ns", "a", "k", 1)
    begun, go_on = threading.Event(), threading.Event()

    def hold_up(*_: object) -> None:
        begun.set()
        assert go_on.wait(30)

    db.on_checkpoint(hold_up)
    with ThreadPoolExecutor(2) as pool:
        taken = pool.submit(db.checkpoint)
        assert begun.wait(30)
        closed = pool.submit(db.close)
        with pytest.raises(LeaseHeldError):  # nobody else gets the directory meanwhile
            Database.open(tmp_path / "db")
        assert not closed.done()
        go_on.set()
        closed.result(30)
        assert taken.result(30).extra["commit_ts"] == 1
    Database.open(tmp_path / "db").close()


def test_recovery_never_writes_over_anything(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with Database.open(path) as db:
        db.state.set("ns", "a", "k", 1)
    source = data_directory_source(DiskFiles(), path)

    with pytest.raises(ConflictError, match="not empty"):
        run_recovery(source, RecoveryTarget(), path)
    (tmp_path / ".new.recovering" / "log").mkdir(parents=True)
    assert run_recovery(source, RecoveryTarget(), tmp_path / "new").commit_ts == 1
    assert not (tmp_path / ".new.recovering").exists()
    with pytest.raises(NotFoundError, match="no database"):
        data_directory_source(DiskFiles(), tmp_path / "nothing")


@pytest.mark.parametrize("text", ["commit:x", "commit:", "commit:-1", "yesterday", "2026-01-01T00:00:00"])
def test_a_target_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        parse_target(text)


def run_recovery(
    source: RecoverySource, target: RecoveryTarget, into: Path, clock: Clock | None = None
) -> Recovered:
    return recover(
        source,
        target,
        into,
        files=DiskFiles(),
        clock=clock or SystemClock(),
        random_bytes=np.random.default_rng(1).bytes,
    )
