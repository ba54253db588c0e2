from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from recollect.clock import ManualClock
from recollect.database import (
    CheckpointOptions,
    Database,
    DatabaseOptions,
    EventOptions,
    LogOptions,
    VectorOptions,
)
from recollect.database.log import frame
from recollect.database.log.files import DiskFiles
from recollect.errors import (
    AccessError,
    ConflictError,
    FormatVersionError,
    IntegrityError,
    LeaseHeldError,
    NotFoundError,
    RequestError,
    StorageFullError,
    UnavailableError,
)
from tests.database.faulty_files import Crash, FaultyFiles

SMALL = DatabaseOptions(
    log=LogOptions(segment_bytes_max=600), checkpoints=CheckpointOptions(commit_interval=0)
)


def segments(path: Path) -> list[Path]:
    return sorted((path / "log").iterdir())


def write_some(path: Path, count: int = 20) -> None:
    with Database.open(path, options=SMALL, clock=ManualClock()) as db:
        for number in range(count):
            db.state.set("ns", "a", f"k{number}", number)


def test_a_database_comes_back_as_it_was(tmp_path: Path) -> None:
    with Database.open(tmp_path, options=SMALL) as db:
        db.vectors.set_many(["a", 7], [[1, 2], [3, 4]], [{"x": 1}, None])
        db.vectors.delete("a")
        db.events.add_many("c", ["i", "j"], [1, 2])
        with db.begin() as transaction:
            transaction.write("ns", "a", "k", {"v": [1, None]})
        db.state.delete("ns", "a", "k")
        before = (db.commit_ts, db.vectors.ids(), db.events.content(), db.state.history("ns", "a", "k"))
        replayed = list(db.state.replay("ns", "a"))

    with Database.open(tmp_path, read_only=True) as db:
        assert (
            db.commit_ts,
            db.vectors.ids(),
            db.events.content(),
            db.state.history("ns", "a", "k"),
        ) == before
        assert list(db.state.replay("ns", "a")) == replayed
        with pytest.raises(AccessError, match="read-only"):
            db.state.set("ns", "a", "k", 1)


def test_segments_are_bounded_and_sealed(tmp_path: Path) -> None:
    write_some(tmp_path)

    found = segments(tmp_path)

    assert len(found) > 2
    for path in found:
        data = path.read_bytes()
        assert len(data) < 600 + 200
        seal = frame.decode_seal(data, len(data) - frame.SEAL_SIZE)
        assert seal is not None
        assert seal.first_ts == int(path.stem)


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_torn_tail_of_the_newest_segment_is_cut_off_and_reported(tmp_path: Path, cut: int) -> None:
    files = FaultyFiles()
    db = Database.open(tmp_path, options=SMALL, files=files)
    for number in range(3):
        db.state.set("ns", "a", "k", number)
    files.is_dead = True
    db._directory.release()
    newest = segments(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:-cut])

    with Database.open(tmp_path, options=SMALL) as db:
        assert db.commit_ts == 2
        assert db.torn_tail is not None
        assert db.torn_tail.path == newest
        assert db.state.get("ns", "a", "k").value == 1
        assert db.state.set("ns", "a", "k", "new") == 3
    with Database.open(tmp_path, options=SMALL) as db:
        assert db.torn_tail is None
        assert db.state.get("ns", "a", "k").value == "new"


def test_any_flipped_bit_of_a_closed_log_is_damage_that_is_named(tmp_path: Path) -> None:
    write_some(tmp_path, 12)
    for path in segments(tmp_path):
        original = path.read_bytes()
        sealed_size = len(original) - frame.SEAL_SIZE
        for offset in range(0, sealed_size, 37):
            damaged = bytearray(original)
            damaged[offset] ^= 0x10
            path.write_bytes(damaged)
            with pytest.raises(IntegrityError, match=f"{path.name} is damaged at byte") as caught:
                Database.open(tmp_path)
            assert "recollect recover" in caught.value.next_step
            assert "--to commit:" in caught.value.next_step
        path.write_bytes(original)
    Database.open(tmp_path).close()


