from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
import pytest

from recollect.codec import column_file
from recollect.codec.column_file import ENTRY, FOOTER_SIZE, HEAD_SIZE
from recollect.codec.vector_column import VectorColumnReader, decode_vector_column, encode_vector_column
from recollect.errors import FormatVersionError, IntegrityError
from recollect.values.schema import VectorSpec
from tests.codec.columns import DENSE, SPECS, column, range_reader

SMALL = [spec for spec in SPECS if spec.name in {"dense", "halves", "bytes", "many", "words"}]
HUGE = 2**40


def encoded(spec: VectorSpec, row_count: int = 9) -> bytes:
    return encode_vector_column(column(spec, "normal", row_count, seed=1), spec)


def with_footer(data: bytes, spec: VectorSpec, change: Callable[[npt.NDArray[np.void]], None]) -> bytes:
    """Change the block table and sign it anew, as a liar would."""
    _, frame = column_file.read_frame(data, len(data), spec)
    assert frame is not None
    table = frame.table.copy()
    change(table)
    body = data[: len(data) - FOOTER_SIZE - table.nbytes]
    return body + column_file.encode_tail(table, spec, len(body))


@pytest.mark.parametrize("spec", SMALL, ids=lambda spec: spec.name)
@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_every_flipped_byte_is_noticed(spec: VectorSpec, mask: int) -> None:
    data = encoded(spec)
    for offset in range(len(data)):
        broken = bytearray(data)
        broken[offset] ^= mask
        with pytest.raises((IntegrityError, FormatVersionError)):
            decode_vector_column(bytes(broken), spec)


@pytest.mark.parametrize("spec", SMALL, ids=lambda spec: spec.name)
def test_every_truncation_is_noticed(spec: VectorSpec) -> None:
    data = encoded(spec)
    for size in range(len(data)):
        with pytest.raises(IntegrityError):
            decode_vector_column(data[:size], spec)


def test_bytes_before_or_after_the_file_are_noticed() -> None:
    data = encoded(DENSE)
    for broken in (data + b"\0", b"\0" + data, data + data):
        with pytest.raises(IntegrityError):
            decode_vector_column(broken, DENSE)


def test_check_notices_what_a_partial_read_does_not_touch() -> None:
    spec = VectorSpec(name="v", dimension=384)
    data = bytearray(encoded(spec, 1500))
    data[HEAD_SIZE + 1_000_000] ^= 1
    reader = VectorColumnReader(range_reader(bytes(data)), len(data), spec)

    reader.read(0, 10)
    with pytest.raises(IntegrityError, match=r"block 1 of the column of vector 'v'"):
        reader.check()


def test_check_notices_a_damaged_head() -> None:
    data = b"X" + encoded(DENSE)[1:]
    reader = VectorColumnReader(range_reader(data), len(data), DENSE)

    with pytest.raises(IntegrityError, match="does not begin"):
        reader.check()


def test_a_newer_version_is_unsupported_rather_than_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column_file, "VERSION", 2)
    data = encoded(DENSE)
    monkeypatch.undo()

    with pytest.raises(FormatVersionError, match="version 2"):
        decode_vector_column(data, DENSE)


@pytest.mark.parametrize(
    "other",
    [
        VectorSpec(name="dense", dimension=7),
        VectorSpec(name="dense", dimension=6, datatype="float16"),
        VectorSpec(name="dense", dimension=6, kind="multi"),
        VectorSpec(name="dense", kind="sparse"),
    ],
    ids=lambda spec: f"{spec.kind}-{spec.datatype}-{spec.dimension}",
)
def test_the_column_of_another_vector_is_refused(other: VectorSpec) -> None:
    with pytest.raises(IntegrityError, match="but vector 'dense' is"):
        decode_vector_column(encoded(DENSE), other)


def claim(name: str, value: Any) -> Callable[[npt.NDArray[np.void]], None]:
    def change(table: npt.NDArray[np.void]) -> None:
        table[name][0] = value

    return change


