"""Any division of any records into parts gives back what there is: kept, changed, moved, gone, or twice."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import numpy as np
import pyarrow as pa
import pytest

from recollect.errors import IntegrityError
from recollect.segments.part import KeySet, PartIndex, check_disjoint, missing_from_all
from recollect.values import batch as columns


class Listed:
    """An earlier state of these keys, in batches of a few."""

    def __init__(self, keys: list[bytes], rows: int = 5) -> None:
        self.keys = keys
        self.rows = rows

    def index(self) -> Iterator[pa.RecordBatch]:
        return stream(self.keys, self.rows)


def stream(keys: list[bytes], rows: int = 3) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(keys), rows):
        yield pa.RecordBatch.from_arrays([pa.array(keys[start : start + rows], pa.binary())], [columns.KEY])


def keys_of(batches: Iterator[pa.RecordBatch]) -> list[bytes]:
    return [key for batch in batches for key in batch.column(columns.KEY).to_pylist()]


def some_keys(random: Random, count: int) -> list[bytes]:
    return sorted({b"\x10" + random.randbytes(8) for _ in range(count)})


def presence(old: Listed, part: list[bytes]) -> tuple[bytes, list[bytes]]:
    index = PartIndex(old, lambda: stream(part))
    kept = keys_of(index.index())
    return index.presence, kept


@pytest.mark.parametrize("seed", range(20))
def test_what_is_in_no_part_is_gone_and_nothing_else(seed: int) -> None:
    random = Random(seed)
    old = some_keys(random, random.choice([0, 1, 7, 8, 9, 64, 200]))
    gone = {key for key in old if random.random() < 0.2}
    now = sorted((set(old) - gone) | set(some_keys(random, 20)))
    count = random.randint(1, 5)
    places = [random.randrange(count) for _ in now]
    parts = [[key for key, place in zip(now, places, strict=True) if place == each] for each in range(count)]
    state = Listed(old, rows=random.randint(1, 9))

    found = [presence(state, part) for part in parts]

    assert keys_of(missing_from_all(state, [bits for bits, _ in found], len(old))) == sorted(gone)
    for (_, kept), part in zip(found, parts, strict=True):
        assert kept == sorted(set(old) & set(part))


@pytest.mark.parametrize("place", [0, 7, 8, 29])
def test_a_known_record_in_two_parts_is_named(place: int) -> None:
    old = [b"\x10" + bytes(7) + bytes([number]) for number in range(30)]
    state = Listed(old)
    bits = [presence(state, part)[0] for part in (old[: place + 1], old[place:])]

    with pytest.raises(IntegrityError, match=rf"record {place} is in two shards"):
        list(missing_from_all(state, bits, len(old)))


def test_bits_of_another_state_are_refused() -> None:
    state = Listed(some_keys(Random(1), 30))
    bits, _ = presence(Listed(state.keys[:10]), state.keys)

    with pytest.raises(IntegrityError, match="read another number of them"):
        list(missing_from_all(state, [bits], len(state.keys)))


def gathered(keys: list[bytes]) -> bytes:
    found = KeySet()
    assert keys_of(found.gather(stream(keys))) == keys
    return found.packed()


def test_a_new_record_in_two_parts_is_named() -> None:
    left = [b"\x10" + bytes(7) + bytes([number]) for number in (1, 5, 9)]
    right = [b"\x10" + bytes(7) + bytes([number]) for number in (2, 9)]

    check_disjoint([gathered(left), gathered(right[:1])], list)
    with pytest.raises(IntegrityError, match="record 9 is in two shards"):
        check_disjoint([gathered(left), gathered(right)], lambda: [stream(left), stream(right)])


def test_equal_hashes_of_other_keys_are_no_reason_to_stop() -> None:
    left, right = some_keys(Random(2), 5), some_keys(Random(3), 5)
    same = gathered(left)

    check_disjoint([same, same], lambda: [stream(left), stream(right)])
    assert np.intersect1d(left, right).size == 0