def test_a_broken_seal_costs_nothing_but_itself(tmp_path: Path) -> None:
    write_some(tmp_path, 3)
    newest = segments(tmp_path)[-1]
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)

    with Database.open(tmp_path) as db:
        assert db.commit_ts == 3
        assert db.torn_tail is not None


def test_a_missing_segment_is_a_gap(tmp_path: Path) -> None:
    write_some(tmp_path)
    segments(tmp_path)[1].unlink()

    with pytest.raises(IntegrityError, match=r"lacks commits \d+ to \d+"):
        Database.open(tmp_path)


def test_damage_before_acknowledged_commits_is_not_taken_for_a_torn_tail(tmp_path: Path) -> None:
    files = FaultyFiles()
    db = Database.open(tmp_path, files=files)
    for number in range(5):
        db.state.set("ns", "a", "k", number)
    files.is_dead = True
    db._directory.release()
    newest = segments(tmp_path)[-1]
    data = bytearray(newest.read_bytes())
    data[frame.HEADER_SIZE + frame.FRAME_SIZE + 3] ^= 1
    newest.write_bytes(data)

    with pytest.raises(IntegrityError, match="commit 1 is broken"):
        Database.open(tmp_path)


def test_a_directory_is_opened_once(tmp_path: Path) -> None:
    with Database.open(tmp_path), pytest.raises(LeaseHeldError, match="open already"):
        Database.open(tmp_path)
    with (
        Database.open(tmp_path, read_only=True),
        Database.open(tmp_path, read_only=True),
        pytest.raises(LeaseHeldError),
    ):
        Database.open(tmp_path)
    Database.open(tmp_path).close()


