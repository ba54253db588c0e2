"""Automatic snapshots, their retention, and what a server finds when it starts."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from recollect.clock import ManualClock, SystemClock
from recollect.compat.nvecd.config.settings import NvecdSettings, TcpSettings, WalSettings
from recollect.compat.nvecd.housekeeping import AutomaticSnapshots, DecayJob
from recollect.compat.nvecd.instance import Instance
from recollect.errors import AccessError, IntegrityError, LeaseHeldError, UnavailableError
from tests.nvecd.faces import ask, open_face, settings_in
from tests.nvecd.snapshots import GOLDEN


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize(("style", "suffix"), [("wire", "nvec"), ("doc", "snapshot")])
def test_snapshots_come_every_interval_and_the_newest_of_their_own_stay(
    tmp_path: Path, style: str, suffix: str
) -> None:
    directory, clock, notes = tmp_path / "s", ManualClock(), list[str]()
    settings = settings_in(directory, interval_sec=60, retain=2, reply_style=style, mode="lock")
    with open_face(settings, clock) as face:
        automatic = AutomaticSnapshots(face.saver, face.dumps.directory, settings, clock, notes.append)
        ask(face, "VECSET a 1 2 3", "DUMP SAVE mine.nvec", "DUMP SAVE auto_mine.nvec")
        started = []
        for _ in range(5):
            clock.advance(59)
            assert not automatic.tick()
            clock.advance(1)
            assert automatic.tick()
            started.append(Path(face.saver.status.path).name)
            face.saver.wait()
            newest = directory / started[-1]
            os.utime(newest, (clock.monotonic(), clock.monotonic()))
            (directory / f"{newest.name}.walseq").touch()
            automatic.retain()
    kept = started[-2:]
    assert names(directory) == sorted(
        ["mine.nvec", "auto_mine.nvec", *kept, *(f"{name}.walseq" for name in kept)]
    )
    assert all(name.endswith(suffix) for name in started)
    assert not notes


def test_the_only_good_snapshot_is_never_deleted(tmp_path: Path) -> None:
    directory, clock, notes = tmp_path / "s", ManualClock(), list[str]()
    settings = settings_in(directory, interval_sec=60, retain=1, mode="lock")
    with open_face(settings, clock) as face:
        automatic = AutomaticSnapshots(face.saver, face.dumps.directory, settings, clock, notes.append)
        ask(face, "DUMP SAVE auto_20260101_000000.nvec")
        os.utime(directory / "auto_20260101_000000.nvec", (1, 1))
        (directory / "auto_20260101_000100.nvec").write_bytes(b"damaged")
        assert automatic.retain() == []
        assert notes == ["no automatic snapshot of the newest 1 is whole; older ones are kept"]


def test_retain_zero_keeps_everything_and_interval_zero_takes_nothing(tmp_path: Path) -> None:
    directory, clock = tmp_path / "s", ManualClock()
    settings = settings_in(directory, interval_sec=0, retain=0)
    with open_face(settings, clock) as face:
        automatic = AutomaticSnapshots(face.saver, face.dumps.directory, settings, clock, print)
        clock.advance(100_000)
        assert not automatic.tick()
        assert automatic.retain() == []


def test_an_automatic_snapshot_that_fails_is_told_to_the_operator(tmp_path: Path) -> None:
    directory, clock, notes = tmp_path / "s", ManualClock(), list[str]()
    settings = settings_in(directory, interval_sec=60)
    with open_face(settings, clock) as face:
        automatic = AutomaticSnapshots(face.saver, face.dumps.directory, settings, clock, notes.append)
        directory.chmod(0o777)
        clock.advance(60)
        automatic.tick()
        face.saver.wait()
        directory.chmod(0o700)
    told = "an automatic snapshot failed: Storage directory must not be writable by group or others"
    assert len(notes) == 1
    assert notes[0].startswith(told)


def test_an_automatic_snapshot_waits_for_a_save_that_is_under_way(tmp_path: Path) -> None:
    clock = ManualClock()
    settings = settings_in(tmp_path / "s", interval_sec=10)
    with open_face(settings, clock) as face:
        automatic = AutomaticSnapshots(face.saver, face.dumps.directory, settings, clock, print)
        clock.advance(10)
        with face.gate.loading():
            assert not automatic.tick()
        assert ask(face, "EVENT c ADD i 1") == "OK EVENT\r\n"
        assert automatic.tick()


def test_weights_fade_every_interval() -> None:
    clock, count = ManualClock(), list[int]()
    job = DecayJob(lambda: count.append(1), 30, clock)
    for _ in range(95):
        clock.advance(1)
        job.tick()
    assert len(count) == 3


def instance_settings(directory: Path, *, wal: Path | None = None, **snapshot: object) -> NvecdSettings:
    settings = settings_in(directory, **snapshot)
    api = msgspec.structs.replace(
        settings.api, tcp=TcpSettings(port=0), http=msgspec.structs.replace(settings.api.http, enable=False)
    )
    log = WalSettings(enabled=wal is not None, dir=str(wal or "/nowhere"), sync_on_write=True)
    return msgspec.structs.replace(settings, api=api, wal=log)


def start(settings: NvecdSettings, notes: list[str] | None = None) -> Instance:
    return Instance(settings, SystemClock(), (notes if notes is not None else []).append)


def test_the_newest_whole_snapshot_is_loaded_at_the_start(tmp_path: Path) -> None:
    directory = tmp_path / "s"
    settings, notes = instance_settings(directory), list[str]()
    with start(settings) as instance:
        ask(instance.face, "VECSET a 1 2 3", "DUMP SAVE old.nvec", "VECSET b 1 2 3", "DUMP SAVE mid.dmp")
    os.utime(directory / "old.nvec", (1, 1))
    os.utime(directory / "mid.dmp", (2, 2))
    (directory / "new.nvec").write_bytes(b"NVEC damaged")
    (directory / "new.nvec").chmod(0o600)
    with start(settings, notes) as instance:
        assert instance.face.database.vectors.ids() == ["a", "b"]
    assert "new.nvec is damaged and passed over" in notes[0]
    assert notes[1] == f"loaded {directory}/mid.dmp"


def test_what_a_killed_server_left_unfinished_is_removed_at_the_start(tmp_path: Path) -> None:
    directory, notes = tmp_path / "s", list[str]()
    directory.mkdir(mode=0o700)
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    left = directory / f".a.nvec.tmp.{gone.pid}.0"
    own, parents = directory / f".a.nvec.tmp.{os.getpid()}.7", directory / f".a.nvec.tmp.{os.getppid()}.7"
    for path in (left, own, parents):
        path.write_bytes(b"NVEC")
    with start(instance_settings(directory), notes):
        assert list(directory.iterdir()) == [parents]
    assert sum("which a server that was killed left unfinished" in note for note in notes) == 2


def test_a_second_server_leaves_the_log_of_the_first_alone(tmp_path: Path) -> None:
    settings = instance_settings(tmp_path / "s", wal=tmp_path / "wal")
    with start(settings) as first:
        with pytest.raises(LeaseHeldError, match="belongs to a server that runs already"):
            start(settings)
        assert ask(first.face, "VECSET a 1 2 3") == "OK VECSET\r\n"
    with start(settings) as again:
        assert again.face.database.vectors.ids() == ["a"]


def test_a_server_with_bad_snapshots_only_does_not_start(tmp_path: Path) -> None:
    directory = tmp_path / "s"
    directory.mkdir(mode=0o700)
    (directory / "bad.nvec").write_bytes(b"nonsense")
    with pytest.raises(
        IntegrityError, match=r"no snapshot in .* can be loaded: bad.nvec: Invalid magic number"
    ):
        start(instance_settings(directory))


def test_a_shared_directory_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "s"
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(AccessError, match="must not be writable by group or others"):
        start(instance_settings(directory))


def test_the_log_brings_back_what_no_snapshot_has(tmp_path: Path) -> None:
    settings = instance_settings(tmp_path / "s", wal=tmp_path / "wal")
    commands = [
        "VECSET a 1 2 3",
        "METASET a k:v,n:1",
        "EVENT c ADD a 5",
        "EVENT c ADD b 7",
        "VECSET b 1 2 3",
        "VECDEL b",
    ]
    with start(settings) as instance:
        ask(instance.face, *commands, "VECDEL nobody", "VECSET wrong 1")
    for _ in range(3):
        with start(settings) as instance:
            database = instance.face.database
            record = database.vectors.get("a")
            assert record is not None
            assert record.metadata == {"k": "v", "n": 1}
            assert database.vectors.ids() == ["a"]
            assert database.events.weight("a", "b") == 35.0


def test_a_snapshot_shortens_the_log_and_a_start_continues_behind_it(tmp_path: Path) -> None:
    settings = instance_settings(tmp_path / "s", wal=tmp_path / "wal")
    with start(settings) as instance:
        ask(instance.face, "EVENT c ADD a 5", "EVENT c ADD b 7")
    with start(settings) as instance:
        ask(instance.face, "EVENT c ADD d 1", "DUMP SAVE x.nvec", "EVENT c ADD e 2")
        assert names(tmp_path / "wal") == ["wal-000002.log"]
        assert names(tmp_path / "s") == ["x.nvec", "x.nvec.walseq"]
        weights = instance.face.database.events.content().edges
    with start(settings) as instance:
        assert instance.face.database.events.content().edges == weights


def test_a_server_killed_before_the_sidecar_of_an_overwritten_snapshot_starts_again(tmp_path: Path) -> None:
    settings = instance_settings(tmp_path / "s", wal=tmp_path / "wal", mode="lock")
    sidecar = tmp_path / "s" / "x.nvec.walseq"
    with start(settings) as instance:
        ask(instance.face, "VECSET a 1 2", "EVENT c ADD a 5")
        assert ask(instance.face, "DUMP SAVE x.nvec").startswith("OK DUMP_SAVED")
        before = sidecar.read_bytes()
        ask(instance.face, "VECSET b 1 2", "EVENT c ADD b 6")
        sidecar.unlink()
        sidecar.mkdir()  # the snapshot takes its name, its sidecar cannot
        assert ask(instance.face, "DUMP SAVE x.nvec").startswith("ERROR ")
    sidecar.rmdir()
    sidecar.write_bytes(before)

    with start(settings) as instance:
        assert "vector_count: 2" in ask(instance.face, "INFO")
        assert "event_count: 2" in ask(instance.face, "INFO")

    assert sidecar.read_bytes() != before
    assert names(tmp_path / "s") == ["x.nvec", "x.nvec.walseq"]


def test_a_log_that_is_turned_on_begins_behind_the_newest_snapshot(tmp_path: Path) -> None:
    with start(instance_settings(tmp_path / "s", mode="lock")) as instance:
        ask(instance.face, "VECSET a 1 2", "DUMP SAVE x.nvec")

    for count in (1, 2, 3):  # a later start must not take the snapshot for one of unknown place either
        with start(instance_settings(tmp_path / "s", wal=tmp_path / "wal", mode="lock")) as instance:
            assert f"vector_count: {count}" in ask(instance.face, "INFO")
            ask(instance.face, f"VECSET later{count} 1 2")


def test_a_server_killed_while_a_load_became_the_base_of_the_log_starts_again(tmp_path: Path) -> None:
    settings = instance_settings(tmp_path / "s", wal=tmp_path / "wal", mode="lock")
    sidecar = tmp_path / "s" / "old.nvec.walseq"
    with start(settings) as instance:
        ask(instance.face, "VECSET a 1 2", "DUMP SAVE old.nvec")
        before = sidecar.read_bytes()
        ask(instance.face, "VECSET b 1 2", "DUMP SAVE new.nvec", "VECSET c 1 2")
        sidecar.unlink()
        sidecar.mkdir()  # as if it had been killed before this is written
        assert ask(instance.face, "DUMP LOAD old.nvec").startswith("ERROR ")
    sidecar.rmdir()
    sidecar.write_bytes(before)

    with start(settings) as instance:
        assert "vector_count: 1" in ask(instance.face, "INFO")


def test_saves_that_come_together_leave_a_snapshot_that_fits_the_log(tmp_path: Path) -> None:
    settings = instance_settings(tmp_path / "s", wal=tmp_path / "wal", mode="fork", reply_style="doc")
    with start(settings) as instance:

        def save(worker: int) -> None:
            for number in range(8):
                ask(instance.face, f"VECSET v{worker}-{number} 1 2")
                reply = ask(instance.face, "DUMP SAVE x.nvec")
                assert reply.startswith("OK Snapshot saved")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(save, range(4)))

    with start(settings) as instance:
        assert "vector_count: 32" in ask(instance.face, "INFO")


def test_a_load_rolls_back_what_the_log_has(tmp_path: Path) -> None:
    settings = instance_settings(tmp_path / "s", wal=tmp_path / "wal")
    with start(settings) as instance:
        ask(
            instance.face,
            "VECSET a 1 2 3",
            "DUMP SAVE x.nvec",
            "VECSET b 1 2 3",
            "DUMP SAVE y.nvec",
            "DUMP LOAD x.nvec",
        )
        ask(instance.face, "VECSET c 1 2 3")
    with start(settings) as instance:
        assert instance.face.database.vectors.ids() == ["a", "c"]


def test_the_log_of_nvecd_is_replayed_and_continued(tmp_path: Path) -> None:
    wal = tmp_path / "wal"
    wal.mkdir(mode=0o700)
    (wal / "wal-000001.log").write_bytes((GOLDEN / "wal-000001.log").read_bytes())
    settings = instance_settings(tmp_path / "s", wal=wal)
    with start(settings) as instance:
        database = instance.face.database
        record = database.vectors.get("b")
        assert record is not None
        assert (record.vector.tolist(), record.metadata) == ([1.0, 2.0, 3.0], {"k": "v"})
        assert database.events.weight("b", "c") == 100.0
        ask(instance.face, "EVENT a ADD d 10")
    with start(settings) as instance:
        assert instance.face.database.events.weight("b", "d") == 100.0


def test_a_failing_log_ends_writing_and_loses_nothing(tmp_path: Path) -> None:
    settings = instance_settings(tmp_path / "s", wal=tmp_path / "wal")
    with start(settings) as instance:
        ask(instance.face, "VECSET a 1 2 3")
        log = instance.face.writer._log

        def full(descriptor: int, data: bytes) -> None:
            os.write(descriptor, data[:5])
            raise OSError(28, "No space left on device")

        log._write = full  # type: ignore[union-attr]
        refused = ask(instance.face, "VECSET b 1 2 3", "VECSET c 1 2 3")
        assert refused.count("ERROR cannot write the log in") == 2
        assert instance.face.database.vectors.ids() == ["a"]
        assert ask(instance.face, "SIM a 1 using=vectors") == "OK RESULTS 0\r\n"
    with start(settings) as instance:
        assert instance.face.database.vectors.ids() == ["a"]
    assert issubclass(UnavailableError, Exception)
