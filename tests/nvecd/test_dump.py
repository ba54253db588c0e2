"""DUMP: files in and out of the face, both reply styles, what is refused, what survives."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from recollect.clock import SystemClock
from recollect.compat.nvecd.config.settings import HttpSettings, NvecdSettings, TcpSettings
from recollect.compat.nvecd.face import Face
from recollect.compat.nvecd.instance import Instance
from recollect.compat.nvecd.load import STAGING
from recollect.database import Database
from tests.nvecd.faces import ask, open_face, settings_in
from tests.nvecd.snapshots import GOLDEN


def fill(face: Face) -> None:
    ask(
        face,
        "EVENT ctx1 ADD item1 100",
        "EVENT ctx1 ADD item2 90",
        "VECSET item1 1 0 0",
        "VECSET item2 0.9 0.1 0",
        "METASET item2 category:b,rank:20,w:1.5,on:true",
    )


def everything(face: Face) -> object:
    """What the stores hold, to compare."""
    database = face.database
    vectors = [(one.id, one.vector.tolist(), one.metadata) for one in database.vectors.records()]
    content = database.events.content()
    return (
        vectors,
        sorted((name, [msgspec.structs.astuple(e) for e in events]) for name, events in content.contexts),
        content.edges,
    )


def test_what_was_saved_is_loaded_into_another_server(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "s")
    with open_face(settings) as face:
        fill(face)
        saved = everything(face)
        assert ask(face, "DUMP SAVE a.nvec").startswith("OK DUMP_SAVED")
    with open_face(settings) as face:
        ask(face, "VECSET other 1 2", "EVENT x ADD y 1")
        assert ask(face, "DUMP LOAD a.nvec").startswith("OK DUMP_LOADED")
        assert everything(face) == saved
        assert ask(face, "VECSET more 1 2 3") == "OK VECSET\r\n"


def test_a_file_of_nvecd_is_loaded_and_saved_again(tmp_path: Path) -> None:
    directory = tmp_path / "s"
    with open_face(settings_in(directory)) as face:
        recorded = (GOLDEN / "example_meta.nvec").read_bytes()
        (directory / "a.nvec").write_bytes(recorded)
        assert ask(face, "DUMP LOAD a.nvec").startswith("OK DUMP_LOADED")
        assert "item2 9000.0000" in ask(face, "SIM item1 10 using=events")
        assert ask(face, "SIM item1 5 using=vectors filter=rank>5") == "OK RESULTS 1\r\nitem2 0.9939\r\n"
        ask(face, "DUMP SAVE b.nvec")
        assert (directory / "b.nvec").stat().st_size == len(recorded)
        again = everything(face)
        ask(face, "DUMP LOAD b.nvec")
        assert everything(face) == again


@pytest.mark.parametrize("damage", ["flip", "cut", "foreign", "newer"])
def test_a_bad_file_changes_nothing(tmp_path: Path, damage: str) -> None:
    directory = tmp_path / "s"
    with open_face(settings_in(directory)) as face:
        fill(face)
        ask(face, "DUMP SAVE good.nvec")
        data = bytearray((directory / "good.nvec").read_bytes())
        if damage == "flip":
            data[-3] ^= 4
        elif damage == "cut":
            del data[-9:]
        elif damage == "foreign":
            data[:4] = b"JUNK"
        else:
            data[4] = 2
        (directory / "bad.nvec").write_bytes(data)
        ask(face, "VECSET later 0 0 1")
        before = everything(face)
        reply = ask(face, "DUMP LOAD bad.nvec")
        assert reply.startswith(f"ERROR Failed to load snapshot from {directory}/bad.nvec: ")
        assert everything(face) == before
        assert ask(face, "VECSET later 0 1 1") == "OK VECSET\r\n"


def test_the_documented_replies_read_word_for_word(tmp_path: Path) -> None:
    directory = tmp_path / "s"
    with open_face(settings_in(directory, reply_style="doc")) as face:
        fill(face)
        saved = ask(face, "DUMP SAVE")
        path = re.match(r"OK Snapshot saved: (\S+)\r\n", saved)[1]  # type: ignore[index]
        size = Path(path).stat().st_size
        assert re.fullmatch(r"dump_\d{8}_\d{6}\.nvec", Path(path).name)
        counts = "event_store_contexts: 1\r\nvector_store_vectors: 2\r\nco_occurrence_pairs: 1\r\n"
        assert saved == f"OK Snapshot saved: {path}\r\n{counts}size: {size} bytes\r\n"
        assert ask(face, f"DUMP LOAD {path}") == f"OK Snapshot loaded: 2 events, 2 vectors\r\n{counts}"
        checksum = int.from_bytes(Path(path).read_bytes()[32:36], "little")
        verified = ask(face, f"DUMP VERIFY {path}").split("\r\n")
        assert verified[0] == f"OK Snapshot is valid (CRC32: 0x{checksum:08x})"
        assert verified[1:] == ["status: valid", "crc: verified", "size: verified", ""]
        info = ask(face, f"DUMP INFO {path}").split("\r\n")
        assert info[:6] == [
            "OK INFO",
            "version: 1",
            "event_store_count: 2",
            "vector_store_count: 2",
            "co_occurrence_count: 1",
            f"file_size: {size}",
        ]
        assert re.fullmatch(r"created_at: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", info[6])
        assert info[7:] == ["END", ""]


def test_the_documented_errors_read_word_for_word(tmp_path: Path) -> None:
    directory = tmp_path / "s"
    with open_face(settings_in(directory, reply_style="doc")) as face:
        fill(face)
        ask(face, "DUMP SAVE a.nvec")
        data = bytearray((directory / "a.nvec").read_bytes())
        checksum = int.from_bytes(data[32:36], "little")
        data[-1] ^= 1
        (directory / "bad.nvec").write_bytes(data)
        for verb in ("VERIFY", "LOAD"):
            reply = ask(face, f"DUMP {verb} bad.nvec").split("\r\n")
            assert reply[:2] == ["(error) CRC mismatch: file may be corrupted", f"expected: 0x{checksum:08x}"]
            assert re.fullmatch(r"actual: 0x[0-9a-f]{8}", reply[2])
        data[4] = 2
        (directory / "newer.nvec").write_bytes(data)
        assert ask(face, "DUMP LOAD newer.nvec") == "(error) Version mismatch: expected 1, got 2\r\n"
        assert ask(face, "DUMP SAVE ../x") == "(error) Invalid filepath: path traversal detected\r\n"
        for line in ("DUMP FOO", " dump foo", "Dump Foo"):
            assert ask(face, line) == "(error) Unknown DUMP subcommand: FOO\r\n"
        with face.gate.loading():
            assert ask(face, "DUMP SAVE b.nvec") == "(error) Cannot save snapshot: read-only mode\r\n"
        directory.chmod(0o777)
        assert ask(face, "DUMP SAVE b.nvec").split("\r\n")[:2] == [
            "(error) Permission denied",
            f"reason: Storage directory must not be writable by group or others: {directory}",
        ]


def test_the_documented_info_counts_nothing_that_it_cannot_read(tmp_path: Path) -> None:
    directory = tmp_path / "s"
    with open_face(settings_in(directory, reply_style="doc")) as face:
        fill(face)
        ask(face, "DUMP SAVE a.nvec")
        (directory / "cut.nvec").write_bytes((directory / "a.nvec").read_bytes()[:150])
        reply = ask(face, "DUMP INFO cut.nvec")
        assert reply.startswith(f"(error) Failed to read snapshot info from {directory}/cut.nvec: ")


def wait_for(face: Face, state: str) -> None:
    deadline = time.monotonic() + 10
    while face.saver.status.state != state:
        assert time.monotonic() < deadline
        face.saver.wait(1)


def test_a_background_save_holds_what_was_there_when_it_began(tmp_path: Path) -> None:
    directory = tmp_path / "s"
    with open_face(settings_in(directory, mode="fork")) as face:
        fill(face)
        before = everything(face)
        assert ask(face, "DUMP SAVE a.nvec") == f"OK DUMP_SAVE_STARTED {directory}/a.nvec\r\n"
        assert ask(face, "VECSET later 1 1 1", "VECDEL item1") == "OK VECSET\r\nOK VECDEL\r\n"
        wait_for(face, "completed")
        status = ask(face, "DUMP STATUS").split("\r\n")
        assert status[:3] == ["OK DUMP_STATUS", "status: completed", f"filepath: {directory}/a.nvec"]
        assert [line.split(":")[0] for line in status[3:5]] == ["start_time", "end_time"]
        assert ask(face, "DUMP VERIFY a.nvec") == f"OK DUMP_VERIFIED {directory}/a.nvec\r\n"
        ask(face, "DUMP LOAD a.nvec")
        assert everything(face) == before


def test_one_background_save_at_a_time_and_none_during_a_load(tmp_path: Path) -> None:
    with open_face(settings_in(tmp_path / "s", mode="fork")) as face:
        fill(face)
        release = threading.Event()
        face.saver.start(tmp_path / "s" / "a.nvec", when_done=release.wait)
        try:
            deadline = time.monotonic() + 5
            while face.saver.status.state == "in_progress" and time.monotonic() < deadline:
                time.sleep(0.001)
        finally:
            release.set()
        with face.gate.loading():
            for command in ("DUMP SAVE b.nvec", "SIM item1 3", "EVENT c ADD i 1"):
                assert ask(face, command) == "ERROR LOADING Snapshot load in progress\r\n"
            assert ask(face, "INFO").startswith("OK INFO")
            assert ask(face, "DUMP STATUS").startswith("OK DUMP_STATUS")
        with face.gate.saving_locked():
            assert ask(face, "EVENT c ADD i 1") == "ERROR READONLY Snapshot in progress\r\n"
            assert ask(face, "DUMP LOAD a.nvec") == "ERROR A snapshot save is already in progress\r\n"
            assert ask(face, "SIM item1 3").startswith("OK RESULTS")


def test_a_failed_background_save_says_why_and_leaves_the_old_file(tmp_path: Path) -> None:
    directory = tmp_path / "s"
    with open_face(settings_in(directory, mode="fork")) as face:
        fill(face)
        face.saver.start(directory / "gone" / "a.nvec")
        wait_for(face, "failed")
        assert "error: Cannot resolve directory ancestors" in ask(face, "DUMP STATUS")
        assert not list(directory.iterdir())


def test_paths_are_kept_in_the_directory(tmp_path: Path) -> None:
    directory = tmp_path / "s"
    traversal = "ERROR Invalid filepath: path traversal detected\r\n"
    with open_face(settings_in(directory)) as face:
        fill(face)
        (tmp_path / "outside").mkdir()
        (directory / "link").symlink_to(tmp_path / "outside")
        for path in ("../x", "a..b", "/etc/x", f"{directory}/../x", "link/x", str(directory)):
            assert ask(face, f"DUMP SAVE {path}") == traversal
        assert ask(face, f"DUMP SAVE {directory}/x.nvec").startswith("OK DUMP_SAVED")
        assert (directory / "x.nvec").stat().st_mode & 0o777 == 0o600
        assert (
            ask(face, "DUMP SAVE sub/x.nvec")
            == f"ERROR Cannot resolve directory ancestors: {directory}/sub\r\n"
        )
        (directory / "x.nvec").chmod(0o666)
        assert "Storage file is not a private service-owned regular file" in ask(face, "DUMP LOAD x.nvec")
        (directory / "x.nvec").chmod(0o600)
        directory.chmod(0o777)
        shared = f"ERROR Storage directory must not be writable by group or others: {directory}\r\n"
        assert ask(face, "DUMP SAVE y.nvec") == shared
        directory.chmod(0o700)
        assert not list((tmp_path / "outside").iterdir())


def test_a_pipe_in_the_directory_holds_nobody_up(tmp_path: Path) -> None:
    directory = tmp_path / "s"
    with open_face(settings_in(directory)) as face:
        fill(face)
        os.mkfifo(directory / "pipe.nvec", 0o600)
        for verb in ("LOAD", "VERIFY", "INFO"):
            assert "not a private service-owned regular file" in ask(face, f"DUMP {verb} pipe.nvec")
        assert ask(face, "EVENT c ADD i 1") == "OK EVENT\r\n"


def test_a_save_takes_no_name_of_the_servers_own_files(tmp_path: Path) -> None:
    directory = tmp_path / "s"
    with open_face(settings_in(directory)) as face:
        fill(face)
        for name in ("a.nvec.walseq", ".a.nvec.tmp.12.3"):
            reply = ask(face, f"DUMP SAVE {name}")
            assert (
                reply == f"ERROR Invalid filepath: names like {name} are kept for the server's own files\r\n"
            )
        assert ask(face, "DUMP SAVE .a.tmp.x").startswith("OK DUMP_SAVED")
        assert [path.name for path in directory.iterdir()] == [".a.tmp.x"]


def test_state_travels_in_a_store_of_our_own_and_only_then(tmp_path: Path) -> None:
    directory = tmp_path / "s"
    settings = settings_in(directory, mode="lock")
    with open_face(settings) as face:
        fill(face)
        ask(face, "DUMP SAVE pure.nvec")
        assert b"recollect" not in (directory / "pure.nvec").read_bytes()
        state = face.database.state
        state.set("n", "agent", "k", {"step": 1})
        state.set("n", "agent", "k", {"step": 2})
        state.set("n", "agent", "gone", 1)
        state.delete("n", "agent", "gone")
        face.database.vectors.set(7, [1, 2, 3], {"nested": {"a": [1]}})
        face.database.vectors.set("odd", [3, 2, 1], {"nothing": None})
        face.database.collection("second").set("x", [1.0, 2.0])
        ask(face, "DUMP SAVE full.nvec")
        vectors = everything(face)
    with open_face(settings) as face:
        assert ask(face, "DUMP LOAD full.nvec").startswith("OK DUMP_LOADED")
        assert everything(face) == vectors
        found = face.database.state.get("n", "agent", "k")
        assert (found.value, found.version) == ({"step": 2}, 2)
        assert [one.value for one in face.database.state.history("n", "agent", "k")] == [
            {"step": 1},
            {"step": 2},
        ]
        assert not face.database.state.get("n", "agent", "gone").exists
        second = face.database.collection("second").get("x")
        assert second is not None
        assert second.vector.tolist() == [1.0, 2.0]
        face.database.state.set("n", "agent", "k", {"step": 3})
        face.database.state.set("n", "agent", "new", 1)
        ask(face, "DUMP LOAD full.nvec")
        assert face.database.state.get("n", "agent", "k").value == {"step": 2}
        assert face.database.state.list_keys("n", "agent") == ["k"]


def test_a_load_is_one_commit_that_survives_in_a_durable_database(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "s")
    with open_face(settings) as face:
        fill(face)
        saved = everything(face)
        ask(face, "DUMP SAVE a.nvec")
    with Database.open(tmp_path / "data") as database:
        durable = Face(database, settings, SystemClock())
        ask(durable, "VECSET other 1 2", "EVENT x ADD y 1")
        assert ask(durable, "DUMP LOAD a.nvec").startswith("OK DUMP_LOADED")
        assert everything(durable) == saved
    with Database.open(tmp_path / "data") as database:
        assert everything(Face(database, settings, SystemClock())) == saved


def test_a_load_that_was_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "s")
    with Database.open(tmp_path / "data") as database:
        database.vectors.set("a", [1.0, 2.0])
        database.collection(STAGING).set("half", [1.0])
        face = Face(database, settings, SystemClock())
        face.dumps.directory.create()
        ask(face, "DUMP SAVE a.nvec")
        assert b"half" not in (tmp_path / "s" / "a.nvec").read_bytes()
        with database.hold() as held:
            assert STAGING not in held.collections()
    settings = msgspec.structs.replace(
        settings, api=msgspec.structs.replace(settings.api, tcp=TcpSettings(port=0), http=HttpSettings())
    )
    with (
        Database.open(tmp_path / "data") as database,
        Instance(settings, SystemClock(), list[str]().append, database=database),
    ):
        assert database.collections() == ["vectors"]


def test_a_large_store_needs_the_limits_of_the_format(tmp_path: Path) -> None:
    def limits(name: str) -> NvecdSettings:
        return settings_in(tmp_path / "s", limits=name)

    assert limits("format").snapshot.limits == "format"
    with open_face(limits("nvecd")) as face:
        face.database.vectors.set_many([f"i{n}" for n in range(10)], np.ones((10, 4), np.float32))
        assert ask(face, "DUMP SAVE a.nvec").startswith("OK DUMP_SAVED")
