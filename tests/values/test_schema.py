"""Schemas, snapshot ids and batches: the small values that the rest leans on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recollect.errors import RequestError
from recollect.testing.records import Row, build_records
from recollect.testing.strategies import EVERY_VECTOR
from recollect.values import batch as columns
from recollect.values.schema import CollectionSchema, VectorSpec, layout_difference
from recollect.values.ulid import is_ulid, new_ulid

MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dimension": 4}, "dimension 4, expected 3"),
        ({"datatype": "float16"}, "datatype float16, expected float32"),
        ({"kind": "multi"}, "kind multi, expected dense"),
        ({"name": "other"}, "is not expected"),
        ({"name": "w"}, "is missing"),
    ],
)
def test_a_layout_difference_names_the_vector_and_what_differs(change: dict[str, Any], words: str) -> None:
    spec = VectorSpec(name="v", dimension=3, metric="dot")
    found = msgspec.structs.replace(spec, **change)

    text = layout_difference(CollectionSchema(vectors=(spec,)), CollectionSchema(vectors=(found,)))

    assert words in text


def test_metrics_and_index_parameters_are_no_layout() -> None:
    spec = VectorSpec(name="v", dimension=3, metric="dot")
    other = msgspec.structs.replace(spec, metric="euclid", parameters={"on_disk": True})

    assert layout_difference(CollectionSchema(vectors=(spec,)), CollectionSchema(vectors=(other,))) == ""


def test_an_unknown_vector_is_refused_with_those_that_exist() -> None:
    with pytest.raises(RequestError, match="'halves'"):
        EVERY_VECTOR.vector("nothing")


def test_record_and_change_columns_belong_to_each_other() -> None:
    digests = columns.digest_columns(EVERY_VECTOR)

    assert columns.record_schema(EVERY_VECTOR).names[0] == columns.KEY
    for name in digests:
        assert columns.value_column(name) in columns.change_schema(EVERY_VECTOR).names
    assert columns.index_schema(EVERY_VECTOR).names[-len(digests) :] == digests


@given(st.lists(st.integers(0, 9), max_size=5), st.integers(1, 4))
def test_rebatching_keeps_rows_and_bounds_batches(sizes: list[int], rows_max: int) -> None:
    ids = iter(range(100))
    batches = [build_records(EVERY_VECTOR, [Row(id=next(ids)) for _ in range(size)]) for size in sizes]

    cut = list(columns.rebatch(iter(batches), rows_max=rows_max))

    assert all(0 < batch.num_rows <= rows_max for batch in cut)
    kept = [key for batch in cut for key in batch.column(columns.KEY).to_pylist()]
    assert kept == [key for batch in batches for key in batch.column(columns.KEY).to_pylist()]
    assert pa.types.is_binary(batches[0].column(columns.KEY).type) if batches else True


@given(MOMENTS, st.binary(min_size=10, max_size=10))
def test_a_ulid_is_one(now: datetime, noise: bytes) -> None:
    assert is_ulid(new_ulid(now, lambda count: noise[:count]))


@given(
    MOMENTS, st.integers(1, 10**9), st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10)
)
def test_ulids_of_later_milliseconds_sort_after_earlier_ones(
    now: datetime, step_ms: int, noise: bytes, later_noise: bytes
) -> None:
    later = now + timedelta(milliseconds=step_ms + 1) if now.year < 9000 else now
    if later == now:
        return

    assert new_ulid(now, lambda _: noise) < new_ulid(later, lambda _: later_noise)


@pytest.mark.parametrize("text", ["", "0" * 25, "0" * 27, "8" + "0" * 25, "0" * 25 + "i", "0" * 25 + "U"])
def test_other_text_is_no_ulid(text: str) -> None:
    assert not is_ulid(text)