def test_reading_needs_a_database(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no database"):
        Database.open(tmp_path / "none", read_only=True)
    assert not (tmp_path / "none").exists()


class ReadOnlyMedium(DiskFiles):
    """Files on a medium that nothing can be written to."""

    def make_directory(self, path: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def create(self, path: Path) -> NoReturn:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="tells open files by /proc")
def test_a_reader_needs_nothing_but_the_right_to_read(tmp_path: Path) -> None:
    write_some(tmp_path, 3)

    with Database.open(tmp_path, read_only=True, files=ReadOnlyMedium()) as db:
        held = [
            int(one.name) for one in Path("/proc/self/fd").iterdir() if is_link_to(one, tmp_path / "lock")
        ]

        assert db.commit_ts == 3
        assert [fcntl.fcntl(one, fcntl.F_GETFL) & os.O_ACCMODE for one in held] == [os.O_RDONLY]


def is_link_to(link: Path, target: Path) -> bool:
    try:
        return link.readlink() == target.resolve()
    except OSError:
        return False


def test_a_newer_format_is_unsupported_not_corrupt(tmp_path: Path) -> None:
    write_some(tmp_path, 1)
    identity = tmp_path / "database.json"
    original = identity.read_bytes()
    for newer_identity in (original.replace(b'"format":1', b'"format":2'), b'{"format":2,"name":"new"}'):
        identity.write_bytes(newer_identity)
        with pytest.raises(FormatVersionError, match="format 2"):
            Database.open(tmp_path)
    identity.write_bytes(original)

    path = segments(tmp_path)[0]
    header = frame.decode_header(path.read_bytes())
    assert header is not None
    newer = frame.encode_header(header._replace(format=9))
    path.write_bytes(newer + path.read_bytes()[frame.HEADER_SIZE :])
    with pytest.raises(FormatVersionError, match="format 9"):
        Database.open(tmp_path)


def test_commits_of_many_threads_have_no_gaps_and_share_syncs(tmp_path: Path) -> None:
    files = FaultyFiles()
    with Database.open(tmp_path, files=files) as db:
        found: list[int] = []

        def write(agent: int) -> None:
            found.extend(db.state.set("ns", f"a{agent}", "k", number) for number in range(50))

        threads = [threading.Thread(target=write, args=(agent,)) for agent in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found) == list(range(1, 401))
        assert db.commit_ts == 400
    with Database.open(tmp_path) as db:
        assert [db.state.get("ns", f"a{agent}", "k").value for agent in range(8)] == [49] * 8


def test_after_close_nothing_is_written(tmp_path: Path) -> None:
    db = Database.open(tmp_path)
    db.close()
    db.close()
    with pytest.raises(ConflictError, match="closed"):
        db.state.set("ns", "a", "k", 1)


@pytest.mark.parametrize("kind", ["enospc", "eio", "short"])
def test_a_failing_disk_makes_the_database_read_only_and_loses_nothing(tmp_path: Path, kind: str) -> None:
    for at in range(1, 60):
        path = tmp_path / f"{kind}-{at}"
        files = FaultyFiles(at, kind)
        acknowledged: list[int] = []
        try:
            db = Database.open(path, options=SMALL, files=files)
        except (StorageFullError, UnavailableError):
            continue
        failure: Exception | None = None
        try:
            for number in range(12):
                db.state.set("ns", "a", f"k{number}", "x" * 40)
                acknowledged.append(number)
        except UnavailableError as error:
            failure = error
            assert db.is_read_only
            assert db.failure is not None
            with pytest.raises(UnavailableError, match="read-only"):
                db.state.set("ns", "a", "later", 1)
            assert db.state.list_keys("ns", "a") == sorted(f"k{number}" for number in acknowledged)
        try:
            db.close()
        except UnavailableError as error:
            failure = failure or error
        with Database.open(path) as again:
            keys = set(again.state.list_keys("ns", "a"))
            assert {f"k{number}" for number in acknowledged} <= keys
            assert len(keys) <= len(acknowledged) + 1
            assert again.commit_ts == len(keys)
        if failure is None:
            return
    pytest.fail("the faults never ended: raise the range")


@pytest.mark.parametrize("kind", ["crash", "torn"])
def test_a_crash_at_any_operation_loses_nothing_acknowledged(tmp_path: Path, kind: str) -> None:
    for at in range(1, 80):
        path = tmp_path / f"{kind}-{at}"
        files = FaultyFiles(at, kind)
        acknowledged = 0
        try:
            with Database.open(path, options=SMALL, files=files) as db:
                for number in range(8):
                    with db.begin() as transaction:
                        transaction.write("ns", "a", "k", number)
                        transaction.vectors.set("v", np.full(8, number))
                        transaction.events.add("c", f"i{number}", 1)
                    acknowledged += 1
        except Crash:
            db._directory.release() if acknowledged else None  # the kernel drops a dead process's lock
        with Database.open(path, options=SMALL) as again:
            assert acknowledged <= again.commit_ts <= acknowledged + 1
            whole = again.commit_ts
            assert again.state.get("ns", "a", "k").version == whole
            assert len(again.events.events("c")) == whole
            record = again.vectors.get("v")
            assert whole == 0 if record is None else record.vector[0] == whole - 1
            assert again.state.set("ns", "a", "k", "next") == whole + 1
        if not files.is_dead:
            return
    pytest.fail("the crashes never ended: raise the range")


@pytest.mark.parametrize(
    "options",
    [
        DatabaseOptions(log=LogOptions(segment_bytes_max=0)),
        DatabaseOptions(checkpoints=CheckpointOptions(commit_interval=-1)),
        DatabaseOptions(vectors=VectorOptions(metric="manhattan")),
        DatabaseOptions(events=EventOptions(ctx_buffer_size=0)),
        DatabaseOptions(transaction_timeout_s=float("nan")),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: DatabaseOptions) -> None:
    with pytest.raises(RequestError, match="the option"):
        Database.open(tmp_path / "db", options=options)
    assert not (tmp_path / "db").exists()


def test_fsync_modes_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fsync must be"):
        Database.open(tmp_path, fsync="never")  # type: ignore[arg-type]


def test_interval_mode_syncs_soon_and_on_close(tmp_path: Path) -> None:
    quick = DatabaseOptions(log=LogOptions(fsync_interval_s=0.01))
    with Database.open(tmp_path, fsync="interval", options=quick) as db:
        db.state.set("ns", "a", "k", 1)
        waiting = threading.Event()
        for _ in range(500):
            if db._committer is not None and db._committer._log.synced_ts == 1:
                break
            waiting.wait(0.01)
        assert db._committer is not None
        assert db._committer._log.synced_ts == 1
