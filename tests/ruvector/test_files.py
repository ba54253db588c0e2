"""The binary files: what goes in comes out, any gzip reads it, and damage is found."""

from __future__ import annotations

import contextlib
import gzip
import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recollect.compat.ruvector.files.header import decode_header, encode_header
from recollect.compat.ruvector.files.index_file import decode_index, encode_index
from recollect.compat.ruvector.files.member import (
    FileReader,
    FileWriter,
    decode_member,
    encode_member,
    member_sizes,
)
from recollect.compat.ruvector.files.record_file import (
    REMOVED,
    SET,
    TOUCHED,
    BlockKind,
    RecordBlock,
    RecordCounts,
    decode_record_header,
    decode_records,
    encode_record_header,
    encode_records,
)
from recollect.compat.ruvector.files.vector_file import (
    decode_vector_header,
    decode_vectors,
    encode_vector_header,
    encode_vectors,
)
from recollect.errors import FormatVersionError, IntegrityError
from recollect.storage.memory import MemoryStore

levels = st.sampled_from([0, 1, 6, 9])
buffers = st.binary(max_size=300) | st.binary(max_size=40).map(lambda part: part * 5000)
matrices = arrays.arrays(
    np.uint32, st.tuples(st.integers(0, 40), st.integers(1, 9)), elements=st.integers(0, 2**32 - 1)
).map(lambda bits: bits.view(np.float32))
texts = st.none() | st.binary(max_size=50)


@st.composite
def record_blocks(draw: st.DrawFn) -> RecordBlock:
    """Blocks of every kind."""
    kind: BlockKind = draw(st.sampled_from([SET, TOUCHED, REMOVED]))
    keys = draw(st.lists(st.binary(min_size=1, max_size=30), max_size=20))
    metadata = [] if kind == REMOVED else draw(st.lists(texts, min_size=len(keys), max_size=len(keys)))
    digests = draw(st.binary(min_size=16 * len(keys), max_size=16 * len(keys))) if kind == SET else b""
    return RecordBlock(kind, keys, metadata, digests)


@given(st.lists(buffers, max_size=3), buffers, levels, st.sampled_from(["search", "entropy"]))
def test_a_member_comes_back_and_any_gzip_reads_it(
    stored: list[bytes], rest: bytes, level: int, how: str
) -> None:
    member = encode_member(stored, rest, level=level, strategy=how)  # type: ignore[arg-type]

    assert decode_member(member) == gzip.decompress(member) == b"".join([*stored, rest])
    assert member_sizes(member) == (len(member), sum(map(len, stored)) + len(rest))


@given(matrices, levels)
def test_vectors_come_back_bit_by_bit_also_nan_and_negative_zero(matrix: np.ndarray, level: int) -> None:
    raw = decode_member(encode_vectors(matrix, level=level))

    assert decode_vectors(raw, matrix.shape[1]).tobytes() == matrix.tobytes()


@given(record_blocks(), levels)
def test_records_come_back(block: RecordBlock, level: int) -> None:
    assert decode_records(decode_member(encode_records(block, level=level))) == block


@given(st.binary(max_size=200))
def test_bytes_that_are_no_block_are_damage_and_nothing_else(raw: bytes) -> None:
    for decode in (decode_records, lambda data: decode_vectors(data, 3), decode_member):
        with pytest.raises(IntegrityError):
            decode(raw)


@given(record_blocks(), st.data())
def test_a_flipped_bit_in_a_member_is_found_unless_it_means_nothing(
    block: RecordBlock, data: st.DataObject
) -> None:
    member = bytearray(encode_records(block, level=6))
    whole = decode_member(bytes(member))
    # Bytes 4 to 9 are gzip's time, flags and system: no reader looks at them, SHA-256 does.
    place = data.draw(st.integers(0, 3) | st.integers(10, len(member) - 1))
    bit = data.draw(st.integers(0, 7))
    member[place] ^= 1 << bit

    # Five bits before the lengths of a stored block mean nothing (3.2.4 of RFC 1951): all others are found.
    with contextlib.suppress(IntegrityError):
        assert decode_member(bytes(member)) == whole
        assert bit >= 3


@given(record_blocks(), st.data())
def test_a_member_cut_short_is_found(block: RecordBlock, data: st.DataObject) -> None:
    member = encode_records(block, level=6)

    with pytest.raises(IntegrityError):
        decode_member(member[: data.draw(st.integers(0, len(member) - 1))])


def test_headers_come_back_and_name_their_snapshot() -> None:
    vectors = decode_member(encode_vector_header("01abc", dimension=7, row_count=2**40))
    records = decode_member(encode_record_header("01abc", RecordCounts(1, 2, 3)))

    assert decode_vector_header("01abc", vectors) == (7, 2**40)
    assert decode_record_header("01abc", records) == RecordCounts(1, 2, 3)
    with pytest.raises(IntegrityError, match="01abc"):
        decode_vector_header("other", vectors)
    with pytest.raises(IntegrityError, match="RVSNRECS"):
        decode_vector_header("01abc", records)


def test_a_header_of_a_newer_version_is_not_called_damage() -> None:
    raw = bytearray(decode_member(encode_header("vectors", "01abc", b"")))
    raw[8] = 2

    with pytest.raises(FormatVersionError, match="version 2"):
        decode_header("vectors", "01abc", bytes(raw))


def test_an_index_without_a_graph_is_only_a_header() -> None:
    members = [*encode_index("01abc", "base", None, dimension=5, level=6)]

    assert len(members) == 1
    assert decode_index("01abc", map(decode_member, members), row_count=9, byte_size=999) == ("base", 5, None)


def _stored(parts: list[bytes]) -> tuple[MemoryStore, int, str]:
    writer, store = FileWriter(), MemoryStore()
    for part in parts:
        writer.append(encode_member([], part, level=6))
    file = writer.finish()
    store.put("file", b"".join(file.parts))
    return store, file.byte_size, file.sha256


def test_a_file_is_read_member_by_member_whatever_the_size_of_the_reads() -> None:
    generator = np.random.default_rng(1)
    parts = [generator.bytes(size) for size in (0, 1, 5_000_000, 17, 9_000_000, 3)]
    store, size, digest = _stored(parts)

    reader = FileReader(store, "file", byte_size=size, sha256=digest)

    assert [decode_member(member) for member in reader.members()] == parts
    assert hashlib.sha256(store.get("file")).hexdigest() == digest


@pytest.mark.parametrize("what", ["cut", "longer", "header cut", "other bytes", "not ours"])
def test_a_file_that_is_not_what_was_written_is_damage(what: str) -> None:
    store, size, digest = _stored([b"a" * 100, b"b" * 100])
    data = store.get("file")
    second = member_sizes(data)[0]
    changed = {
        "cut": data[:-1],
        "longer": data + b"\0",
        "header cut": data[: second + 10],
        "other bytes": data[:5] + b"\1" + data[6:],
        "not ours": gzip.compress(b"x" * 200),
    }[what]
    store.put("file", changed)
    expected_size = size if what in {"cut", "longer", "other bytes"} else len(changed)

    with pytest.raises(IntegrityError):
        [*FileReader(store, "file", byte_size=expected_size, sha256=digest).members()]
