"""nvecd's write-ahead log and checkpoint sidecar, byte for byte; what a crash leaves, and damage."""

from __future__ import annotations

import contextlib
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recollect.compat.nvecd.config.settings import WalSettings
from recollect.compat.nvecd.protocol import command as cmd
from recollect.compat.nvecd.wal.directory import replay, scan
from recollect.compat.nvecd.wal.record import FILE_HEADER, HEAD, Decay, Record, decode_body, encode_record
from recollect.compat.nvecd.wal.sidecar import Sidecar, decode_sidecar
from recollect.compat.nvecd.wal.writer import LogWriter
from recollect.errors import FormatVersionError, IntegrityError
from tests.nvecd.snapshots import GOLDEN

NAMES = st.text(min_size=1, max_size=8)
SCALARS = st.one_of(
    st.text(max_size=6), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)
)
CHANGES = st.one_of(
    st.builds(cmd.Event, NAMES, NAMES, st.integers(0, 2), st.integers(0, 100), st.integers(1, 2**40)),
    st.builds(
        cmd.VecSet, NAMES, st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=4).map(tuple)
    ),
    st.builds(cmd.VecDel, NAMES),
    st.builds(cmd.MetaSet, NAMES, st.dictionaries(NAMES, SCALARS, max_size=3)),
    st.just(Decay()),
)


def records(directory: Path, after: int = 0) -> list[Record]:
    return list(replay(scan(directory), after))


def place(directory: Path, data: bytes, number: int = 1) -> Path:
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / f"wal-{number:06d}.log"
    path.write_bytes(data)
    return path


def test_the_recorded_log_is_read_and_written_again_byte_for_byte(tmp_path: Path) -> None:
    data = (GOLDEN / "wal-000001.log").read_bytes()
    place(tmp_path / "wal", data)

    found = records(tmp_path / "wal")

    assert [record.change for record in found] == [
        cmd.Event("a", "b", 0, 10, 1795224837),
        cmd.Event("a", "c", 0, 10, 1795224837),
        cmd.VecSet("b", (1.0, 2.0, 3.0)),
        cmd.MetaSet("b", {"k": "v"}),
    ]
    assert FILE_HEADER.pack(b"NWAL", 1) + b"".join(map(encode_record, found)) == data


def test_the_recorded_sidecar_is_read_and_written_again_byte_for_byte() -> None:
    data = (GOLDEN / "ok.nvec.walseq").read_bytes()

    sidecar = decode_sidecar(data)

    assert sidecar == Sidecar(sequence=4, file_size=766, checksum=0x451735CF)
    assert sidecar.encode() == data
    for position in range(len(data)):
        assert decode_sidecar(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]) is None


@given(change=CHANGES, sequence=st.integers(1, 2**63), time_us=st.integers(0, 2**63))
def test_every_change_survives_the_log(change: cmd.Write | Decay, sequence: int, time_us: int) -> None:
    record = Record(sequence, time_us, change)

    assert decode_body(encode_record(record)[HEAD.size :], "there") == record


@given(body=st.binary(min_size=17, max_size=60))
def test_nonsense_with_a_right_checksum_is_an_error_and_nothing_else(body: bytes) -> None:
    with contextlib.suppress(IntegrityError):
        decode_body(body, "wal-000001.log at offset 8")


def test_a_log_cut_anywhere_gives_its_whole_records(tmp_path: Path) -> None:
    data = (GOLDEN / "wal-000001.log").read_bytes()
    ends = [0x08, 0x38, 0x68, 0x96, 0xBB]
    for size in range(len(data) + 1):
        place(tmp_path / "wal", data[:size])
        files = scan(tmp_path / "wal")
        assert len(list(replay(files, 0))) == max(0, sum(end <= size for end in ends) - 1)
        assert files[0].is_torn == (size not in [0, *ends])


def test_a_changed_byte_is_found_unless_it_only_cuts_the_end(tmp_path: Path) -> None:
    data = (GOLDEN / "wal-000001.log").read_bytes()
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 0x10
        place(tmp_path / "wal", bytes(changed))
        with contextlib.suppress(IntegrityError, FormatVersionError):
            # A length that points behind the end looks like an unfinished record; nothing else passes.
            assert len(records(tmp_path / "wal")) < 4


def test_damage_before_the_newest_file_is_never_passed_over(tmp_path: Path) -> None:
    data = (GOLDEN / "wal-000001.log").read_bytes()
    fifth = FILE_HEADER.pack(b"NWAL", 1) + encode_record(Record(5, 0, Decay()))
    place(tmp_path / "wal", data[:-1])
    place(tmp_path / "wal", fifth, 2)
    with pytest.raises(IntegrityError, match=r"not contiguous|Torn WAL record"):
        scan(tmp_path / "wal")
    place(tmp_path / "wal", data)
    assert len(records(tmp_path / "wal")) == 5
    place(tmp_path / "wal", FILE_HEADER.pack(b"NWAL", 1) + encode_record(Record(6, 0, Decay())), 2)
    with pytest.raises(IntegrityError, match="not contiguous: previous=4, current=6"):
        scan(tmp_path / "wal")


def test_a_log_that_begins_too_late_is_refused(tmp_path: Path) -> None:
    place(tmp_path / "wal", FILE_HEADER.pack(b"NWAL", 1) + encode_record(Record(5, 0, Decay())))
    files = scan(tmp_path / "wal")

    assert len(list(replay(files, 4))) == 1
    with pytest.raises(IntegrityError, match="begins at record 5, what was loaded ends at record 3"):
        list(replay(files, 3))


def test_a_newer_log_is_unsupported_not_damaged(tmp_path: Path) -> None:
    place(tmp_path / "wal", FILE_HEADER.pack(b"NWAL", 2))
    with pytest.raises(FormatVersionError):
        scan(tmp_path / "wal")


def test_files_are_rotated_and_numbered_on(tmp_path: Path) -> None:
    directory = tmp_path / "wal"
    directory.mkdir(mode=0o700)
    writer = LogWriter(directory, WalSettings(enabled=True, max_file_size=200, sync_interval_ms=1), [], 0)
    for number in range(20):
        writer.append([cmd.Event("c", f"i{number}", 0, 1, 5)], now_us=number)
    writer.close()
    files = scan(directory)

    assert len(files) > 5
    assert all(file.byte_size <= 200 for file in files)
    assert [record.sequence for record in replay(files, 0)] == list(range(1, 21))
    again = LogWriter(directory, WalSettings(enabled=True), files, 20)
    again.append([cmd.VecDel("x")], now_us=1)
    again.close()
    assert scan(directory)[-1].number == files[-1].number + 1
    assert records(directory)[-1].sequence == 21


def test_vectors_can_be_left_out_of_the_log(tmp_path: Path) -> None:
    directory = tmp_path / "wal"
    directory.mkdir(mode=0o700)
    writer = LogWriter(directory, WalSettings(enabled=True, include_vectors=False), [], 0)
    writer.append([cmd.VecSet("a", (1.0,)), cmd.VecDel("a")], now_us=1)
    writer.close()

    assert [record.change for record in records(directory)] == [cmd.VecDel("a")]


def test_the_checksum_is_of_the_body_alone() -> None:
    encoded = encode_record(Record(1, 2, Decay()))
    size, checksum = struct.unpack_from("<II", encoded)

    assert size == len(encoded) - 8
    assert checksum == zlib.crc32(encoded[8:])