@pytest.mark.parametrize("spec", SMALL, ids=lambda spec: spec.name)
@pytest.mark.parametrize(
    "change",
    [
        claim("row_count", 2**32 - 1),
        claim("row_count", 0),
        claim("item_count", HUGE),
        claim("item_count", 2**64 - 1),
        claim("item_count", 1000),
        claim("length", 8),
        claim("length", 2**32 - 1),
        claim("offset", 8),
        claim("first_row", 1),
        claim("value_encoding", 200),
        claim("index_encoding", 3),
        claim("reserved", 1),
        claim("crc", 7),
    ],
)
def test_a_lying_table_is_refused_before_memory_is_taken(
    spec: VectorSpec, change: Callable[[npt.NDArray[np.void]], None]
) -> None:
    """Checksums hold; the claims contradict each other, the file's size, or what bytes can unpack to."""
    with pytest.raises(IntegrityError):
        decode_vector_column(with_footer(encoded(spec), spec, change), spec)


def lying_block(spec: VectorSpec, offset: int, replacement: bytes) -> bytes:
    """Change bytes of the first block and correct its checksum."""
    data = bytearray(encoded(spec))
    data[HEAD_SIZE + offset : HEAD_SIZE + offset + len(replacement)] = replacement

    def sign(table: npt.NDArray[np.void]) -> None:
        end = HEAD_SIZE + int(table["length"][0])
        table["crc"][0] = google_crc32c.value(bytes(data[HEAD_SIZE:end]))

    return with_footer(bytes(data), spec, sign)


@pytest.mark.parametrize("spec", SMALL, ids=lambda spec: spec.name)
@pytest.mark.parametrize(("length", "codec"), [(2**32 - 1, 0), (1, 0), (0, 0), (None, 1), (None, 9)])
def test_a_lying_stream_directory_is_refused(spec: VectorSpec, length: int | None, codec: int) -> None:
    data = encoded(spec)
    stream_count = {"dense": 3, "halves": 2, "bytes": 1, "many": 7, "words": 11}[spec.name]
    told = 0
    for stream in range(stream_count):
        truth = struct.unpack_from("<II", data, HEAD_SIZE + 8 * stream)
        lie = (truth[0] if length is None else length, codec)
        if lie != truth:
            told += 1
            with pytest.raises(IntegrityError):
                decode_vector_column(lying_block(spec, 8 * stream, struct.pack("<II", *lie)), spec)
    assert told > 0


def test_a_frame_that_claims_another_size_is_refused_by_its_claim() -> None:
    """A run-length frame of a few bytes could fill the memory."""
    spec = VectorSpec(name="v", dimension=384, datatype="uint8")
    data = encode_vector_column(column(spec, "constant", 2000, seed=1), spec)
    entry_offset = len(data) - FOOTER_SIZE - ENTRY.itemsize
    stored = data[HEAD_SIZE + 8 : entry_offset]
    claimed = bytearray(stored)
    claimed[5:9] = struct.pack("<I", 2**31)  # content size of the frame header

    def sign(table: npt.NDArray[np.void]) -> None:
        table["crc"][0] = google_crc32c.value(data[HEAD_SIZE : HEAD_SIZE + 8] + bytes(claimed))

    lying = data[: HEAD_SIZE + 8] + bytes(claimed) + data[entry_offset:]
    with pytest.raises(IntegrityError, match="unpacks to"):
        decode_vector_column(with_footer(lying, spec, sign), spec)


def test_a_short_read_is_noticed() -> None:
    spec = VectorSpec(name="v", dimension=384)
    data = encoded(spec, 1500)
    reader = VectorColumnReader(range_reader(data), len(data), spec)
    reader._read = lambda start, length: data[start : start + length - 1]

    with pytest.raises(IntegrityError, match="checksum"):
        reader.read(0, 1)
    with pytest.raises(IntegrityError, match="gave"):
        VectorColumnReader(lambda start, length: data[start : start + length - 1], len(data), spec)
