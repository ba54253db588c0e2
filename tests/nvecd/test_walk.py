"""Records of grouped stores, found by many walks at once, are those that one walk finds."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from recollect.compat.nvecd.snapshot import walk
from recollect.compat.nvecd.snapshot.decode import decode_edges, decode_events
from recollect.errors import IntegrityError


def one_by_one(data: bytes, width: int) -> tuple[list[int], list[bool], int]:
    """The records as a plain loop finds them, and where they end."""
    places, heads = list[int](), list[bool]()
    position, rows_left = 4, 0
    while position < len(data):
        end = position + 4 + struct.unpack_from("<I", data, position)[0]
        places.append(position)
        heads.append(rows_left == 0)
        if rows_left:
            position, rows_left = end + width, rows_left - 1
        else:
            position, rows_left = end + 4, struct.unpack_from("<I", data, end)[0]
    return places, heads, position


def store(groups: list[tuple[bytes, list[bytes]]], tail: bytes) -> bytes:
    """A store of groups whose rows all end in `tail`."""
    parts = [struct.pack("<I", len(groups))]
    for name, rows in groups:
        parts += [struct.pack("<I", len(name)), name, struct.pack("<I", len(rows))]
        for row in rows:
            parts += [struct.pack("<I", len(row)), row, tail]
    return b"".join(parts)


def made(group_count: int, row_count_max: int, *, alphabet: bytes, tail: bytes, seed: int) -> bytes:
    """A store of random names; those of zero bytes look like lengths."""
    generator = np.random.default_rng(seed)
    letters = np.frombuffer(alphabet, np.uint8)

    def name() -> bytes:
        return generator.choice(letters, int(generator.integers(1, 40))).tobytes()

    return store(
        [
            (name(), [name() for _ in range(int(generator.integers(0, row_count_max)))])
            for _ in range(group_count)
        ],
        tail,
    )


@pytest.mark.parametrize("alphabet", [b"item0123456789", b"\0\1", b"\0\0\0\5a"])
@pytest.mark.parametrize(
    ("group_count", "row_count_max", "tail"),
    [(6000, 8, bytes(13)), (300, 400, struct.pack("<f", 3.0)), (300, 400, bytes(4)), (3, 30_000, bytes(4))],
)
def test_many_walks_find_what_one_walk_finds(
    alphabet: bytes, group_count: int, row_count_max: int, tail: bytes
) -> None:
    data = made(group_count, row_count_max, alphabet=alphabet, tail=tail, seed=1)

    found = walk.walk_groups(data, 4, len(tail))

    places, heads, end = one_by_one(data, len(tail))
    assert found.places.tolist() == places
    assert found.is_head.tolist() == heads
    assert (found.end, found.rows_missing) == (end, 0)


def test_names_that_look_like_records_lead_no_walk_astray() -> None:
    inner = store([(b"x", [b"y" * 5] * 40)] * 40, bytes(13))[4:]
    data = store([(b"context", [inner, b"z"])] * 30, bytes(13))

    found = walk.walk_groups(data, 4, 13)

    assert found.places.tolist() == one_by_one(data, 13)[0]


@pytest.mark.parametrize("cut", [1, 5, 30_000, 150_000])
def test_a_store_that_ends_too_soon_is_refused(cut: int) -> None:
    data = made(6000, 8, alphabet=b"abcdef", tail=bytes(13), seed=2)

    with pytest.raises(IntegrityError):
        decode_events(data[:-cut])


def test_a_count_larger_than_the_store_is_refused_at_once() -> None:
    groups = [(b"c%d" % number, [b"item%d" % number] * 4) for number in range(5000)]
    data = bytearray(store(groups, bytes(13)))
    place = data.index(b"c2500") + 5
    data[place : place + 4] = b"\xff\xff\xff\x7f"

    with pytest.raises(IntegrityError, match="Event count exceeds remaining data for context: c2500"):
        decode_events(bytes(data))


def test_an_edge_given_twice_is_refused_wherever_it_stands() -> None:
    groups = [
        (b"item%d" % number, [b"item%d" % (number + step) for step in (1, 2, 3)]) for number in range(9000)
    ]
    good = store(groups, struct.pack("<f", 1.5))
    groups[7000] = (b"item7000", [b"item7001", b"item9", b"item7001"])
    twice = store(groups, struct.pack("<f", 1.5))
    groups[7000] = (b"item7000", [b"item7001", b"item7000"])
    itself = store(groups, struct.pack("<f", 1.5))

    assert len(decode_edges(good).targets) == 27_000
    for data in (twice, itself):
        with pytest.raises(IntegrityError, match="an edge of item7000 is to itself or twice"):
            decode_edges(data)
