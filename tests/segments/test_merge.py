"""Windows and groups: several sorted streams walked side by side, compared with plain dictionaries."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recollect.segments.merge import Groups, windows
from recollect.values import batch as columns

KEYS = st.binary(min_size=1, max_size=2).filter(lambda key: key > b"\x00")
STREAM = st.lists(KEYS, unique=True, max_size=12).map(sorted)
CUTS = st.lists(st.integers(1, 5), min_size=1, max_size=6)


def batches(keys: list[bytes], sizes: list[int], stream: int) -> list[pa.RecordBatch]:
    """Cut sorted keys into batches; each row remembers its stream. Empty batches stand in between."""
    found, start = [], 0
    for size in itertools.cycle(sizes):
        part = keys[start : start + size]
        found.append(_batch(part, stream))
        found.append(_batch([], stream))
        start += size
        if start >= len(keys):
            return found
    raise AssertionError("itertools.cycle does not end")


def _batch(keys: list[bytes], stream: int) -> pa.RecordBatch:
    arrays = [pa.array(keys, pa.binary()), pa.array([stream] * len(keys), pa.int64())]
    return pa.RecordBatch.from_arrays(arrays, names=[columns.KEY, "stream"])


@given(st.lists(st.tuples(STREAM, CUTS), max_size=4))
@example([])
@example([([b"a", b"b"], [1]), ([], [1]), ([b"b"], [5])])
def test_windows_ascend_and_hold_every_row_once(streams: list[tuple[list[bytes], list[int]]]) -> None:
    found: list[list[bytes]] = [[] for _ in streams]
    last = b""

    for window in windows([iter(batches(keys, sizes, at)) for at, (keys, sizes) in enumerate(streams)]):
        here = {}
        for at, batch in enumerate(window):
            if batch is not None:
                assert set(batch.column("stream").to_pylist()) == {at}
                here[at] = batch.column(columns.KEY).to_pylist()
                found[at] += here[at]
        every = [key for keys in here.values() for key in keys]
        assert every, "no window is empty"
        assert min(every) > last, "windows do not overlap"
        last = max(every)

    assert found == [keys for keys, _ in streams]


@pytest.mark.parametrize("keys", [[b"b", b"a"], [b"a", b"a"]])
def test_a_stream_whose_batches_do_not_ascend_is_noticed(keys: list[bytes]) -> None:
    stream = iter([_batch([key], 0) for key in keys])

    with pytest.raises(AssertionError, match="not sorted"):
        list(windows([stream]))


@given(st.lists(STREAM.filter(bool), min_size=1, max_size=4))
def test_the_newest_row_of_each_key_is_that_of_the_first_stream_that_has_it(
    streams: list[list[bytes]],
) -> None:
    parts = [_batch(keys, at) for at, keys in enumerate(streams)]
    expected = {key: at for at, keys in reversed(list(enumerate(streams))) for key in keys}

    newest = pa.concat_batches(parts).take(pa.array(Groups(parts).newest))

    pairs = zip(newest.column(columns.KEY).to_pylist(), newest.column("stream").to_pylist(), strict=True)
    assert list(pairs) == sorted(expected.items())


@given(st.lists(STREAM.filter(bool), min_size=1, max_size=4), st.data())
def test_the_first_flagged_row_of_each_key_is_found(streams: list[list[bytes]], data: st.DataObject) -> None:
    parts = [_batch(keys, at) for at, keys in enumerate(streams)]
    joined = pa.concat_batches(parts)
    count = joined.num_rows
    flags = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype=bool)
    keys = joined.column(columns.KEY).to_pylist()

    found = Groups(parts).first_where(flags)

    expected = [
        next((row for row in range(count) if keys[row] == key and flags[row]), -1)
        for key in sorted(set(keys))
    ]
    assert found.tolist() == expected
