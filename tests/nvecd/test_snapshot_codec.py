"""nvecd's snapshot format, read and written byte for byte."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect.compat.nvecd.snapshot.ahead import PIECE_BYTES, read_ahead
from recollect.compat.nvecd.snapshot.checksum import combine_all, crc32
from recollect.compat.nvecd.snapshot.content import (
    EVENT_ROW,
    EdgeColumns,
    EventColumns,
    SnapshotConfig,
    SnapshotContent,
    VectorColumns,
)
from recollect.compat.nvecd.snapshot.layout import CHECKSUM_OFFSET, NVECD_LIMITS, SnapshotLimits
from recollect.compat.nvecd.snapshot.read import Finding, check_file, read_content
from recollect.compat.nvecd.snapshot.write import write_content
from recollect.errors import FormatVersionError, IntegrityError, UnsupportedError
from tests.nvecd.snapshots import decode, encode

NAMES = st.text(min_size=1, max_size=12)
VALUES = st.one_of(
    st.text(max_size=8),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def events(draw: st.DrawFn) -> EventColumns:
    names = draw(st.lists(NAMES, unique=True, min_size=1, max_size=5))
    contexts = draw(st.lists(NAMES, unique=True, max_size=4))
    sizes = [draw(st.integers(0, 4)) for _ in contexts]
    count = sum(sizes)
    items = [draw(st.integers(0, len(names) - 1)) for _ in range(count)]
    rows = [
        (draw(st.integers(-(2**31), 2**31 - 1)), draw(st.integers(0, 2)), draw(st.integers(0, 2**64 - 1)))
        for _ in range(count)
    ]
    used = list(dict.fromkeys(items))
    return EventColumns(
        [names[item] for item in used],
        contexts,
        np.array(sizes, dtype=np.int64),
        np.array([used.index(item) for item in items], dtype=np.uint32),
        np.array(rows, dtype=EVENT_ROW),
    )


@st.composite
def contents(draw: st.DrawFn) -> SnapshotContent:
    dimension = draw(st.integers(1, 6))
    ids = draw(st.lists(NAMES, unique=True, max_size=6))
    rows = np.array([[draw(FLOATS) for _ in range(dimension)] for _ in ids], dtype="<f4")
    with_metadata = draw(st.lists(st.sampled_from(ids), unique=True)) if ids else []
    metadata = [
        (item, tuple(draw(st.dictionaries(st.text(max_size=5), VALUES, max_size=3)).items()))
        for item in with_metadata
    ]
    weights = draw(st.lists(FLOATS, min_size=2, max_size=2))
    edges = EdgeColumns(
        ["a", "b" * draw(st.integers(1, 9))],
        np.array([0, 1], dtype=np.uint32),
        np.array([1, 1]),
        np.array([1, 0], dtype=np.uint32),
        np.array(weights, dtype="<f4"),
    )
    return SnapshotContent(
        timestamp=draw(st.integers(0, 2**63)),
        config=SnapshotConfig(distance_metric=draw(st.sampled_from(["cosine", "dot", "l2"]))),
        events=draw(events()),
        edges=edges,
        vectors=VectorColumns(dimension, ids, rows.reshape(len(ids), dimension)),
        metadata=metadata or draw(st.sampled_from([[], None])),
        statistics=draw(st.sampled_from([None, bytes(48)])),
        extra=draw(st.sampled_from([None, b"", b"more"])),
    )


def plain(content: SnapshotContent) -> object:
    """Arrays as lists, so that contents compare."""
    return msgspec.to_builtins(
        content,
        enc_hook=lambda array: (array.dtype.str, array.tolist()) if isinstance(array, np.ndarray) else array,
    )


@settings(max_examples=40, deadline=None)
@given(content=contents())
def test_what_was_written_is_read_and_written_again_byte_for_byte(
    content: SnapshotContent, scratch: Path
) -> None:
    data = encode(content, scratch)
    found = decode(data, scratch)

    assert plain(found) == plain(content)
    assert encode(found, scratch) == data


def test_a_file_of_nvecd_is_written_again_byte_for_byte(golden: Path, scratch: Path) -> None:
    recorded = (golden / "example_meta.nvec").read_bytes()

    content = decode(recorded, scratch)

    assert content.vectors.ids == ["item3", "item2", "z", "item1"]
    assert dict(content.metadata or [])["item1"] == (("rank", 10), ("active", True), ("category", "a"))
    assert encode(content, scratch) == recorded


def test_many_groups_of_many_sizes_survive_pieces(scratch: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    names = [f"item-{'x' * int(generator.integers(0, 30))}-{number}" for number in range(500)]
    sizes = generator.integers(0, 400, 700)
    count = int(sizes.sum())
    rows = np.zeros(count, dtype=EVENT_ROW)
    rows["score"] = generator.integers(0, 101, count)
    rows["timestamp"] = generator.integers(0, 2**40, count)
    ids = [f"v{number}" * int(generator.integers(1, 4)) for number in range(5000)]
    content = SnapshotContent(
        timestamp=1,
        config=SnapshotConfig(),
        events=EventColumns(
            names,
            [f"c{n}" for n in range(700)],
            sizes,
            generator.integers(0, 500, count).astype(np.uint32),
            rows,
        ),
        edges=EdgeColumns([], *(np.zeros(0, dtype) for dtype in ("<u4", "<i8", "<u4", "<f4"))),
        vectors=VectorColumns(300, ids, generator.standard_normal((5000, 300), dtype=np.float32)),
        metadata=[],
    )

    found = decode(encode(content, scratch), tmp_path / "other.nvec")

    assert found.vectors.ids == ids
    assert np.array_equal(found.vectors.rows, content.vectors.rows)
    assert found.events.contexts == content.events.contexts
    assert np.array_equal(found.events.sizes, sizes)
    assert np.array_equal(found.events.rows, rows)
    assert [found.events.names[n] for n in found.events.items] == [names[n] for n in content.events.items]


@settings(max_examples=120, deadline=None)
@given(offset=st.integers(0, 765), mask=st.integers(1, 255))
def test_a_file_with_one_changed_byte_is_refused(offset: int, mask: int, golden: Path, scratch: Path) -> None:
    data = bytearray((golden / "example_meta.nvec").read_bytes())
    data[offset] ^= mask

    with pytest.raises((IntegrityError, FormatVersionError)):
        decode(bytes(data), scratch)


@pytest.mark.parametrize("size", range(0, 766, 7))
def test_a_truncated_file_is_refused(size: int, golden: Path, scratch: Path) -> None:
    data = (golden / "example_meta.nvec").read_bytes()[:size]

    with pytest.raises(IntegrityError):
        decode(data, scratch)


@settings(max_examples=150, deadline=None)
@given(offset=st.integers(44, 765), value=st.integers(0, 255), size_change=st.integers(-8, 8))
def test_a_changed_file_with_right_file_checksum_is_refused_or_equal(
    offset: int, value: int, size_change: int, golden: Path, scratch: Path
) -> None:
    """Whoever repairs the file's own checksum still has the sections' checks against them."""
    data = bytearray((golden / "example_meta.nvec").read_bytes())
    original = bytes(data)
    data[offset] = value
    data = data[: len(data) + size_change] if size_change < 0 else data + bytes(size_change)
    struct.pack_into("<Q", data, 24, len(data))
    struct.pack_into("<I", data, CHECKSUM_OFFSET, 0)
    struct.pack_into("<I", data, CHECKSUM_OFFSET, zlib.crc32(data))

    if bytes(data) == original:
        return
    with pytest.raises((IntegrityError, FormatVersionError)):
        decode(bytes(data), scratch)


@settings(max_examples=120, deadline=None)
@given(
    section=st.sampled_from(["events", "co_occurrence", "vectors", "metadata"]), seed=st.integers(0, 2**32)
)
def test_a_store_of_nonsense_with_right_checksums_never_crashes(
    section: str, seed: int, golden: Path, scratch: Path
) -> None:
    generator = np.random.default_rng(seed)
    data = bytearray((golden / "example_meta.nvec").read_bytes())
    place = data.index(struct.pack("<I", len(section)) + section.encode()) + 4 + len(section) + 4
    size, _ = struct.unpack_from("<II", data, place)
    for _ in range(int(generator.integers(1, 4))):
        data[place + 8 + int(generator.integers(0, size))] = int(generator.integers(0, 256))
    struct.pack_into("<I", data, place + 4, zlib.crc32(data[place + 8 : place + 8 + size]))
    struct.pack_into("<I", data, CHECKSUM_OFFSET, 0)
    struct.pack_into("<I", data, CHECKSUM_OFFSET, zlib.crc32(data))

    with contextlib.suppress(IntegrityError):
        decode(bytes(data), scratch)


def _finding(data: bytes, scratch: Path) -> str:
    scratch.write_bytes(data)
    descriptor = os.open(scratch, os.O_RDONLY)
    try:
        found = check_file(descriptor)
    finally:
        os.close(descriptor)
    return found.message if isinstance(found, Finding) else "whole"


def test_the_checks_speak_as_nvecd_does(golden: Path, scratch: Path) -> None:
    data = (golden / "example_meta.nvec").read_bytes()
    flipped = data[:-1] + bytes([data[-1] ^ 1])
    no_checksum = data[:CHECKSUM_OFFSET] + bytes(4) + data[CHECKSUM_OFFSET + 4 :]
    undeclared = data[:12] + bytes(4) + data[16:]

    assert _finding(data, scratch) == "whole"
    assert _finding(b"NV", scratch) == "Failed to read magic number"
    assert _finding(b"JUNK" + data[4:], scratch) == "Invalid magic number"
    assert _finding(data[:4] + b"\x02" + data[5:], scratch) == "Unsupported version: 2"
    assert _finding(data[:756], scratch) == "File size mismatch: expected 766, got 756"
    assert _finding(no_checksum, scratch) == "Snapshot file CRC32 is missing"
    assert _finding(undeclared, scratch) == "Snapshot does not declare required CRC32 protection"
    assert _finding(flipped, scratch).startswith("File CRC32 mismatch: expected 3377276938, got ")


def test_a_store_above_the_limit_is_not_written(golden: Path, scratch: Path, tmp_path: Path) -> None:
    content = decode((golden / "example_meta.nvec").read_bytes(), scratch)
    descriptor = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)

    with pytest.raises(UnsupportedError, match="events store size exceeds maximum: 128"):
        write_content(descriptor, content, SnapshotLimits(store_bytes_max=91))
    with pytest.raises(UnsupportedError, match="maximum total file size"):
        write_content(descriptor, content, SnapshotLimits(store_bytes_max=1000, file_bytes_max=700))
    os.close(descriptor)


def test_a_store_above_the_limit_is_not_read(golden: Path) -> None:
    descriptor = os.open(golden / "example_meta.nvec", os.O_RDONLY)

    with pytest.raises(IntegrityError, match="Store data size exceeds maximum: 216"):
        read_content(descriptor, SnapshotLimits(store_bytes_max=200))
    assert NVECD_LIMITS.store_bytes_max == 512 << 20
    os.close(descriptor)


@given(parts=st.lists(st.binary(max_size=50), max_size=6))
def test_checksums_of_parts_join_to_that_of_the_whole(parts: list[bytes]) -> None:
    assert combine_all((crc32(part), len(part)) for part in parts) == zlib.crc32(b"".join(parts))


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES - 7])
def test_a_file_read_ahead_is_the_file(size: int, tmp_path: Path) -> None:
    data = np.random.default_rng(size).bytes(size + 10)
    (tmp_path / "file").write_bytes(data)
    noted: list[bytes] = []
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)

    pieces = [
        bytes(piece) for piece in read_ahead(descriptor, 5, size, lambda piece: noted.append(bytes(piece)))
    ]
    behind = [bytes(piece) for piece in read_ahead(descriptor, 5, size + 100)]
    os.close(descriptor)

    assert b"".join(pieces) == data[5 : 5 + size] == b"".join(noted)
    assert all(len(piece) == PIECE_BYTES for piece in pieces[:-1])
    assert b"".join(behind) == data[5:]


def test_vectors_with_long_ids_and_rows_longer_than_a_piece_are_read(scratch: Path) -> None:
    ids = ["a" * 9_000_000, "b", "c" * 5_000_000, *(f"d{number}" for number in range(100))]
    rows = np.arange(2 * len(ids), dtype="<f4").reshape(len(ids), 2)
    content = SnapshotContent(
        timestamp=1,
        config=SnapshotConfig(),
        events=EventColumns([], [], *(np.zeros(0, kind) for kind in ("<i8", "<u4", EVENT_ROW))),
        edges=EdgeColumns([], *(np.zeros(0, kind) for kind in ("<u4", "<i8", "<u4", "<f4"))),
        vectors=VectorColumns(2, ids, rows),
        metadata=None,
    )

    found = decode(encode(content, scratch), scratch)

    assert found.vectors.ids == ids
    assert np.array_equal(found.vectors.rows, rows)
